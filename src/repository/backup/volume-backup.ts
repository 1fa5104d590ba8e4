import type { BlockRange } from '../../common/block-range.ts';
import { subtractionOf, unionOf } from '../../common/block-ranges.ts';
import { BackupError } from '../../common/errors.ts';
import { gatheredRanges, letOthersRun } from '../../common/event-loop-turns.ts';
import { BLOCK_STATES } from '../../state/block-state.ts';
import { maskOf, nextInStates } from '../../state/block-state-map.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import { openMap, type RepositoryContext } from '../context/repository-context.ts';
import type { BlockEntry, MapDescriptor } from '../format/map-descriptor.ts';
import { MAX_LOST_RANGES } from '../format/map-descriptor-codec.ts';
import { writeBlockMap } from '../map/write-block-map.ts';
import type { SealPool } from '../packs/seal-pool/seal-pool.ts';
import type { BackupSession, PinnedPart } from './backup-session.ts';
import { ComparedBase } from './base-comparison.ts';
import { BlockFeed } from './block-feed.ts';
import { BlockPipeline } from './block-pipeline.ts';
import { PlacedBlocks } from './placed-blocks.ts';
import { damagedBlocksOf, needsRebuild } from './quarantined-base.ts';
import { findLies } from './tracking-check.ts';
import { type ChangeReason, writtenSinceBase } from './witnessed-commits.ts';

/** Where the knowledge of what changed came from. @public */
export type ChangeSource = 'tracked' | 'compared' | 'everything';

export interface VolumeBackupParts {
  readonly context: RepositoryContext;
  readonly session: BackupSession;
  readonly part: PinnedPart;
  /** The job's own handle. */
  readonly snapshot: VolumeSnapshot;
  readonly pool: SealPool;
  /** How many blocks that change tracking calls unchanged are read and compared; see `BackupOptions`. */
  readonly sampleBlocks: number | undefined;
  readonly signal: AbortSignal;
  /** Told whenever blocks have got further. */
  readonly onMoved: () => void;
}

/** What a volume's part of a commit says. */
export interface StoredVolume {
  readonly descriptor: MapDescriptor;
  readonly lostNow: readonly BlockRange[];
}

/** Marking takes a moment for each pre-image among the blocks. */
const MARKED_AT_ONCE = 2 ** 20;
const TAKEN_UP = maskOf(BLOCK_STATES.filter((state) => state !== 'pending' && state !== 'preserved'));
const NOT_INHERITED = maskOf(BLOCK_STATES.filter((state) => state !== 'inherited'));
const ZERO = maskOf(['zero']);
const UNSETTLED = maskOf(['pending', 'preserved', 'storing']);
const MAX_BATCH_BYTES = 1024 * 1024;

/**
 * One volume on its way into a session: what of its snapshot is stored, in which order, and the map of it. The map is
 * written behind the blocks, as soon as all of a leaf's are placed, so that memory does not grow with the volume.
 */
export class VolumeBackup {
  readonly feed: BlockFeed;
  readonly placed: PlacedBlocks;
  readonly pipeline: BlockPipeline;
  readonly warnings: BackupError[] = [];
  changeSource: ChangeSource = 'everything';
  /** Why change tracking is not used; `undefined` where it is. */
  changeReason: ChangeReason | undefined;
  readonly #parts: VolumeBackupParts;
  readonly #base: ComparedBase | undefined;
  /** What tracking says was written since the base. */
  #changed: readonly BlockRange[] | undefined;
  #moved: PromiseWithResolvers<void> = Promise.withResolvers();
  #hasEnded = false;
  #unlisten = () => {};

