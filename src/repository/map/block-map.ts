import { type AbortOptions, abortable } from '../../common/abort.ts';
import { integerArgument } from '../../common/arguments.ts';
import { type BlockRange, clipRanges, inRanges } from '../../common/block-range.ts';
import { BackupError } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { SharedWork } from '../../common/shared-work.ts';
import type { EntryTable } from '../format/entry-table.ts';
import type { BlockEntry, MapDescriptor, MappedBlock, RunChunkRef } from '../format/map-descriptor.ts';
import { MapGeometry } from '../format/map-geometry.ts';
import type { RecordIds, RecordReader } from '../format/record.ts';
import type { RunChunk } from '../format/run-chunk.ts';
import { MapTree, type RecordSource } from './map-tree.ts';
import { Overlay } from './overlay.ts';
import { loadChunk, loadRuns } from './runs.ts';

export interface BlockMapOptions {
  /** Most bytes of nodes to keep. @defaultValue 16 MiB */
  readonly cacheBytes?: number | undefined;
}

export interface ReadOptions extends AbortOptions {
  /** Nodes to load at a time. @defaultValue 32 */
  readonly readAhead?: number | undefined;
}

/** What a map says about a range of blocks. */
export interface MapSlice {
  /** One for each block; `undefined` where it reads as zeroes, or is lost. Ids are views: copy what is kept for long. */
  readonly entries: (BlockEntry | undefined)[];
  /** Blocks of the range whose content could not be kept. They must not be read as zeroes. */
  readonly lost: BlockRange[];
}

const DEFAULT_CACHE_BYTES = 16 * 1024 * 1024;
const DEFAULT_READ_AHEAD = 32;

/**
 * The map of one backup, read from its records: which content each block has, and where that is stored. The map is a tree,
 * covered by runs of newer entries. Runs are loaded once and kept, tens of bytes an entry. Only the parts of the tree that are
 * asked for are read, and some of them are kept.
 *
 * This folder holds the map's algorithms: reading (this file, map-tree, runs, overlay), writing (write-block-map, tree-fold,
 * runs), comparing two maps (diff), and walking all of one (visit, map-usage). The bytes of nodes and runs are in `format/`.
 *
 * Every record is checked against the ids that the descriptor leads to. Methods throw `MAP_CORRUPT` if a record is not what
 * its id says, and what the reader of records throws.
 */
export class BlockMap {
  readonly descriptor: MapDescriptor;
  readonly geometry: MapGeometry;
  readonly tree: MapTree;
  readonly #source: RecordSource;
  #loading: SharedWork<LoadedRuns> | undefined;

