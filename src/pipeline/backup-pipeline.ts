// This folder is the method as one piece: what stands between a snapshot and a host's own store. This file is its face.
// `unchanged-blocks.ts` finds what an earlier run has left, `block-feed.ts` decides which block is next, `batch-reader.ts`
// reads blocks, `transform.ts` changes bytes on their way, and `restore-blocks.ts` is the way back. A repository's backups
// use the same feed and reader.

import { EventEmitter } from 'node:events';
import PQueue from 'p-queue';
import { abortable } from '../common/abort.ts';
import { described } from '../common/arguments.ts';
import { BackgroundResult } from '../common/background-result.ts';
import type { BlockRange } from '../common/block-range.ts';
import { isZero } from '../common/bytes.ts';
import { BackupError } from '../common/errors.ts';
import { PacedReports } from '../common/paced-reports.ts';
import { report } from '../common/report.ts';
import { noteFinished, noteUnfinished, type UnfinishedBackup } from '../common/unfinished-backups.ts';
import type { BlockStates } from '../state/block-state-map.ts';
import { isVolumeSnapshot, type VolumeSnapshot } from '../volume/volume-snapshot.ts';
import { BatchReader } from './batch-reader.ts';
import { type Batch, BlockFeed, blocksOf, type Lane } from './block-feed.ts';
import { type BlockCall, checkPipelineOptions, type PipelineOptions } from './pipeline-options.ts';
import {
  answerAbout,
  type BlocksAnswer,
  bytesIn,
  type PipelineEvents,
  type PipelineProgress,
  type PipelineStatus,
} from './pipeline-progress.ts';
import { PipelineRecord } from './pipeline-record.ts';
import { repeatCall } from './repeated-call.ts';
import { applyTransforms } from './transform.ts';
import {
  findUnchanged,
  markUnchanged,
  type PipelineChangeReason,
  type PipelineChangeSource,
  recordedStates,
  type UnchangedBlocks,
} from './unchanged-blocks.ts';

/** The result of a pipeline. @public */
export interface PipelineResult {
  /** What to keep, for a restore and for the next run: the states of all blocks at the end, and the instant. */
  readonly record: PipelineRecord;
  /** The number of blocks that this pipeline has stored. */
  readonly storedBlocks: number;
  /** Bytes that the store has acknowledged, as the transforms made them. */
  readonly storedBytes: number;
  /** Bytes read from the snapshot. */
  readonly readBytes: number;
  /** Where the knowledge of the changes since the earlier run came from. */
  readonly changeSource: PipelineChangeSource;
  /** Why everything was stored; `undefined` if only changes were stored. */
  readonly changeReason: PipelineChangeReason | undefined;
}

const MAX_BATCH_BYTES = 1024 * 1024;
/** Batches of the sweep that are read at the same time: a batch may be a single block, and a device far away. */
const MOST_READ_AT_ONCE = 4;
const PRIORITY: Readonly<Record<Lane, number>> = { swept: 0, intercepted: 1 };

/** Snapshot handles that a pipeline works on: two pipelines on one handle would take blocks from each other. */
const inUse = new WeakSet<VolumeSnapshot>();

/**
 * Backs up a snapshot through a function of the host's that stores one block: into any store, in any format, without a
 * repository.
 *
 * From the first instruction on, the creation of the snapshot, the volume preserves each block just before it is
 * overwritten. The pipeline compares the states of all blocks with its last record of them, and stores the blocks that were
 * preserved. At the second instruction, `sweep`, it also stores the remaining blocks, in order. It completes by itself when
 * every block is safe. The snapshot still belongs to the host, which closes it afterwards.
 *
 * At most `concurrency` blocks are being stored, intercepted ones first. About three times as many are in memory, and a few
 * MiB of read buffers. A `store` that is slow or fails never delays the host's writes beyond the volume's own policies.
 *
 * If the pipeline fails or is aborted, blocks that were under way go back to where they were. Another pipeline can continue
 * the snapshot; it does not store again what is `stored`. `done` settles only when all calls of `store` have settled.
 *
 * @example
 * ```ts
 * await using snapshot = await volume.createSnapshot(); // the first instruction
 * await using pipeline = BackupPipeline.start(snapshot, {
 *   store: (block, bytes) => writeFile(`blocks/${block}`, bytes),
 *   storeRecord: async (record) => writeFile('blocks/record', await record.encode()), // when all blocks are safe
 *   transforms: [compression(), encryption(key)],
 * });
 * console.log(pipeline.ask(7).isSafe);
 * pipeline.sweep(); // the second instruction
 * const { storedBlocks } = await pipeline.done;
 * ```
 *
 * @public
 */