  /** @param changes - what was written since the base, or why that is not known */
  private constructor(parts: VolumeBackupParts, changes: readonly BlockRange[] | ChangeReason) {
    const { snapshot, session, pool, part, context, signal } = parts;
    this.#parts = parts;
    const { blockCount } = snapshot.states;
    const batchBlocks = Math.min(pool.blocksPerSlot, Math.max(1, Math.floor(MAX_BATCH_BYTES / snapshot.blockSize)));
    this.feed = new BlockFeed(snapshot.states, batchBlocks);
    this.placed = new PlacedBlocks(blockCount, context.format.fanOut);
    const changed = typeof changes === 'string' ? undefined : changes;
    this.changeReason = typeof changes === 'string' ? changes : undefined;
    const isUsable = changes !== 'no-base' && changes !== 'base-damaged';
    if (part.pinned !== undefined && isUsable) {
      this.#changed = changed;
      this.changeSource = changed === undefined ? 'compared' : 'tracked';
      this.#base = new ComparedBase(context, openMap(context, part.pinned.descriptor), {
        size: snapshot.size,
        isFetched: changed === undefined,
      });
    }
    this.pipeline = new BlockPipeline({
      snapshot,
      feed: this.feed,
      base: this.#base,
      pool,
      packs: session.packs,
      placed: this.placed,
      known: session.known,
      onMoved: () => this.#onMoved(),
      signal,
    });
    session.sentListeners.push(parts.onMoved);
    session.storedListeners.push((key) => this.pipeline.packStored(key));
  }

  /** Decides what has to be stored. Nothing is in its way until it is decided: blocks stay wanted. */
  static async prepare(parts: VolumeBackupParts): Promise<VolumeBackup> {
    const { context, part, snapshot, signal } = parts;
    const { pinned } = part;
    if (pinned === undefined) return new VolumeBackup(parts, 'no-base');
    const map = openMap(context, pinned.descriptor);
    if (await needsRebuild(context, map, { signal })) return new VolumeBackup(parts, 'base-damaged');
    const written = await writtenSinceBase(snapshot.volume, snapshot.point, {
      repositoryId: context.format.repositoryId,
      base: pinned,
      newest: part.parent,
    });
    if (typeof written === 'string') return new VolumeBackup(parts, written);
    // R11: what the base has lost, or holds in packs that are damaged, is stored again.
    const damaged = await damagedBlocksOf(context, map, { signal });
    const changed = await gatheredRanges(unionOf(written, pinned.descriptor.lost, damaged));
    const backup = new VolumeBackup(parts, changed);
    await backup.#inherit(changed);
    return backup;
  }

  get snapshot(): VolumeSnapshot {
    return this.#parts.snapshot;
  }

  get base(): ComparedBase | undefined {
    return this.#base;
  }

  /** Whether a block is known not to differ from the base. */
  isAsInBase(block: number): boolean {
    if (this.#base === undefined) return false;
    return this.snapshot.states.get(block) === 'inherited' || this.#base.isSame(block);
  }

  /** Stores all blocks and the map. Resolves when everything is placed, perhaps in packs that are not sent yet. */
  async run(onIdle: () => void): Promise<StoredVolume> {
    this.#listen();
    const { context, session, snapshot, pool, signal } = this.#parts;
    const stop = new AbortController();
    const map = writeBlockMap({
      previous: this.#base?.map,
      size: snapshot.size,
      blockSize: snapshot.blockSize,
      fanOut: context.format.fanOut,
      changes: this.#changes(),
      writer: session.nodes,
      isInMemory: (location) => context.records.peek(location) !== undefined,
      ids: context.keys,
      signal: AbortSignal.any([signal, stop.signal]),
    });
    const loops = Array.from({ length: pool.slotCount }, (_, index) => {
      return this.pipeline.run(onIdle, index > 0 ? undefined : 'intercepted');
    });
    if (pool.slotCount === 1) loops.push(this.pipeline.run(onIdle));
    const storing = Promise.all(loops).finally(() => this.#end());
    try {
      const [descriptor] = await Promise.all([map, storing]);
      return await this.#stored(descriptor);
    } catch (error) {
      this.#end();
      stop.abort(error);
      await Promise.allSettled([map, ...loops]);
      throw error;
    } finally {
      this.#unlisten();
    }
  }

  /** Makes everything that waits look whether it is still wanted. */
  stop(): void {
    this.#end();
  }

  async #stored(descriptor: MapDescriptor): Promise<StoredVolume> {
    const { snapshot } = this.#parts;
    const lost = await gatheredRanges(snapshot.states.ranges('lost'));
    // What was not written since the base is there, whatever became of this snapshot's copy.
    const isThere = this.#changed === undefined ? [] : await this.#unchanged(this.#changed);
    const lostNow = await gatheredRanges(subtractionOf(lost, isThere));
    const all = await gatheredRanges(unionOf(descriptor.lost, lostNow));
    if (all.length > MAX_LOST_RANGES)
      throw new BackupError(
        'LIMIT_EXCEEDED',
        `the backup has lost blocks in ${all.length} separate ranges, and at most ${MAX_LOST_RANGES} can be recorded`,
      );
    return { descriptor: { ...descriptor, lost: all }, lostNow };
  }

  #unchanged(changed: readonly BlockRange[]): Promise<BlockRange[]> {
    const { blockCount } = this.#parts.snapshot.states;
    return gatheredRanges(subtractionOf([{ firstBlock: 0, blockCount }], changed));
  }

  /** Gives up what the base has, once a sample of it has been looked at. */
  async #inherit(changed: readonly BlockRange[]): Promise<void> {
    const { snapshot, pool, signal, sampleBlocks } = this.#parts;
    const unchanged = await this.#unchanged(changed);
    const lies = await findLies({ snapshot, pool, signal, base: this.#base as ComparedBase, unchanged, sampleBlocks });
    if (lies.length > 0) {
      // Who wrote past the volume once may have done so anywhere: all that was called unchanged is read.
      const blocks = lies.join(', ');
      const message = `change tracking reported blocks ${blocks} as unchanged, but they have changed; all contents were compared instead`;
      this.warnings.push(new BackupError('CHANGE_TRACKING_WRONG', message));
      this.#changed = undefined;
      this.changeSource = 'compared';
      this.changeReason = 'tracking-wrong';
      this.#base?.fetchFromNowOn();
      return;
    }
    for (const range of unchanged) await this.#markInherited(range);
  }

  /** What an earlier handle has found zero, or lost, of a shared snapshot stays so, and is as in the base all the same. */
  async #markInherited({ firstBlock, blockCount }: BlockRange): Promise<void> {
    const { snapshot } = this.#parts;
    const { states } = snapshot;
    const end = firstBlock + blockCount;
    for (let block = firstBlock; block < end; ) {
      const state = states.get(block);
      if (state === 'pending' || state === 'preserved') {
        const next = nextInStates(states, block, Math.min(end, block + MARKED_AT_ONCE), TAKEN_UP);
        snapshot.mark({ firstBlock: block, blockCount: next - block }, 'inherited');
        block = next;
      } else {
        this.#base?.same(block++);
      }
      await letOthersRun();
    }
  }

  /** What differs from the base, by block, each as soon as all blocks of its leaf are placed. */
  async *#changes(): AsyncGenerator<[number, BlockEntry | undefined]> {
    const { context, snapshot } = this.#parts;
    const { states } = snapshot;
    const { fanOut } = context.format;
    for (let first = 0; first < states.blockCount; first += fanOut) {
      if (this.#base !== undefined) {
        // The base has what is inherited: however much that is, it is passed over at once.
        const block = nextInStates(states, first, states.blockCount, NOT_INHERITED);
        if (block === states.blockCount) break;
        first = Math.floor(block / fanOut) * fanOut;
      }
      const end = Math.min(states.blockCount, first + fanOut);
      await this.#settled(first, end);
      await this.#findSameZeroes(first, end);
      await letOthersRun(); // Of a large volume most leaves have nothing to wait for.
      yield* this.#changesOf(first, end);
      await letOthersRun();
    }
  }

  *#changesOf(first: number, end: number): Generator<[number, BlockEntry | undefined]> {
    const { states } = this.#parts.snapshot;
    const entries = this.placed.take(Math.floor(first / this.#parts.context.format.fanOut));
    if (this.#base === undefined) {
      for (const change of entries) if (change[1] !== undefined) yield change;
      return;
    }
    let at = 0;
    for (let block = first; block < end; block++) {
      if (entries[at]?.[0] === block) {
        yield entries[at++] as [number, BlockEntry | undefined];
        continue;
      }
      // Found zero, or lost, before it passed through the pipeline.
      const state = states.get(block);
      if ((state === 'zero' || state === 'lost') && !this.#base.isSame(block)) {
        this.pipeline.tally.changedBlocks++;
        yield [block, undefined];
      }
    }
  }

  /** Blocks that were found to be zeroes when they were preserved have not been compared with the base yet. */
  async #findSameZeroes(first: number, end: number): Promise<void> {
    const base = this.#base;
    if (base === undefined) return;
    const { snapshot, signal } = this.#parts;
    let ids: Awaited<ReturnType<ComparedBase['idsOf']>> | undefined;
    for (let block = first; ; block++) {
      block = nextInStates(snapshot.states, block, end, ZERO);
      if (block === end) return;
      if (base.isSame(block) || this.placed.has(block)) continue;
      ids ??= await base.idsOf(first, end - first, { signal });
      if (ids[block - first] === undefined) base.same(block);
    }
  }

  /** Waits until no block of the range can get another place any more. */
  async #settled(first: number, end: number): Promise<void> {
    const { states } = this.#parts.snapshot;
    for (let block = first; ; ) {
      block = nextInStates(states, block, end, UNSETTLED);
      if (block === end) return;
      const state = states.get(block);
      if (state === 'storing' && this.placed.has(block)) {
        block++;
        continue;
      }
      this.#parts.signal.throwIfAborted();
      if (this.#hasEnded) throw new BackupError('CLOSED', `block ${block} was not stored: it is ${state}`);
      await this.#moved.promise;
    }
  }

  #onMoved(): void {
    this.pipeline.relieve();
    this.#moved.resolve();
    this.#moved = Promise.withResolvers();
    this.#parts.onMoved();
  }

  #end(): void {
    this.#hasEnded = true;
    this.feed.end();
    this.#onMoved();
  }

  #listen(): void {
    const { snapshot } = this.#parts;
    const { events } = snapshot.volume;
    const onPreserved = (of: VolumeSnapshot, blocks: BlockRange) => {
      if (of !== snapshot) return;
      this.feed.preserved(blocks);
      this.#onMoved();
    };
    const onLost = (of: VolumeSnapshot) => {
      if (of !== snapshot) return;
      this.feed.look();
      this.#onMoved();
    };
    const onPressure = () => this.pipeline.relieve();
    events.on('blockPreserved', onPreserved).on('blockLost', onLost).on('preimagePressure', onPressure);
    this.#unlisten = () => {
      events.off('blockPreserved', onPreserved).off('blockLost', onLost).off('preimagePressure', onPressure);
    };
    // What was told of before anybody listened.
    this.feed.lookForPreserved();
  }
}
