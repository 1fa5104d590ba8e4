import type { AbortOptions } from '../../common/abort.ts';
import { inRanges } from '../../common/block-range.ts';
import { BackupError } from '../../common/errors.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { RecordReader } from '../format/record.ts';
import { BlockMap } from '../map/block-map.ts';
import { damagedBlocksOf } from './quarantined-base.ts';

/** The record is not in memory. Thrown and caught in this file only: a map takes `undefined` for zeroes. */
const NOT_IN_MEMORY = new BackupError('OBJECT_NOT_FOUND', 'not in memory');

/**
 * The content of the base, for a job to compare with.
 *
 * If change tracking says what was written, comparing only saves storing blocks that were overwritten with what they held. For
 * that the map's nodes are used if they are in memory, but not fetched: a request costs more than it saves.
 */
export class ComparedBase {
  readonly map: BlockMap;
  readonly #inMemory: BlockMap;
  /** Whether nodes are fetched: so also from when change tracking turns out to be wrong, and contents are compared. */
  isFetched: boolean;
  readonly #context: RepositoryContext;
  readonly #size: number;
  /** A bit for each block that is the same as in the base. */
  readonly #same: Uint8Array;

  constructor(context: RepositoryContext, map: BlockMap, options: { size: number; isFetched: boolean }) {
    this.map = map;
    this.isFetched = options.isFetched;
    this.#inMemory = inMemory(context, map);
    this.#context = context;
    this.#size = options.size;
    this.#same = new Uint8Array(Math.ceil(options.size / map.descriptor.blockSize / 8));
  }

  /**
   * The content id of each block of a range; `undefined` for a block of zeroes; `'unknown'` for one that was lost, is
   * damaged, or would cost more to look up than to store again.
   */
  async idsOf(
    firstBlock: number,
    blockCount: number,
    { signal, mayFetch = this.isFetched }: AbortOptions & { readonly mayFetch?: boolean },
  ): Promise<(Uint8Array | undefined | 'unknown')[]> {
    const { geometry } = this.map;
    const inBase = Math.max(0, Math.min(blockCount, geometry.blockCount - firstBlock));
    const ids: (Uint8Array | undefined | 'unknown')[] = new Array(blockCount).fill(undefined);
    if (inBase === 0) return ids;
    await yieldToEventLoop();
    let entries: Awaited<ReturnType<BlockMap['lookup']>>['entries'];
    try {
      ({ entries } = await (mayFetch ? this.map : this.#inMemory).lookup(firstBlock, inBase, { signal }));
    } catch (error) {
      if (error !== NOT_IN_MEMORY) throw error;
      return ids.fill('unknown', 0, inBase);
    }
    // Blocks in a quarantined pack are stored again (P10), and so are blocks that the base has lost.
    const damaged = await damagedBlocksOf(this.#context, this.map, { signal });
    entries.forEach((entry, index) => {
      const block = firstBlock + index;
      const { blockSize } = geometry;
      const wasResized = geometry.blockLength(block) !== Math.min(blockSize, this.#size - block * blockSize);
      ids[index] = inRanges(damaged, block) || wasResized || this.map.isLost(block) ? 'unknown' : entry?.id;
    });
    return ids;
  }

  /** Notes that a block was read and does not differ from the base. */
  same(block: number): void {
    this.#same[block >>> 3]! |= 1 << (block & 7);
  }

  isSame(block: number): boolean {
    return (this.#same[block >>> 3]! & (1 << (block & 7))) !== 0;
  }
}

/** The same map, read from memory only. */
function inMemory({ records, keys, format }: RepositoryContext, { descriptor }: BlockMap): BlockMap {
  const reader: RecordReader = {
    read: async (_kind, _id, location) => {
      const raw = records.peek(location);
      if (raw === undefined) throw NOT_IN_MEMORY;
      return raw;
    },
  };
  return new BlockMap(descriptor, format.fanOut, reader, keys, { cacheBytes: 0 });
}