export class BackupPipeline {
  /** The snapshot that is stored. */
  readonly snapshot: VolumeSnapshot;
  /** Events about blocks and the end; see {@link PipelineEvents}. */
  readonly events = new EventEmitter<PipelineEvents>();
  readonly #options: ReturnType<typeof checkPipelineOptions>;
  readonly #feed: BlockFeed;
  readonly #reader: BatchReader;
  readonly #queue: PQueue;
  readonly #batchBlocks: number;
  readonly #stop = new AbortController();
  /** Blocks that this pipeline has marked `storing`, and not yet otherwise. */
  readonly #claimed = new Set<number>();
  readonly #tally = { storedBlocks: 0, storedBytes: 0 };
  readonly #result: BackgroundResult<PipelineResult>;
  readonly #reports: PacedReports;
  readonly #unfinished: UnfinishedBackup = { describe: () => `${this.#describe()} (${this.status})` };
  #unchanged: UnchangedBlocks | undefined;
  #isPaused = false;
  #isAborted = false;
  #ended: 'complete' | 'failed' | 'aborted' | undefined;
  /** Resolves when all batches of the sweep that were taken so far have been read, or the pipeline ends. */
  #sweptBatches: Promise<unknown> = Promise.resolve();

  private constructor(snapshot: VolumeSnapshot, options: ReturnType<typeof checkPipelineOptions>) {
    const { concurrency, onProgress } = options;
    this.snapshot = snapshot;
    this.#options = options;
    this.#batchBlocks = Math.max(1, Math.min(concurrency, Math.floor(MAX_BATCH_BYTES / snapshot.blockSize)));
    this.#feed = new BlockFeed(snapshot.states, this.#batchBlocks);
    this.#reader = new BatchReader(snapshot, this.#stop.signal);
    this.#queue = new PQueue({ concurrency });
    this.#reports = new PacedReports(() => report('onProgress', onProgress, this.progress()));
    this.#result = new BackgroundResult(this.#run(), (error) => this.#warnOfFailure(error));
  }

  /**
   * Begins to store a snapshot: at first only what is about to be overwritten, and after `sweep` everything.
   *
   * @param snapshot - a live snapshot. Blocks that an earlier pipeline has left `stored` are not stored again
   * @throws TypeError for wrong arguments, `VOLUME_BUSY` if another pipeline works on this handle, `CLOSED` or
   * `SNAPSHOT_BROKEN` if the snapshot is not live, the reason of the signal. `done` rejects with `STORE_FAILED`,
   * `SNAPSHOT_BROKEN`, `CLOSED`, the errors of the device, what a transform throws, a TypeError or `OUT_OF_RANGE` for wrong `changes`, an
   * `AbortError` after `abort`, or the reason of the signal
   */
  static start(snapshot: VolumeSnapshot, options: PipelineOptions): BackupPipeline {
    if (!isVolumeSnapshot(snapshot))
      throw new TypeError(`snapshot must be a VolumeSnapshot, not ${described(snapshot)}`);
    const checked = checkPipelineOptions(options);
    requireLive(snapshot);
    checked.signal?.throwIfAborted();
    // @mutation one-pipeline-a-snapshot
    if (inUse.has(snapshot))
      throw new BackupError(
        'VOLUME_BUSY',
        'another pipeline works on this snapshot: close it first, or give this one a handle of its own, snapshot.share()',
      );
    inUse.add(snapshot);
    return new BackupPipeline(snapshot, checked);
  }

