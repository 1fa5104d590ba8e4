import { channel } from 'node:diagnostics_channel';
import { abortable } from '../../common/abort.ts';
import { integerArgument, optionsArgument, signalArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { report } from '../../common/report.ts';
import type { BlockStates } from '../../state/block-state-map.ts';
import type { RequestMeter } from '../../targets/decorators/request-meter.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import { knownTotal } from '../context/progress.ts';
import type { BackupJob, BackupOptions, BackupProgress, BackupResult, JobStatus, WatchOptions } from './backup-job.ts';
import type { JobEnding } from './job-ending.ts';
import type { JobProgress } from './job-progress.ts';
import type { OutageRetries } from './outage-retries.ts';
import type { VolumeBackup } from './volume-backup.ts';

const FAILED = channel('cow-cloud-backup:job:failed');
const UNFINISHED_CODE = 'COW_BACKUP_UNFINISHED';
const DEFAULT_INTERVAL_MS = 250;
const WATCH_OPTIONS: Readonly<Record<keyof WatchOptions, true>> = { signal: true, intervalMs: true };

/** What the jobs of one session share. */
export interface SharedParts {
  readonly progress: JobProgress;
  readonly ending: JobEnding;
  readonly outages: OutageRetries;
  readonly meter: RequestMeter;
}

export interface JobParts extends SharedParts {
  readonly id: string;
  readonly volume: string;
  readonly session: number;
  readonly backup: VolumeBackup;
  readonly result: Promise<BackupResult>;
  readonly onProgress: BackupOptions['onProgress'];
}

/** The host's handle on one backup. It shows and controls the work of a {@link VolumeBackup}, and does none itself. */
export class JobHandle implements BackupJob {
  readonly id: string;
  readonly volume: string;
  readonly snapshot: VolumeSnapshot;
  /** The number of its session. */
  readonly session: number;
  readonly backup: VolumeBackup;
  readonly #parts: JobParts;
  readonly #done: Promise<BackupResult>;
  #ended: 'committed' | 'failed' | 'cancelled' | undefined;
  #isPaused = false;
  #isObserved = false;
  #doneBytes = 0;
  #reportedAt = Number.NEGATIVE_INFINITY;
  #reportTimer: NodeJS.Timeout | undefined;
  #unlisten = () => {};

  constructor(parts: JobParts) {
    this.#parts = parts;
    this.id = parts.id;
    this.volume = parts.volume;
    this.snapshot = parts.backup.snapshot;
    this.session = parts.session;
    this.backup = parts.backup;
    // The end is reported before the promise settles: after that the host's callback is never called again.
    this.#done = parts.result.then(
      (result) => {
        this.#end('committed');
        return result;
      },
      (error: unknown) => {
        // A commit whose outcome is not known may be in the log, so it does not count as cancelled.
        const isCancelled = parts.ending.isCancelled && !BackupError.is(error, 'COMMIT_UNKNOWN');
        this.#end(isCancelled ? 'cancelled' : 'failed');
        if (!this.#isObserved && !isCancelled) setImmediate(() => this.#warnOfFailure(error));
        throw error;
      },
    );
    this.#done.catch(() => {});
    noteUnfinished(this);
    if (parts.onProgress !== undefined) {
      this.#unlisten = parts.progress.listen(() => this.#reportSoon());
      this.#reportSoon();
    }
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
    // A repeated upload counts only when it gets further than the one before.
    this.#doneBytes = Math.max(
      this.#doneBytes,
      Math.min(totalBytes, safeBytes + this.#parts.backup.pipeline.sentBytes),
    );
    return {
      phase: this.#phase,
      status: this.status,
      outage: this.#ended === undefined ? this.#parts.outages.outage : undefined,
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
      const moved = this.#parts.progress.next();
      const isOver = this.#ended !== undefined;
      yield this.progress();
      if (isOver) return;
      await abortable(moved, signal);
      // While nothing moves, a watcher does not keep the process alive; after a movement this wait does.
      if (this.#ended === undefined) await abortable(this.#pause(intervalMs), signal);
    }
  }

  sweep(): this {
    this.#parts.backup.feed.sweep();
    this.#parts.progress.moved();
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

  /** As `cancel`, with another reason. */
  async abandon(reason: unknown): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#parts.ending.cancel(reason);
    await this.#done.catch(() => {});
  }

  get #phase(): string {
    if (this.#ended !== undefined) return this.#ended;
    const { outages, progress } = this.#parts;
    if (outages.outage !== undefined) return 'waiting';
    return progress.phase === 'storing' ? this.status : progress.phase;
  }

  /** Calls the host's callback: at once, or when `DEFAULT_INTERVAL_MS` have passed since the last call. */
  #reportSoon(): void {
    if (this.#reportTimer !== undefined) return;
    const waitMs = this.#reportedAt + DEFAULT_INTERVAL_MS - performance.now();
    if (waitMs <= 0) this.#report();
    else this.#reportTimer = setTimeout(() => this.#report(), waitMs).unref();
  }

  #report(): void {
    clearTimeout(this.#reportTimer);
    this.#reportTimer = undefined;
    this.#reportedAt = performance.now();
    report('onProgress', this.#parts.onProgress, this.progress());
  }

  #setPaused(isPaused: boolean): void {
    if (this.#ended !== undefined) return;
    this.#isPaused = isPaused;
    this.#parts.backup.feed.pause(isPaused);
    this.#parts.progress.moved();
  }

  #end(how: 'committed' | 'failed' | 'cancelled'): void {
    this.#ended = how;
    noteFinished(this);
    this.#unlisten();
    this.#report();
    this.#parts.progress.moved();
  }

  /** Waits, at most until the job ends. */
  #pause(intervalMs: number): Promise<unknown> {
    const waiting = Promise.withResolvers<void>();
    const timer = setTimeout(waiting.resolve, intervalMs);
    return Promise.race([waiting.promise, this.#done.catch(() => {})]).finally(() => clearTimeout(timer));
  }

  #warnOfFailure(error: unknown): void {
    FAILED.publish({ job: this, error });
    process.emitWarning(
      `the backup of volume ${this.volume} failed, and the program did not handle the rejection of job.done: ${String(error)}`,
      {
        code: 'COW_BACKUP_FAILED',
      },
    );
  }
}

/**
 * The jobs that are under way in this process. A lazy job does not keep the process alive, so a program that forgets to
 * sweep would end without a backup and without an error. It gets one warning.
 */
const unfinished = new Set<BackupJob>();
let hasWarned = false;

function noteUnfinished(job: BackupJob): void {
  if (unfinished.size === 0) process.on('beforeExit', warnEarly).on('exit', warnLate);
  unfinished.add(job);
}

function noteFinished(job: BackupJob): void {
  unfinished.delete(job);
  if (unfinished.size === 0) process.off('beforeExit', warnEarly).off('exit', warnLate);
}

/** For a program that has nothing left to do. */
function warnEarly(): void {
  if (hasWarned) return;
  hasWarned = true;
  process.emitWarning(unfinishedText(), { code: UNFINISHED_CODE });
}

/** For a program that called `process.exit`: a process warning is queued, and would not be shown any more. */
function warnLate(): void {
  if (hasWarned) return;
  hasWarned = true;
  process.stderr.write(`(cow-cloud-backup) [${UNFINISHED_CODE}] Warning: ${unfinishedText()}\n`);
}

function unfinishedText(): string {
  const jobs = [...unfinished].map(({ volume, status }) => `${JSON.stringify(volume)} (${status})`);
  return `the process ends while backups are under way, and they are lost: ${jobs.join(', ')}; call job.sweep() and await job.done, or close the job`;
}
