import { integerArgument } from '../../common/arguments.ts';
import { MAX_RAW_LENGTH } from './record.ts';

/** Limits of a block map; part of the format: `docs/FORMAT.md`, section 7. */
export const MIN_BLOCK_SIZE = 4 * 1024;
export const MAX_BLOCK_SIZE = 4 * 1024 * 1024;
/** Block numbers are 32 bits. */
export const MAX_BLOCKS = 2 ** 32;
export const MIN_FAN_OUT = 8;
/**
 * A level-1 node names the pack of each of its fanOut^2 blocks and fanOut leaves through a table of at most 65,535 packs.
 * Up to this fan-out that can't overflow, however the blocks are scattered.
 */
export const MAX_FAN_OUT = 248;
/** Most entries of a run chunk. */
export const MAX_CHUNK_ENTRIES = 65_536;

/** The shape of a block map: what its size, block size and fan-out say about blocks and nodes. Leaves are level 0. */
export class MapGeometry {
  readonly size: number;
  readonly blockSize: number;
  readonly fanOut: number;
  readonly blockCount: number;
  /** The least level of which one node covers the volume. */
  readonly rootLevel: number;

  constructor(size: number, blockSize: number, fanOut: number) {
    this.size = integerArgument('size', size, 0);
    this.blockSize = integerArgument('blockSize', blockSize, MIN_BLOCK_SIZE, MAX_BLOCK_SIZE);
    if (!isPowerOfTwo(blockSize)) throw new TypeError(`blockSize must be a power of two, not ${blockSize}`);
    this.fanOut = integerArgument('fanOut', fanOut, MIN_FAN_OUT, MAX_FAN_OUT);
    if (fanOut % 8 !== 0) throw new TypeError(`fanOut must be a multiple of 8, not ${fanOut}`);
    this.blockCount = integerArgument('the number of blocks', Math.ceil(size / blockSize), 0, MAX_BLOCKS);
    let level = 0;
    while (this.span(level) < this.blockCount) level++;
    this.rootLevel = level;
  }

  /** Blocks that a node of `level` covers. */
  span(level: number): number {
    return this.fanOut ** (level + 1);
  }

  /** Bytes of a block; the last one may be short. */
  blockLength(block: number): number {
    return Math.min(this.blockSize, this.size - block * this.blockSize);
  }

  /** How many of the slots of node `index` of `level` begin before the end of the volume. */
  slots(level: number, index: number): number {
    const first = index * this.span(level);
    return Math.min(this.fanOut, Math.max(0, Math.ceil((this.blockCount - first) / (this.span(level) / this.fanOut))));
  }

  /** The most raw bytes that a node of `level` may have: what a reader is ready to take memory for. */
  maxNodeBytes(level: number): number {
    const { fanOut } = this;
    const head = 1 + fanOut / 8 + 32 * fanOut;
    if (level === 0) return head + 6 + (24 + 10) * fanOut;
    const most = head + 6 + 24 * fanOut + 14 * fanOut + (level === 1 ? fanOut * (2 + fanOut * (24 + 6)) : 0);
    return Math.min(most, MAX_RAW_LENGTH[3]);
  }
}

export function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}
