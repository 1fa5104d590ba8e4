import { type BlockRange, RangeCollector } from '../../common/block-range.ts';
import { BackupError } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { BatchReader } from '../../pipeline/batch-reader.ts';
import { type Batch, type BlockFeed, blocksOf, type Lane } from '../../pipeline/block-feed.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import { packKey } from '../format/object-keys.ts';
import { RecordKind } from '../format/record.ts';
import type { PackWriter } from '../packs/pack-writer.ts';
import type { SealedBlock, SealPool } from '../packs/seal-pool/seal-pool.ts';
import type { SealSlot } from '../packs/seal-pool/seal-slot.ts';
import type { ComparedBase } from './base-comparison.ts';
import type { BlockEntries } from './block-entries.ts';
import type { SessionDedup } from './dedup-index.ts';
import type { JobProgress } from './job-progress.ts';
import { isPressing } from './preimage-pressure.ts';

export interface PackStageParts {
  readonly snapshot: VolumeSnapshot;
  readonly feed: BlockFeed;
  /** The contents of the base: a block that is the same there is not stored again. */
  readonly base: ComparedBase | undefined;
  readonly pool: SealPool;
  readonly packs: Readonly<Record<Lane, PackWriter>>;
  readonly entries: BlockEntries;
  readonly dedup: SessionDedup;
  readonly progress: JobProgress;
  readonly signal: AbortSignal;
}

/** A call that has killed this many threads is given up: it would kill all others too. */
const MAX_KILLED_THREADS = 4;
/** Runs closer than this are looked up in the base together: a look-up costs as much as some dozens of entries. */
const MAX_GAP_BLOCKS = 64;
/** Look-ups in the base that one batch makes at the same time. */
const LOOK_UPS_AT_ONCE = 16;

/**
 * What stands between the feed of one volume's blocks and the packs: read → zero test → content id → known? → compress →
 * encrypt → pack → upload, for one batch at a time in each of several loops. The slots of the seal pool bound how much is under way. A pack writer with too many
 * uploads under way holds up the loops, and with them the sweep, but never the host's writes.
 */
export class PackStage {
  /**
   * `newBytes`: sealed bytes of blocks whose content was new. `adoptedBytes`: those of them that an interrupted backup had
   * uploaded. `changedBlocks`: blocks that differ from the base; without a base, all that are not zeroes.
   */
  readonly tally = { newBytes: 0, adoptedBytes: 0, changedBlocks: 0 };
  readonly #parts: PackStageParts;
  readonly #reader: BatchReader;
  /** By the key of a pack: the blocks that are safe once the store has the pack. */
  readonly #awaiting = new Map<string, RangeCollector>();
  readonly #storedPacks = new Set<string>();

  constructor(parts: PackStageParts) {
    this.#parts = parts;
    this.#reader = new BatchReader(parts.snapshot, parts.signal);
  }

  /** Bytes read from the snapshot so far. */
  get readBytes(): number {
    return this.#reader.readBytes;
  }

  /**
   * Stores what the feed gives until it gives nothing more. Several of these loops run at once.
   *
   * @param lane - if given, only blocks of this lane: pre-images must be stored even while uploads hold up the sweep
   */
  async run(onIdle: () => void, lane?: 'intercepted'): Promise<void> {
    const { feed, pool, snapshot, dedup, signal } = this.#parts;
    const claim = ({ runs }: Batch) => {
      for (const run of runs) snapshot.mark(run, 'storing');
    };
    for (;;) {
      const batch = await feed.take(claim, onIdle, lane);
      if (batch === undefined) return;
      signal.throwIfAborted();
      // Blocks that were intercepted hold room for pre-images, so they don't wait.
      if (batch.lane === 'swept') await dedup.prepare(batch.runs.flatMap(blocksOf));
      using slot = await pool.acquire({ signal, leavesOne: batch.lane === 'swept' });
      await this.#store(batch, slot);
    }
  }

