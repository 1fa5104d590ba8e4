import type { AbortOptions } from '../../common/abort.ts';
import type { BlockRange } from '../../common/block-range.ts';
import { subtractRanges } from '../../common/block-ranges.ts';
import { BackupError } from '../../common/errors.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import { packKey } from '../format/object-keys.ts';
import { RecordKind } from '../format/record.ts';
import type { PackWriter } from '../packs/pack-writer.ts';
import type { SealedBlock, SealPool } from '../packs/seal-pool/seal-pool.ts';
import type { SealSlot } from '../packs/seal-pool/seal-slot.ts';
import type { Batch, BlockFeed, Lane } from './block-feed.ts';
import { BlockRuns } from './block-runs.ts';
import type { KnownContents } from './dedup-index.ts';
import type { PlacedBlocks } from './placed-blocks.ts';
import { isPressing } from './preimage-pressure.ts';
import { holesOf } from './snapshot-holes.ts';

/** What a pipeline works with. */
export interface PipelineParts {
  readonly snapshot: VolumeSnapshot;
  readonly feed: BlockFeed;
  /** What stands in the base: what it has at the same place is not stored again. */
  readonly base: BaseContents | undefined;
  readonly pool: SealPool;
  readonly packs: Readonly<Record<Lane, PackWriter>>;
  readonly placed: PlacedBlocks;
  /** Contents that need not be stored again. */
  readonly known: KnownContents;
  /** Told whenever a block has got further. */
  readonly onMoved: () => void;
  readonly signal: AbortSignal;
}

/** The base's blocks, as far as it is worth while to know them. */
export interface BaseContents {
  /**
   * The content id of each block of a range; `undefined` for one of zeroes, `'unknown'` where it was lost, is damaged or
   * would cost more to find out than to store the block again.
   */
  idsOf(firstBlock: number, blockCount: number, options: AbortOptions): Promise<(Uint8Array | undefined | 'unknown')[]>;
  /** A block has been read and is as it was in the base. */
  same(block: number): void;
}

/** What a pipeline has done. */
export interface PipelineTally {
  readBytes: number;
  /** Sealed bytes of blocks that were not known. */
  newBytes: number;
  /** Blocks that differ from the base; without one, all that are not zeroes. */
  changedBlocks: number;
}

/** One call that kills so many threads would kill all others too. */
const MOST_THREADS = 4;
/** Runs of a batch that are read at one time. */
const READS_AT_ONCE = 16;
/** What the base has between two runs is looked up with them up to this: a look-up costs as much as some dozen entries. */
const MAX_GAP_BLOCKS = 64;

/**
 * read → zero test → id → known? → compress → encrypt → pack → upload, for a batch at a time in each of several loops. The
 * slots of the pool bound how much is under way; a pack writer that has too many packs on their way holds the loops up,
 * and so the sweep, never the host's writes.
 */
export class BlockPipeline {
  readonly tally: PipelineTally = { readBytes: 0, newBytes: 0, changedBlocks: 0 };
  readonly #parts: PipelineParts;
  /** Blocks that are safe once the store has a pack, by the pack's key. */
  readonly #awaiting = new Map<string, BlockRuns>();
  readonly #storedPacks = new Set<string>();

  constructor(parts: PipelineParts) {
    this.#parts = parts;
  }

  /**
   * Stores what the feed gives until it gives nothing more. Several may run at once.
   *
   * @param lane - only blocks of this lane: a sweep that is held up by its uploads must not keep pre-images from being stored
   */
  async run(onIdle: () => void, lane?: 'intercepted'): Promise<void> {
    const { feed, pool, snapshot, signal } = this.#parts;
    const claim = ({ runs }: Batch) => {
      for (const run of runs) snapshot.mark(run, 'storing');
    };
    for (;;) {
      const batch = await feed.take(claim, onIdle, lane);
      if (batch === undefined) return;
      signal.throwIfAborted();
      using slot = await pool.acquire({ signal, leavesOne: batch.lane === 'swept' });
      await this.#store(batch, slot);
    }
  }

