import { createHash } from 'node:crypto';
import { decodeMsgpack, encodeMsgpack } from '../../../../src/common/msgpack.ts';
import type { BlockEntry, MapDescriptor } from '../../../../src/repository/format/map-descriptor.ts';
import { decodeDescriptor, encodeDescriptor } from '../../../../src/repository/format/map-descriptor-codec.ts';
import { BlockMap, type BlockMapOptions } from '../../../../src/repository/map/block-map.ts';
import type { Change } from '../../../../src/repository/map/changes.ts';
import { writeBlockMap } from '../../../../src/repository/map/write-block-map.ts';
import { packNamed, plainIds, type RecordStore } from './record-store.ts';

export const BLOCK_SIZE = 4096;

/** The entry of a block that holds "content number n", in a place that depends on `seed`. */
export function entryOf(content: number, rawLength = BLOCK_SIZE, seed = content): BlockEntry {
  const id = new Uint8Array(createHash('sha256').update(`content ${content} of ${rawLength}`).digest());
  // Some do not compress: their length as stored is that of the block.
  const codec = seed % 4 === 0 || rawLength === 1 ? 0 : 1;
  const storedLength = codec === 0 ? rawLength : 1 + ((seed * 7919) % (rawLength - 1));
  const pack = packNamed(1 + (seed % 3) * 2 ** 33, seed % 11);
  return { id, location: { pack, offset: 8 + ((seed * 104_729) % 1_000_000), storedLength, codec, rawLength } };
}

/** What a block map should say, as plainly as can be. */
export class NaiveMap {
  readonly size: number;
  readonly entries: Map<number, BlockEntry>;
  readonly lost: Set<number>;

  constructor(size: number, entries = new Map<number, BlockEntry>(), lost = new Set<number>()) {
    this.size = size;
    this.entries = entries;
    this.lost = lost;
  }

  get blockCount(): number {
    return Math.ceil(this.size / BLOCK_SIZE);
  }

  blockLength(block: number): number {
    return Math.min(BLOCK_SIZE, this.size - block * BLOCK_SIZE);
  }

  next(size: number, changes: Iterable<Change>, lost: Iterable<number>): NaiveMap {
    const next = new NaiveMap(size, new Map(this.entries), new Set(this.lost));
    for (const [block, entry] of changes) {
      next.lost.delete(block);
      if (entry === undefined) next.entries.delete(block);
      else next.entries.set(block, entry);
    }
    for (const block of lost) {
      next.lost.add(block);
      next.entries.delete(block);
    }
    if (next.blockCount < this.blockCount) {
      for (const block of [...next.entries.keys()]) if (block >= next.blockCount) next.entries.delete(block);
      for (const block of [...next.lost]) if (block >= next.blockCount) next.lost.delete(block);
    }
    return next;
  }

  /** Every block for which `diff` must say so, one by one. */
  differs(other: NaiveMap): number[] {
    const blocks: number[] = [];
    for (let block = 0; block < Math.max(this.blockCount, other.blockCount); block++) {
      const known = block < Math.min(this.blockCount, other.blockCount);
      const same =
        known &&
        this.blockLength(block) === other.blockLength(block) &&
        !this.lost.has(block) &&
        !other.lost.has(block) &&
        areEqual(this.entries.get(block), other.entries.get(block));
      if (!same) blocks.push(block);
    }
    return blocks;
  }
}

function areEqual(one: BlockEntry | undefined, other: BlockEntry | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return Buffer.compare(one.id, other.id) === 0;
}

export interface Step {
  readonly size: number;
  readonly changes: readonly Change[];
  readonly lost?: readonly number[];
  readonly fold?: boolean;
}

/** Writes one backup's map, passes its descriptor through its encoding, and opens it. */
export async function writeStep(
  store: RecordStore,
  fanOut: number,
  step: Step,
  previous?: BlockMap,
  options?: BlockMapOptions,
): Promise<BlockMap> {
  const lost = (step.lost ?? []).map((firstBlock) => ({ firstBlock, blockCount: 1 }));
  const { size, changes, fold } = step;
  const written = await writeBlockMap({
    previous,
    size,
    blockSize: BLOCK_SIZE,
    fanOut,
    changes,
    lost,
    writer: store,
    ids: plainIds,
    fold,
  });
  return openMap(store, fanOut, roundTrip(written), options);
}

export function openMap(store: RecordStore, fanOut: number, descriptor: MapDescriptor, options?: BlockMapOptions) {
  return new BlockMap(descriptor, fanOut, store, plainIds, options);
}

/** A descriptor as it comes out of a log entry. */
export function roundTrip(descriptor: MapDescriptor): MapDescriptor {
  return decodeDescriptor(decodeMsgpack(encodeMsgpack(encodeDescriptor(descriptor)), 'MAP_CORRUPT'));
}

export async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of source) all.push(item);
  return all;
}