  /** What the pipeline is doing, or how it has ended. */
  get status(): PipelineStatus {
    if (this.#ended !== undefined) return this.#ended;
    if (this.#isPaused) return 'paused';
    return this.#feed.isSweeping ? 'sweeping' : 'lazy';
  }

  /** The state of every block, as it is at the time of each call; those of the snapshot. */
  get states(): BlockStates {
    return this.snapshot.states;
  }

  /**
   * Settles when the pipeline has ended and no call of `store` is under way; see {@link BackupPipeline.start} for what it
   * rejects with. Reading this property counts as handling a failure, which is otherwise the process warning
   * `COW_BACKUP_FAILED`.
   */
  get done(): Promise<PipelineResult> {
    return this.#result.observed;
  }

  /** The second instruction: stores the remaining blocks, in order. Interception goes on. Returns the pipeline itself. */
  sweep(): this {
    this.#feed.sweep();
    return this;
  }

  /**
   * Begins no call of `store` until `resume`; those under way go on, with their retries. The volume still preserves what is
   * overwritten, so pre-images gather.
   */
  pause(): void {
    this.#setPaused(true);
  }

  /** Goes on after `pause`. */
  resume(): void {
    this.#setPaused(false);
  }

  /**
   * How many blocks are safe at this moment: of one block, of a range, or of all if none is given.
   *
   * @throws TypeError for a malformed range, `OUT_OF_RANGE` for blocks that the snapshot does not have
   */
  ask(blocks?: BlockRange | number): BlocksAnswer {
    return answerAbout(this.snapshot.states, blocks);
  }

  /** The progress at this moment; `onProgress` is given the same. */
  progress(): PipelineProgress {
    const { counts } = this.snapshot.states;
    const totalBytes = this.snapshot.size - bytesIn(this.snapshot, 'inherited');
    return {
      status: this.status,
      counts,
      doneBytes: bytesIn(this.snapshot, 'stored', 'zero', 'lost'),
      totalBytes: totalBytes === 0 ? undefined : totalBytes,
      storedBytes: this.#tally.storedBytes,
    };
  }

  /**
   * The record as it is now. The record of an incomplete run can't be restored, but it serves as `previous`: the next run
   * does not store again what this one has stored and what has not changed since.
   */
  record(): PipelineRecord {
    const { size, blockSize, frozenAt, point } = this.snapshot;
    const states = recordedStates(this.snapshot.states, this.#unchanged?.known);
    return new PipelineRecord({ size, blockSize, frozenAt, point, states });
  }

  /**
   * Ends the pipeline early, and resolves when no call of `store` is under way: a `store` must not wait for it. `done`
   * rejects with an `AbortError`. If the pipeline has ended or failed already, it stays so.
   */
  async abort(): Promise<void> {
    this.#abort(new DOMException('the pipeline was aborted', 'AbortError'));
    await this.#result.settled();
  }

  /** The same as {@link BackupPipeline.abort}. */
  close(): Promise<void> {
    return this.abort();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.abort();
  }

  #abort(reason: unknown): void {
    if (this.#stop.signal.aborted || this.#ended !== undefined) return;
    this.#isAborted = true;
    this.#fail(reason);
  }

  #describe(): string {
    return `a pipeline of ${this.snapshot.volume.name ?? 'a volume'}`;
  }

  async #run(): Promise<PipelineResult> {
    noteUnfinished(this.#unfinished);
    const unlisten = this.#listen();
    try {
      this.#reports.note();
      const { previous, changes } = this.#options;
      const unchanged = await findUnchanged(this.snapshot, previous, changes, this.#stop.signal);
      this.#unchanged = unchanged;
      if (unchanged.known !== undefined) await markUnchanged(this.snapshot, unchanged.known, this.#stop.signal);
      this.#feed.intercepted();
      // All have ended before anything is given back: what one of them reads then would be marked after all.
      const readAtOnce = Math.ceil(this.#options.concurrency / this.#batchBlocks);
      const sweeps = Array.from({ length: Math.max(2, Math.min(MOST_READ_AT_ONCE, readAtOnce)) }, () => this.#store());
      // @mutation done-waits-for-reads
      await Promise.allSettled([this.#store('intercepted'), ...sweeps]);
      // @mutation done-waits-for-calls
      await this.#queue.onIdle();
      this.#stop.signal.throwIfAborted();
      requireLive(this.snapshot);
      const result = this.#resultOf(unchanged);
      const { storeRecord } = this.#options;
      if (storeRecord !== undefined) await this.#repeat('record', (call) => storeRecord(result.record, call));
      this.#end('complete');
      return result;
    } catch (error) {
      this.#fail(error);
      // @mutation pipeline-gives-back
      for (const block of this.#claimed) this.#giveBack(block);
      this.#end(this.#isAborted ? 'aborted' : 'failed');
      throw this.#stop.signal.reason;
    } finally {
      unlisten();
    }
  }

  /**
   * Stores what the feed gives. One such loop takes intercepted blocks only, so that no sweep holds them up. The others read
   * batches of the sweep at the same time.
   */
  async #store(lane?: 'intercepted'): Promise<void> {
    const { concurrency } = this.#options;
    const { signal } = this.#stop;
    const most = lane === undefined ? concurrency : 2 * concurrency + this.#batchBlocks;
    try {
      for (;;) {
        await abortable(this.#queue.onSizeLessThan(most), signal);
        const batch = await this.#feed.take(
          (taken) => this.#claim(taken),
          () => {},
          lane,
        );
        if (batch === undefined) return;
        const enqueued = this.#enqueue(batch, batch.lane === 'swept' ? this.#sweptBatches : undefined);
        if (batch.lane === 'swept') this.#sweptBatches = Promise.allSettled([enqueued]);
        await enqueued;
      }
    } catch (error) {
      this.#fail(error); // Ends the other loop.
    }
  }

  #claim({ runs }: Batch): void {
    for (const run of runs) {
      this.snapshot.mark(run, 'storing');
      for (const block of blocksOf(run)) this.#claimed.add(block);
    }
  }

  /**
   * Reads a batch, and puts its blocks into the queue.
   *
   * @param earlier - settles when the batch before is in the queue, so that the sweep stays in order
   */
  async #enqueue(batch: Batch, earlier: Promise<unknown> | undefined): Promise<void> {
    const { blockSize, size } = this.snapshot;
    // This memory is not used again, because a host may keep what it is given.
    const bytes = new Uint8Array(batch.blockCount * blockSize);
    const { isRead, isHole } = await this.#reader.read(batch, bytes);
    await earlier;
    this.#stop.signal.throwIfAborted();
    // @mutation intercepted-first
    const priority = { priority: PRIORITY[batch.lane] };
    let start = 0;
    let index = 0;
    for (const { firstBlock, blockCount } of batch.runs) {
      for (let block = firstBlock; block < firstBlock + blockCount; block++, index++, start += blockSize) {
        requireLength(block, bytes, batch.blockCount * blockSize);
        const blockBytes = Math.min(blockSize, size - block * blockSize);
        const raw = bytes.subarray(start, start + blockBytes);
        // @mutation zero-is-all-of-it
        const isZeroes = isHole[index] === true || isZero(raw);
        if (isRead[index] !== true) this.#claimed.delete(block);
        else if (isZeroes) this.#settle(block, 'zero');
        else void this.#queue.add(() => this.#storeBlock(block, raw, blockBytes), priority);
      }
    }
    this.#reports.note();
  }

  /** Never rejects: a failure ends the pipeline. */
  async #storeBlock(block: number, raw: Uint8Array<ArrayBuffer>, blockBytes: number): Promise<void> {
    const { transforms } = this.#options;
    let bytes = raw;
    try {
      this.#stop.signal.throwIfAborted();
      requireLength(block, raw, blockBytes);
      if (transforms.length > 0) {
        const context = { block, blockBytes };
        bytes = (await applyTransforms(transforms, raw, context)) as Uint8Array<ArrayBuffer>;
      }
      const { length } = bytes;
      const check = () => requireLength(block, bytes, length);
      await this.#repeat(block, (call) => this.#options.store(block, bytes, call), check);
      // What the store has acknowledged is stored, also when the pipeline is being aborted.
      this.#tally.storedBlocks++;
      this.#tally.storedBytes += bytes.length;
      this.#settle(block, 'stored');
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#emit('blockStored', block, bytes.length);
    this.#reports.note();
  }

  /** Has the host store a block, or the record, as often as it takes and the options allow. */
  async #repeat(what: number | 'record', store: (call: BlockCall) => unknown, check?: () => void): Promise<void> {
    const { name } = this.snapshot.volume; // With several volumes, the number alone says little.
    const item = what === 'record' ? 'the record' : `block ${what}`;
    const call = {
      what: name === undefined ? item : `${item} of ${name}`,
      code: 'STORE_FAILED',
      policy: this.#options.retries,
      signal: this.#stop.signal,
      check,
      onFailure: (error: unknown, attempt: number) => this.#emit('attemptFailed', what, error, attempt),
    } as const;
    await repeatCall(call, store);
  }

  /** A block that was lost before it could be read is not `storing` any more. */
  #giveBack(block: number): void {
    // @mutation lost-is-not-given-back
    if (this.snapshot.states.get(block) === 'storing') this.snapshot.mark(block, 'failed');
  }

  #settle(block: number, state: 'stored' | 'zero'): void {
    this.#claimed.delete(block);
    this.snapshot.mark(block, state);
  }

  #resultOf({ changeSource, changeReason }: UnchangedBlocks): PipelineResult {
    return { record: this.record(), ...this.#tally, readBytes: this.#reader.readBytes, changeSource, changeReason };
  }

  #setPaused(isPaused: boolean): void {
    if (this.#ended !== undefined || this.#stop.signal.aborted) return;
    this.#isPaused = isPaused;
    this.#feed.pause(isPaused);
    if (isPaused) this.#queue.pause();
    else this.#queue.start();
    this.#reports.note();
  }

  #listen(): () => void {
    const { snapshot } = this;
    const { events } = snapshot.volume;
    const { signal } = this.#options;
    const onPreserved = (of: VolumeSnapshot) => {
      if (of === snapshot) this.#feed.intercepted();
    };
    const onLost = (of: VolumeSnapshot) => {
      if (of === snapshot) this.#feed.look();
    };
    const onEnd = (of: VolumeSnapshot) => {
      if (of === snapshot) this.#fail(snapshot.error ?? closedError());
    };
    const onAbort = () => this.#abort(signal?.reason);
    events.on('blockPreserved', onPreserved).on('blockLost', onLost);
    events.on('snapshotBroken', onEnd).on('snapshotClosed', onEnd);
    signal?.addEventListener('abort', onAbort, { once: true });
    return () => {
      events.off('blockPreserved', onPreserved).off('blockLost', onLost);
      events.off('snapshotBroken', onEnd).off('snapshotClosed', onEnd);
      signal?.removeEventListener('abort', onAbort);
    };
  }

  /** Ends everything that is under way. The first reason counts. */
  #fail(reason: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort(reason);
    this.#feed.end();
    this.#queue.clear();
    this.#queue.start(); // A paused queue would never be idle.
  }

  #end(how: 'complete' | 'failed' | 'aborted'): void {
    this.#ended = how;
    this.#feed.end();
    inUse.delete(this.snapshot);
    noteFinished(this.#unfinished);
    this.#reports.end();
    this.#emit('ended', how);
  }

  readonly #emit = <Name extends keyof PipelineEvents>(name: Name, ...values: PipelineEvents[Name]): void => {
    report('a listener of pipeline.events', this.#emitEvent, name, values);
  };

  readonly #emitEvent = (name: string, values: readonly unknown[]): void => {
    (this.events as EventEmitter).emit(name, ...values);
  };

  #warnOfFailure(error: unknown): void {
    if (this.#ended === 'aborted') return;
    process.emitWarning(
      `${this.#describe()} failed, and the program did not handle the rejection of pipeline.done: ${String(error)}`,
      {
        code: 'COW_BACKUP_FAILED',
      },
    );
  }
}

/** What was transferred to another thread has no length any more, and an empty block must not pass for the block. */
function requireLength(block: number, bytes: Uint8Array, length: number): void {
  // @mutation memory-is-there
  if (bytes.length === length) return;
  throw new TypeError(
    `the bytes of block ${block} are gone: store or a transform has transferred memory that it was given; copy it first`,
  );
}

function requireLive(snapshot: VolumeSnapshot): void {
  if (snapshot.status !== 'live') throw snapshot.error ?? closedError();
}

function closedError(): BackupError {
  return new BackupError('CLOSED', 'the snapshot has been closed');
}