  /** The store has a pack: what waited for it is safe. */
  packStored(key: string): void {
    this.#storedPacks.add(key);
    for (const run of this.#awaiting.get(key)?.runs ?? []) this.#parts.snapshot.mark(run, 'stored');
    this.#awaiting.delete(key);
    this.#parts.onMoved();
  }

  /** Bytes of blocks that are on their way in packs, as far as those have been sent. */
  get sentBytes(): number {
    const { snapshot, packs } = this.#parts;
    let blocks = 0;
    for (const [key, waiting] of this.#awaiting) {
      blocks += waiting.count * (packs.intercepted.sentShare(key) || packs.swept.sentShare(key));
    }
    return Math.floor(blocks * snapshot.blockSize);
  }

  /** Sends packs that are being filled where pre-images press: room for them comes back only with what is stored. */
  relieve(): void {
    const { snapshot, packs } = this.#parts;
    for (const lane of ['intercepted', 'swept'] as const) {
      const { filling } = packs[lane];
      if (filling === undefined) continue;
      const waiting = this.#awaiting.get(packKey(filling))?.count ?? 0;
      if (isPressing(snapshot.volume, lane, waiting * snapshot.blockSize)) packs[lane].hurry();
    }
  }

  async #store(batch: Batch, slot: SealSlot): Promise<void> {
    const { snapshot, pool, signal } = this.#parts;
    const blocks = batch.runs.flatMap(blocksOf);
    const lengths = blocks.map((block) => this.#lengthOf(block));
    const { isRead, isHole } = await this.#read(batch, slot);
    const identify = () => onSomeThread(() => pool.identify(slot, lengths, { signal }));
    const [before, ids] = await Promise.all([
      this.#idsInBase(batch),
      isHole.every(Boolean) ? new Array<undefined>(batch.blockCount).fill(undefined) : identify(),
    ]);
    const fresh: number[] = [];
    for (const [at, block] of blocks.entries()) {
      if (isRead[at] !== true) continue;
      const id = ids[at];
      if (before !== undefined && isSame(id, before[at])) {
        this.#parts.base?.same(block);
        snapshot.mark(block, id === undefined ? 'zero' : 'stored');
        continue;
      }
      if (id === undefined) {
        this.#changed(block, undefined);
        snapshot.mark(block, 'zero');
      } else {
        const known = this.#parts.known.get(id);
        if (known === undefined) fresh.push(at);
        else this.#place(block, { id, location: known });
      }
    }
    this.#parts.onMoved();
    const seal = () => onSomeThread(() => pool.seal(slot, fresh, { signal }));
    for (const sealed of fresh.length === 0 ? [] : await seal()) {
      await this.#pack(batch.lane, blocks[sealed.block] as number, sealed, ids[sealed.block] as Uint8Array);
    }
    this.#parts.onMoved();
  }

  /** What the base has at the places of a batch; of runs that are close together it is looked up at once. */
  async #idsInBase({ runs }: Batch): Promise<(Uint8Array | undefined | 'unknown')[] | undefined> {
    const { base, signal } = this.#parts;
    if (base === undefined) return undefined;
    const spans = spansOf(runs);
    const found = await Promise.all(
      spans.map(({ firstBlock, blockCount }) => base.idsOf(firstBlock, blockCount, { signal })),
    );
    let span = 0;
    const endOf = ({ firstBlock, blockCount }: BlockRange) => firstBlock + blockCount;
    return runs.flatMap(blocksOf).map((block) => {
      while (block >= endOf(spans[span] as BlockRange)) span++;
      return found[span]?.[block - (spans[span] as BlockRange).firstBlock];
    });
  }

  /** Reads a batch into a slot, and says of each block whether it is there, and whether the device says that it is zeroes. */
  async #read({ runs, blockCount, lane }: Batch, slot: SealSlot): Promise<{ isRead: boolean[]; isHole: boolean[] }> {
    const isRead = new Array<boolean>(blockCount).fill(true);
    const isHole = new Array<boolean>(blockCount).fill(false);
    const places: { run: BlockRange; at: number }[] = [];
    let at = 0;
    for (const run of runs) {
      places.push({ run, at });
      at += run.blockCount;
    }
    for (let from = 0; from < places.length; from += READS_AT_ONCE) {
      const some = places.slice(from, from + READS_AT_ONCE);
      const reads = some.map(({ run, at }) => this.#readUnlessHole(run, slot, at, { isRead, isHole, lane }));
      // All settle first: a slot that is given back must not be read into any more.
      const failed = (await Promise.allSettled(reads)).find(({ status }) => status === 'rejected');
      if (failed !== undefined) throw (failed as PromiseRejectedResult).reason;
    }
    return { isRead, isHole };
  }

