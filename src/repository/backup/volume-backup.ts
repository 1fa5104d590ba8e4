import { collectRanges, subtractionOf, unionOf } from '../../common/block-range.ts';
import { BackupError } from '../../common/errors.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { BlockFeed } from '../../pipeline/block-feed.ts';
import { BLOCK_STATES } from '../../state/block-state.ts';
import { maskOf, nextInStates } from '../../state/block-state-map.ts';
import type { RequestMeter } from '../../targets/decorators/request-meter.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import { backupInfo } from '../context/backup-info.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { BackupRecord } from '../format/log-entry.ts';
import type { StoredBackup } from '../format/log-state.ts';
import type { BlockEntry, MapDescriptor } from '../format/map-descriptor.ts';
import { MAX_LOST_RANGES } from '../format/map-descriptor-codec.ts';
import { writeBlockMap } from '../map/write-block-map.ts';
import type { SealPool } from '../packs/seal-pool/seal-pool.ts';
import type { BackupResult } from './backup-job.ts';
import { type BackupPlan, unchangedBlocks } from './backup-plan.ts';
import type { BackupSession } from './backup-session.ts';
import type { ComparedBase } from './base-comparison.ts';
import { BlockEntries } from './block-entries.ts';
import type { JobProgress } from './job-progress.ts';
import type { FrozenRequest } from './job-requests.ts';
import type { PinnedPart } from './open-session.ts';
import { PackStage } from './pack-stage.ts';

export interface VolumeBackupParts {
  readonly context: RepositoryContext;
  readonly session: BackupSession;
  /** The job's own handle on the instant. */
  readonly snapshot: VolumeSnapshot;
  readonly pool: SealPool;
  readonly plan: BackupPlan;
  readonly progress: JobProgress;
  readonly signal: AbortSignal;
}

const NOT_INHERITED = maskOf(BLOCK_STATES.filter((state) => state !== 'inherited'));
const ZERO = maskOf(['zero']);
const UNSETTLED = maskOf(['pending', 'preserved', 'storing']);
const MAX_BATCH_BYTES = 1024 * 1024;

/**
 * The work of one job: stores what its plan says of one volume's snapshot, and writes the map of it. The map is written
 * behind the blocks, one leaf at a time as soon as all of the leaf's blocks have their entries, so that memory does not grow
 * with the volume. What it leaves behind (entries, counts, warnings) is read until the job's result is made.
 */
export class VolumeBackup {
  readonly plan: BackupPlan;
  readonly base: ComparedBase | undefined;
  readonly snapshot: VolumeSnapshot;
  readonly feed: BlockFeed;
  readonly entries: BlockEntries;
  readonly stage: PackStage;
  readonly #parts: VolumeBackupParts;
  #hasEnded = false;
  #unlisten = () => {};

  constructor(parts: VolumeBackupParts) {
    const { snapshot, session, pool, plan, context, progress, signal } = parts;
    this.#parts = parts;
    this.plan = plan;
    this.base = plan.base;
    this.snapshot = snapshot;
    const { blockCount } = snapshot.states;
    const batchBlocks = Math.min(pool.blocksPerSlot, Math.max(1, Math.floor(MAX_BATCH_BYTES / snapshot.blockSize)));
    this.feed = new BlockFeed(snapshot.states, batchBlocks);
    this.entries = new BlockEntries(blockCount, context.format.fanOut);
    this.stage = new PackStage({
      snapshot,
      feed: this.feed,
      base: plan.base,
      pool,
      packs: session.packs,
      entries: this.entries,
      dedup: session.dedup,
      progress,
      signal,
    });
    session.storedListeners.push((key) => this.stage.packStored(key));
  }

  /** Whether a block is known not to differ from the base. */
  isAsInBase(block: number): boolean {
    if (this.base === undefined) return false;
    return this.snapshot.states.get(block) === 'inherited' || this.base.isSame(block);
  }

  /**
   * Stores all blocks and the map, and resolves with the map's descriptor when all of it is in packs, some of which may not
   * have been sent yet.
   *
   * @param onIdle - called when there is nothing to store for now
   */
  async run(onIdle: () => void): Promise<MapDescriptor> {
    this.#listen();
    const { context, session, snapshot, pool, signal } = this.#parts;
    const stop = new AbortController();
    const map = writeBlockMap({
      previous: this.base?.map,
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
      return this.stage.run(onIdle, index > 0 ? undefined : 'intercepted');
    });
    if (pool.slotCount === 1) loops.push(this.stage.run(onIdle));
    const storing = Promise.all(loops).finally(() => this.stop());
    try {
      const [descriptor] = await Promise.all([map, storing]);
      return await this.#withLost(descriptor);
    } catch (error) {
      this.stop();
      stop.abort(error);
      await Promise.allSettled([map, ...loops]);
      throw error;
    } finally {
      this.#unlisten();
    }
  }

  /** The backup's part of a commit entry. */
  record(
    { id, request, part }: { readonly id: string; readonly request: FrozenRequest; readonly part: PinnedPart },
    descriptor: MapDescriptor,
    storedBytes: number,
  ): BackupRecord {
    const { volume, metadata = {} } = request.options;
    const { frozenAt, point } = this.snapshot;
    return {
      id,
      volume,
      parent: part.parent,
      base: part.pinned?.id,
      frozenAt: frozenAt.getTime(),
      trackingId: point.trackingId,
      point: point.epoch,
      metadata: { ...metadata },
      intact: descriptor.lost.length === 0,
      descriptor,
      stats: { storedBytes, changedBlocks: this.stage.tally.changedBlocks },
    };
  }