  /** The store has a pack: the blocks that waited for it are safe. */
  packStored(key: string): void {
    this.#storedPacks.add(key);
    for (const run of this.#awaiting.get(key)?.ranges ?? []) this.#parts.snapshot.mark(run, 'stored');
    this.#awaiting.delete(key);
    this.moved();
  }

  /** Reports that blocks have changed their state, and sends packs that take up too much room. */
  moved(): void {
    this.relieve();
    this.#parts.progress.moved();
  }

  /** Bytes of blocks in packs that are being uploaded, in proportion to how much of each pack was sent. */
  get sentBytes(): number {
    const { snapshot, packs } = this.#parts;
    let blocks = 0;
    for (const [key, waiting] of this.#awaiting) {
      blocks += waiting.count * (packs.intercepted.sentShare(key) || packs.swept.sentShare(key));
    }
    return Math.floor(blocks * snapshot.blockSize);
  }

  /** Sends unfinished packs if pre-images need room: only stored blocks give room back. */
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
    const { isRead, isHole } = await this.#reader.read(batch, slot.input);
    const identify = () => onSomeThread(() => pool.identify(slot, lengths, { signal }));
    const [before, ids] = await Promise.all([
      this.#idsInBase(batch),
      isHole.every(Boolean) ? new Array<undefined>(batch.blockCount).fill(undefined) : identify(),
    ]);
    await yieldToEventLoop();
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
        const known = this.#parts.dedup.find(id, this.#lengthOf(block));
        if (known === undefined) {
          fresh.push(at);
          continue;
        }
        this.tally.newBytes += known.adoptedBytes;
        this.tally.adoptedBytes += known.adoptedBytes;
        this.#stored(block, { id, location: known.location });
      }
    }
    this.moved();
    const seal = () => onSomeThread(() => pool.seal(slot, fresh, { signal }));
    for (const sealed of fresh.length === 0 ? [] : await seal()) {
      await this.#pack(batch.lane, blocks[sealed.block] as number, sealed, ids[sealed.block] as Uint8Array);
    }
    this.moved();
  }

  /** The content ids that the base has for the blocks of a batch; `undefined` without a base. */
  async #idsInBase({ runs }: Batch): Promise<(Uint8Array | undefined | 'unknown')[] | undefined> {
    const { base, signal } = this.#parts;
    if (base === undefined) return undefined;
    const spans = spansOf(runs);
    const look = ({ firstBlock, blockCount }: BlockRange) => base.idsOf(firstBlock, blockCount, { signal });
    const found = await Array.fromAsync(mapConcurrently(spans, look, LOOK_UPS_AT_ONCE));
    let span = 0;
    const endOf = ({ firstBlock, blockCount }: BlockRange) => firstBlock + blockCount;
    return runs.flatMap(blocksOf).map((block) => {
      while (block >= endOf(spans[span] as BlockRange)) span++;
      return found[span]?.[block - (spans[span] as BlockRange).firstBlock];
    });
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
    this.#parts.dedup.add(id, location);
    this.#stored(block, { id, location });
  }

  #stored(block: number, entry: BlockEntry): void {
    this.#changed(block, entry);
    const key = packKey(entry.location.pack);
    if (this.#storedPacks.has(key) || this.#parts.dedup.isStored(entry.location.pack)) {
      this.#parts.snapshot.mark(block, 'stored');
      return;
    }
    const awaiting = this.#awaiting.get(key) ?? new RangeCollector();
    this.#awaiting.set(key, awaiting);
    awaiting.add(block);
  }

  #changed(block: number, entry: BlockEntry | undefined): void {
    if (entry !== undefined || this.#parts.base !== undefined) this.tally.changedBlocks++;
    this.#parts.entries.add(block, entry);
  }

  #lengthOf(block: number): number {
    const { blockSize, size } = this.#parts.snapshot;
    return Math.min(blockSize, size - block * blockSize);
  }
}

/** Repeats a call whose thread died, perhaps for lack of memory: that is no reason to discard hours of work. */
async function onSomeThread<T>(call: () => Promise<T>): Promise<T> {
  for (let killed = 1; ; killed++) {
    try {
      return await call();
    } catch (error) {
      if (!BackupError.is(error, 'WORKER_FAILED') || !error.retryable || killed === MAX_KILLED_THREADS) throw error;
    }
  }
}

/** Ranges that contain all of `runs`, with only small gaps. */
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