  /** Reads neighbours, all but those that the device says are zeroes: of a sparse image they are most of it. */
  async #readUnlessHole(
    run: BlockRange,
    slot: SealSlot,
    at: number,
    { isRead, isHole, lane }: { isRead: boolean[]; isHole: boolean[]; lane: Lane },
  ): Promise<void> {
    const { snapshot, signal } = this.#parts;
    const holes = lane === 'swept' ? await holesOf(snapshot, run, { signal }) : [];
    for (const { firstBlock, blockCount } of holes) {
      const from = at + firstBlock - run.firstBlock;
      isHole.fill(true, from, from + blockCount);
      slot.input.fill(0, from * snapshot.blockSize, (from + blockCount) * snapshot.blockSize);
    }
    for (const rest of subtractRanges([run], holes)) {
      await this.#readRun(rest, slot, at + rest.firstBlock - run.firstBlock, isRead);
    }
  }

  /** Reads neighbours to place `at` of a slot; one that has been lost meanwhile says so and is left out. */
  async #readRun(run: BlockRange, slot: SealSlot, at: number, isRead: boolean[]): Promise<void> {
    const { snapshot } = this.#parts;
    try {
      await this.#readInto(slot, at, run);
      return;
    } catch (error) {
      if (!BackupError.is(error, 'BLOCK_LOST')) throw error;
    }
    for (const [index, block] of blocksOf(run).entries()) {
      try {
        await this.#readInto(slot, at + index, { firstBlock: block, blockCount: 1 });
      } catch (error) {
        if (!BackupError.is(error, 'BLOCK_LOST')) throw error;
        isRead[at + index] = false;
        snapshot.mark(block, 'failed'); // There is no way back: it becomes lost.
      }
    }
  }

  async #readInto(slot: SealSlot, at: number, { firstBlock, blockCount }: BlockRange): Promise<void> {
    const { snapshot, signal } = this.#parts;
    const { blockSize, size } = snapshot;
    const start = firstBlock * blockSize;
    const length = Math.min(size, start + blockCount * blockSize) - start;
    await snapshot.read(start, slot.input.subarray(at * blockSize, at * blockSize + length), { signal });
    this.tally.readBytes += length;
  }

  async #pack(lane: Lane, block: number, sealed: SealedBlock, id: Uint8Array): Promise<void> {
    const location = await this.#parts.packs[lane].add({
      kind: RecordKind.block,
      id,
      codec: sealed.codec,
      rawLength: this.#lengthOf(block),
      bytes: sealed.bytes,
      hint: block,
    });
    this.tally.newBytes += sealed.storedLength;
    this.#parts.known.add(id, location);
    this.#place(block, { id, location });
  }

  #place(block: number, entry: BlockEntry): void {
    this.#changed(block, entry);
    const key = packKey(entry.location.pack);
    if (this.#storedPacks.has(key) || this.#parts.known.isReferred(entry.location.pack)) {
      this.#parts.snapshot.mark(block, 'stored');
      return;
    }
    const awaiting = this.#awaiting.get(key) ?? new BlockRuns();
    this.#awaiting.set(key, awaiting);
    awaiting.add(block);
  }

  #changed(block: number, entry: BlockEntry | undefined): void {
    if (entry !== undefined || this.#parts.base !== undefined) this.tally.changedBlocks++;
    this.#parts.placed.add(block, entry);
  }

  #lengthOf(block: number): number {
    const { blockSize, size } = this.#parts.snapshot;
    return Math.min(blockSize, size - block * blockSize);
  }
}

/** What a thread had that died, perhaps since memory was short, is given to another: no reason to give hours of work up. */
async function onSomeThread<T>(call: () => Promise<T>): Promise<T> {
  for (let threads = 1; ; threads++) {
    try {
      return await call();
    } catch (error) {
      if (!BackupError.is(error, 'WORKER_FAILED') || !error.retryable || threads === MOST_THREADS) throw error;
    }
  }
}

function blocksOf({ firstBlock, blockCount }: BlockRange): number[] {
  return Array.from({ length: blockCount }, (_, index) => firstBlock + index);
}

/** Ranges that hold all of `runs`, and little else. */
function spansOf(runs: readonly BlockRange[]): BlockRange[] {
  const spans: { firstBlock: number; blockCount: number }[] = [];
  for (const { firstBlock, blockCount } of runs) {
    const last = spans.at(-1);
    if (last === undefined || firstBlock - last.firstBlock - last.blockCount > MAX_GAP_BLOCKS) {
      spans.push({ firstBlock, blockCount });
    } else {
      last.blockCount = firstBlock + blockCount - last.firstBlock;
    }
  }
  return spans;
}

function isSame(id: Uint8Array | undefined, before: Uint8Array | undefined | 'unknown'): boolean {
  if (before === 'unknown') return false;
  if (id === undefined || before === undefined) return id === before;
  return Buffer.compare(id, before) === 0;
}