  result(stored: StoredBackup, { requests }: RequestMeter): BackupResult {
    const { changeSource, changeReason } = this.plan;
    const warnings = [...this.plan.warnings, ...(this.#parts.session.adoption?.warnings ?? [])];
    return {
      ...backupInfo(stored),
      changeSource,
      changeReason,
      readBytes: this.stage.readBytes,
      adoptedBytes: this.stage.tally.adoptedBytes,
      requests,
      warnings,
    };
  }

  /** Ends the feed, and makes everything that waits for a movement notice. */
  stop(): void {
    this.#hasEnded = true;
    this.feed.end();
    this.stage.moved();
  }

  async #withLost(descriptor: MapDescriptor): Promise<MapDescriptor> {
    const { snapshot } = this.#parts;
    const lost = await collectRanges(snapshot.states.ranges('lost'));
    // The base has what was not written since, even where this snapshot has lost its copy.
    const { changed } = this.plan;
    const inBase = changed === undefined ? [] : await unchangedBlocks(snapshot, changed);
    const lostNow = await collectRanges(subtractionOf(lost, inBase));
    const all = await collectRanges(unionOf(descriptor.lost, lostNow));
    if (all.length > MAX_LOST_RANGES)
      throw new BackupError(
        'LIMIT_EXCEEDED',
        `the backup has lost blocks in ${all.length} separate ranges, and a backup can record ${MAX_LOST_RANGES}: start another backup, with more room for pre-images (memoryBytes, spillBytes)`,
      );
    return { ...descriptor, lost: all };
  }

  /** The blocks that differ from the base, with their entries, as soon as all blocks of their leaf are settled. */
  async *#changes(): AsyncGenerator<[number, BlockEntry | undefined]> {
    const { context, snapshot } = this.#parts;
    const { states } = snapshot;
    const { fanOut } = context.format;
    for (let first = 0; first < states.blockCount; first += fanOut) {
      if (this.base !== undefined) {
        // Inherited blocks are in the base: they are skipped in one step, however many there are.
        const block = nextInStates(states, first, states.blockCount, NOT_INHERITED);
        if (block === states.blockCount) break;
        first = Math.floor(block / fanOut) * fanOut;
      }
      const end = Math.min(states.blockCount, first + fanOut);
      await this.#settled(first, end);
      await this.#findSameZeroes(first, end);
      await yieldToEventLoop(); // Most leaves of a large volume have nothing to wait for.
      yield* this.#changesOf(first, end);
      await yieldToEventLoop();
    }
  }

  *#changesOf(first: number, end: number): Generator<[number, BlockEntry | undefined]> {
    const { states } = this.#parts.snapshot;
    const entries = this.entries.take(Math.floor(first / this.#parts.context.format.fanOut));
    if (this.base === undefined) {
      for (const change of entries) if (change[1] !== undefined) yield change;
      return;
    }
    let at = 0;
    for (let block = first; block < end; block++) {
      if (entries[at]?.[0] === block) {
        yield entries[at++] as [number, BlockEntry | undefined];
        continue;
      }
      // These were found zero, or lost, before they came to the stage.
      const state = states.get(block);
      if ((state === 'zero' || state === 'lost') && !this.base.isSame(block)) {
        this.stage.tally.changedBlocks++;
        yield [block, undefined];
      }
    }
  }

  /** Compares blocks with the base that were found to be zeroes when they were preserved: the stage never saw them. */
  async #findSameZeroes(first: number, end: number): Promise<void> {
    const { base } = this;
    if (base === undefined) return;
    const { snapshot, signal } = this.#parts;
    let ids: Awaited<ReturnType<ComparedBase['idsOf']>> | undefined;
    for (let block = first; ; block++) {
      block = nextInStates(snapshot.states, block, end, ZERO);
      if (block === end) return;
      if (base.isSame(block) || this.entries.has(block)) continue;
      ids ??= await base.idsOf(first, end - first, { signal });
      if (ids[block - first] === undefined) base.same(block);
    }
  }

  /** Waits until the entry of no block of the range can change any more. */
  async #settled(first: number, end: number): Promise<void> {
    const { states } = this.#parts.snapshot;
    for (let block = first; ; ) {
      block = nextInStates(states, block, end, UNSETTLED);
      if (block === end) return;
      const state = states.get(block);
      if (state === 'storing' && this.entries.has(block)) {
        block++;
        continue;
      }
      this.#parts.signal.throwIfAborted();
      if (this.#hasEnded) throw new BackupError('CLOSED', `block ${block} was not stored: it is ${state}`);
      await this.#parts.progress.next();
    }
  }

  #listen(): void {
    const { snapshot } = this.#parts;
    const { events } = snapshot.volume;
    const onPreserved = (of: VolumeSnapshot) => {
      if (of !== snapshot) return;
      this.feed.intercepted();
      this.stage.moved();
    };
    const onLost = (of: VolumeSnapshot) => {
      if (of !== snapshot) return;
      this.feed.look();
      this.stage.moved();
    };
    const onPressure = () => this.stage.relieve();
    events.on('blockPreserved', onPreserved).on('blockLost', onLost).on('preimagePressure', onPressure);
    this.#unlisten = () => {
      events.off('blockPreserved', onPreserved).off('blockLost', onLost).off('preimagePressure', onPressure);
    };
    this.feed.intercepted(); // Blocks may have been preserved before this was listening.
  }
}