  /**
   * @param descriptor - as `decodeDescriptor` returns it
   * @throws `MAP_CORRUPT` if the tree is not as high as the volume needs
   */
  constructor(
    descriptor: MapDescriptor,
    fanOut: number,
    records: RecordReader,
    ids: RecordIds,
    { cacheBytes = DEFAULT_CACHE_BYTES }: BlockMapOptions = {},
  ) {
    this.descriptor = descriptor;
    this.geometry = new MapGeometry(descriptor.size, descriptor.blockSize, fanOut);
    this.#source = { records, ids };
    this.tree = new MapTree(this.geometry, descriptor.root, this.#source, integerArgument('cacheBytes', cacheBytes, 0));
  }

  /** Loads the runs. Every other method does so itself; this one shows early whether they are there and sound. */
  async load(options: AbortOptions = {}): Promise<void> {
    await this.runs(options);
  }

  /** The runs by themselves and merged. */
  runs(options: AbortOptions = {}): Promise<LoadedRuns> {
    if (this.#loading === undefined || this.#loading.isAbandoned) {
      const begun = new SharedWork(async (signal) => {
        try {
          const runs = await loadRuns(this.descriptor.runs, this.geometry, this.#source, { signal });
          return { runs, overlay: await Overlay.of(runs) };
        } catch (error) {
          if (this.#loading === begun) this.#loading = undefined; // The next call tries again.
          throw error;
        }
      });
      this.#loading = begun;
    }
    return this.#loading.wait(options.signal);
  }

  /** The newest `count` runs, `undefined` for all: newest first, not merged. */
  async newestRuns(count: number | undefined, options: AbortOptions = {}): Promise<readonly (readonly RunChunk[])[]> {
    if (count === undefined || this.#loading !== undefined) return (await this.runs(options)).runs.slice(0, count);
    const { signal } = options;
    return abortable(loadRuns(this.descriptor.runs.slice(0, count), this.geometry, this.#source, { signal }), signal);
  }

  /** One chunk of a run, not kept. */
  loadChunk(ref: RunChunkRef, options: AbortOptions = {}): Promise<RunChunk> {
    return loadChunk(ref, this.geometry, this.#source, options);
  }

  /** Whether a block's content could not be kept. */
  isLost(block: number): boolean {
    return inRanges(this.descriptor.lost, block);
  }

  /** What the map says about `count` blocks from `firstBlock` on. @throws `OUT_OF_RANGE` */
  async lookup(firstBlock: number, count: number, options: ReadOptions = {}): Promise<MapSlice> {
    const end = this.#checkRange(firstBlock, count);
    const { overlay } = await this.runs(options);
    const entries: (BlockEntry | undefined)[] = new Array(count).fill(undefined);
    const lost = clipRanges(this.descriptor.lost, firstBlock, end);
    const settled = new Uint8Array(count);
    for (const range of lost)
      settled.fill(1, range.firstBlock - firstBlock, range.firstBlock - firstBlock + range.blockCount);
    for (let i = overlay.from(firstBlock); i < overlay.count && overlay.block(i) < end; i++) {
      const at = overlay.block(i) - firstBlock;
      if (settled[at] === 0) entries[at] = overlay.entry(i);
      settled[at] = 1;
    }
    const load = async (index: number) => ({ index, leaf: await this.tree.leaf(index, options) });
    const wanted = leavesWanted(settled, firstBlock, this.geometry.fanOut);
    for await (const { index, leaf } of mapConcurrently(wanted, load, options.readAhead ?? DEFAULT_READ_AHEAD)) {
      const first = index * this.geometry.fanOut;
      for (let slot = Math.max(0, firstBlock - first); slot < this.geometry.fanOut && first + slot < end; slot++) {
        const at = first + slot - firstBlock;
        if (settled[at] === 0) entries[at] = leaf?.entry(slot);
      }
    }
    return { entries, lost };
  }

  /** The blocks that have content, in order. Nodes are read ahead and not kept. @throws `OUT_OF_RANGE` */
  async *entries(
    range: BlockRange = { firstBlock: 0, blockCount: this.geometry.blockCount },
    options: ReadOptions = {},
  ): AsyncGenerator<MappedBlock> {
    const { firstBlock } = range;
    const end = this.#checkRange(firstBlock, range.blockCount);
    const { overlay } = await this.runs(options);
    const { fanOut } = this.geometry;
    const { signal } = options;
    const loading = { signal, keep: false };
    const load = async ({ index, ref }: { index: number; ref: Parameters<MapTree['loadLeaf']>[0] }) => ({
      index,
      leaf: await this.tree.loadLeaf(ref, index, loading),
    });
    const refs = this.tree.leafRefs(Math.floor(firstBlock / fanOut), Math.ceil(end / fanOut), { signal });
    let at = firstBlock;
    for await (const { index, leaf } of mapConcurrently(refs, load, options.readAhead ?? DEFAULT_READ_AHEAD)) {
      const first = index * fanOut;
      yield* this.#merged(overlay, undefined, 0, at, Math.min(first, end));
      yield* this.#merged(overlay, leaf, first, Math.max(first, firstBlock), Math.min(first + fanOut, end));
      at = first + fanOut;
    }
    yield* this.#merged(overlay, undefined, 0, at, end);
  }

  /** Entries of the blocks from `from` to before `end`, which are in one leaf, or where the tree has no leaf. */
  *#merged(
    overlay: Overlay,
    leaf: EntryTable | undefined,
    first: number,
    from: number,
    end: number,
  ): Generator<MappedBlock> {
    let i = overlay.from(from);
    const hasLost = this.descriptor.lost.length > 0;
    for (let block = from; block < end; block++) {
      const named = i < overlay.count ? overlay.block(i) : Number.POSITIVE_INFINITY;
      if (leaf === undefined) block = named; // There is nothing between the blocks that the runs name.
      if (block >= end) return;
      const entry = block === named ? overlay.entry(i++) : leaf?.entry(block - first);
      if (entry !== undefined && !(hasLost && this.isLost(block))) yield { block, entry };
    }
  }

  #checkRange(firstBlock: number, count: number): number {
    integerArgument('firstBlock', firstBlock, 0);
    integerArgument('the number of blocks', count, 0);
    const end = firstBlock + count;
    if (end > this.geometry.blockCount) {
      throw new BackupError('OUT_OF_RANGE', `blocks ${firstBlock} to ${end} of a map of ${this.geometry.blockCount}`);
    }
    return end;
  }
}

/** Runs as a map keeps them in memory. */
export interface LoadedRuns {
  /** Newest first. */
  readonly runs: readonly (readonly RunChunk[])[];
  readonly overlay: Overlay;
}

/** Indexes of the leaves that have a block which is not settled yet. */
function* leavesWanted(settled: Uint8Array, firstBlock: number, fanOut: number): Generator<number> {
  for (let at = settled.indexOf(0); at >= 0; ) {
    const index = Math.floor((firstBlock + at) / fanOut);
    yield index;
    at = settled.indexOf(0, (index + 1) * fanOut - firstBlock);
  }
}
