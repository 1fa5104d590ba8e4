import { channel } from 'node:diagnostics_channel';
import { abortable } from '../../common/abort.ts';
import { integerArgument, optionsArgument, signalArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { tell } from '../../common/tell.ts';
import type { BlockStates } from '../../state/block-state-map.ts';
import type { RequestMeter } from '../../targets/decorators/request-meter.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import { knownTotal } from '../context/progress.ts';
import type { BackupJob, BackupOptions, BackupProgress, BackupResult, JobStatus, WatchOptions } from './backup-job.ts';
import type { BackupRun } from './backup-run.ts';
import type { JobPatience } from './job-patience.ts';
import { noteFinished, noteUnfinished } from './unfinished-jobs.ts';
import type { VolumeBackup } from './volume-backup.ts';

const FAILED = channel('cow-cloud-backup:job:failed');
const DEFAULT_INTERVAL_MS = 250;
const WATCH_OPTIONS: Readonly<Record<keyof WatchOptions, true>> = { signal: true, intervalMs: true };

/** What a handle shows and steers. */
export interface JobParts {
  readonly id: string;
  readonly volume: string;
  readonly session: number;
  readonly snapshot: VolumeSnapshot;
  readonly backup: VolumeBackup;
  readonly run: BackupRun;
  readonly meter: RequestMeter;
  readonly patience: JobPatience;
  readonly result: Promise<BackupResult>;
  readonly ending: Ending;
  readonly onProgress: BackupOptions['onProgress'];
}

/** How all jobs of a run are given up, and whether somebody wished so. */
export interface Ending {
  isCancelled: boolean;
  readonly cancel: (reason: unknown) => void;
  readonly fail: (error: unknown) => void;
}

/** The host's handle on one backup that is on its way. */
export class JobHandle implements BackupJob {
  readonly id: string;
  readonly volume: string;
  readonly snapshot: VolumeSnapshot;
  #parts: JobParts;
  readonly #done: Promise<BackupResult>;
  #ended: 'committed' | 'failed' | 'cancelled' | undefined;
  #isPaused = false;
  #isObserved = false;
  #doneBytes = 0;
  #toldAt = Number.NEGATIVE_INFINITY;
  #tellTimer: NodeJS.Timeout | undefined;
  #moved = Promise.withResolvers<void>();

  constructor(parts: JobParts) {
    this.#parts = parts;
    this.id = parts.id;
    this.volume = parts.volume;
    this.snapshot = parts.snapshot;
    // The end is told before the promise settles: afterwards the host hears nothing any more.
    this.#done = parts.result.then(
      (result) => {
        this.#end('committed');
        return result;
      },
      (error: unknown) => {
        // Of a commit whose outcome is not known nobody can say that it was cancelled.
        const isCancelled = parts.ending.isCancelled && !BackupError.is(error, 'COMMIT_UNKNOWN');
        this.#end(isCancelled ? 'cancelled' : 'failed');
        if (!this.#isObserved && !isCancelled) setImmediate(() => this.#report(error));
        throw error;
      },
    );
    this.#done.catch(() => {});
    noteUnfinished(this);
    this.moved();
  }

  get status(): JobStatus {
    if (this.#ended !== undefined) return this.#ended;
    if (this.#isPaused) return 'paused';
    return this.#parts.backup.feed.isSweeping ? 'sweeping' : 'lazy';
  }

  get states(): BlockStates {
    return this.snapshot.states;
  }

  get done(): Promise<BackupResult> {
    this.#isObserved = true;
    return this.#done;
  }

  progress(): BackupProgress {
    const { counts } = this.states;
    const { blockSize, size } = this.snapshot;
    const { sentBytes, requests } = this.#parts.meter;
    const bytes = (blocks: number) => Math.min(size, blocks * blockSize);
    const totalBytes = bytes(this.states.blockCount - counts.inherited);
    const safeBytes = bytes(counts.stored + counts.zero + counts.lost);
    // What is sent anew counts only once it goes further than before.
    this.#doneBytes = Math.max(
      this.#doneBytes,
      Math.min(totalBytes, safeBytes + this.#parts.backup.pipeline.sentBytes),
    );
    return {
      phase: this.#phase,
      status: this.status,
      outage: this.#ended === undefined ? this.#parts.patience.outage : undefined,
      counts,
      doneBytes: this.#doneBytes,
      totalBytes: knownTotal(totalBytes),
      transferredBytes: sentBytes,
      requests,
    };
  }

  watch(options: WatchOptions = {}): AsyncGenerator<BackupProgress, void, undefined> {
    optionsArgument('options', options, WATCH_OPTIONS);
    const { intervalMs = DEFAULT_INTERVAL_MS } = options;
    return this.#watch(integerArgument('intervalMs', intervalMs, 0), signalArgument('signal', options.signal));
  }

  async *#watch(intervalMs: number, signal: AbortSignal | undefined) {
    for (;;) {
      signal?.throwIfAborted();
      const moved = this.#moved.promise;
      const isOver = this.#ended !== undefined;
      yield this.progress();
      if (isOver) return;
      await abortable(moved, signal);
      // Nothing keeps the process alive while nothing moves; this does while something does.
      if (this.#ended === undefined) await abortable(this.#pause(intervalMs), signal);
    }
  }

  sweep(): this {
    this.#parts.backup.feed.sweep();
    this.moved();
    return this;
  }

  pause(): void {
    this.#setPaused(true);
  }

  resume(): void {
    this.#setPaused(false);
  }

  async cancel(): Promise<void> {
    await this.abandon(new DOMException('the backup was cancelled', 'AbortError'));
  }

  suspend(): Promise<void> {
    return this.cancel();
  }

  close(): Promise<void> {
    return this.cancel();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.cancel();
  }

  /** As `cancel`, with a reason of one's own. @internal */
  async abandon(reason: unknown): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#parts.ending.cancel(reason);
    await this.#done.catch(() => {});
  }

  /** @internal */
  get session(): number {
    return this.#parts.session;
  }

  /** @internal */
  get backup(): VolumeBackup {
    return this.#parts.backup;
  }

  /** There is progress. @internal */
  moved(): void {
    this.#moved.resolve();
    this.#moved = Promise.withResolvers();
    this.#tellSoon();
  }

  get #phase(): string {
    if (this.#ended !== undefined) return this.#ended;
    const { patience, run } = this.#parts;
    if (patience.outage !== undefined) return 'waiting';
    return run.phase === 'uploading' || run.phase === 'committing' ? run.phase : this.status;
  }

  /** Tells the host's callback: at once, or when it has not been told for a while. */
  #tellSoon(): void {
    if (this.#parts.onProgress === undefined || this.#tellTimer !== undefined) return;
    const waitMs = this.#toldAt + DEFAULT_INTERVAL_MS - performance.now();
    if (waitMs <= 0) this.#tell();
    else this.#tellTimer = setTimeout(() => this.#tell(), waitMs).unref();
  }

  #tell(): void {
    clearTimeout(this.#tellTimer);
    this.#tellTimer = undefined;
    this.#toldAt = performance.now();
    tell('onProgress', this.#parts.onProgress, this.progress());
  }

  #setPaused(isPaused: boolean): void {
    if (this.#ended !== undefined) return;
    this.#isPaused = isPaused;
    this.#parts.backup.feed.pause(isPaused);
    this.moved();
  }

  #end(how: 'committed' | 'failed' | 'cancelled'): void {
    this.#ended = how;
    noteFinished(this);
    this.#tell();
    this.#parts = { ...this.#parts, onProgress: undefined };
    this.moved();
  }

  /** Waits, but not longer than the job lasts. */
  #pause(intervalMs: number): Promise<unknown> {
    const waiting = Promise.withResolvers<void>();
    const timer = setTimeout(waiting.resolve, intervalMs);
    return Promise.race([waiting.promise, this.#done.catch(() => {})]).finally(() => clearTimeout(timer));
  }

  #report(error: unknown): void {
    FAILED.publish({ job: this, error });
    process.emitWarning(
      `the backup of volume ${this.volume} failed, and the program did not handle the rejection of job.done: ${String(error)}`,
      {
        code: 'COW_BACKUP_FAILED',
      },
    );
  }
}
