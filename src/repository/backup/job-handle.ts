import { channel } from 'node:diagnostics_channel';
import { abortable } from '../../common/abort.ts';
import { integerArgument, optionsArgument, signalArgument } from '../../common/arguments.ts';
import { BackgroundResult } from '../../common/background-result.ts';
import { BackupError } from '../../common/errors.ts';
import { PacedReports, REPORT_EVERY_MS } from '../../common/paced-reports.ts';
import { report } from '../../common/report.ts';
import { noteFinished, noteUnfinished, type UnfinishedBackup } from '../../common/unfinished-backups.ts';
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
export class JobHandle implements BackupJob, UnfinishedBackup {
  readonly id: string;
  readonly volume: string;
  readonly snapshot: VolumeSnapshot;
  /** The number of its session. */
  readonly session: number;
  readonly backup: VolumeBackup;
  readonly #parts: JobParts;
  readonly #result: BackgroundResult<BackupResult>;
  readonly #reports: PacedReports;
  #ended: 'committed' | 'failed' | 'cancelled' | undefined;
  #isPaused = false;
  #doneBytes = 0;
  #unlisten = () => {};

  constructor(parts: JobParts) {
    this.#parts = parts;
    this.id = parts.id;
    this.volume = parts.volume;
    this.snapshot = parts.backup.snapshot;
    this.session = parts.session;
    this.backup = parts.backup;
    this.#reports = new PacedReports(() => report('onProgress', parts.onProgress, this.progress()));
    // The end is reported before the promise settles: after that the host's callback is never called again.
    const result = parts.result.then(
      (result) => {
        this.#end('committed');
        return result;
      },
      (error: unknown) => {
        // A commit whose outcome is not known may be in the log, so it does not count as cancelled.
        const isCancelled = parts.ending.isCancelled && !BackupError.is(error, 'COMMIT_UNKNOWN');
        this.#end(isCancelled ? 'cancelled' : 'failed');
        throw error;
      },
    );
    this.#result = new BackgroundResult(result, (error) => {
      if (this.#ended === 'failed') this.#warnOfFailure(error);
    });
    noteUnfinished(this);
    if (parts.onProgress !== undefined) {
      this.#unlisten = parts.progress.listen(() => this.#reports.note());
      this.#reports.note();
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
    return this.#result.observed;
  }

  progress(): BackupProgress {
    const { counts } = this.states;
    const { blockSize, size } = this.snapshot;
    const { sentBytes, requests } = this.#parts.meter;
    const bytes = (blocks: number) => Math.min(size, blocks * blockSize);
    const totalBytes = bytes(this.states.blockCount - counts.inherited);
    const safeBytes = bytes(counts.stored + counts.zero + counts.lost);
    // A repeated upload counts only when it gets further than the one before.
    this.#doneBytes = Math.max(this.#doneBytes, Math.min(totalBytes, safeBytes + this.#parts.backup.stage.sentBytes));
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
    const { intervalMs = REPORT_EVERY_MS } = options;
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
    await this.#abandon(new DOMException('the backup was cancelled', 'AbortError'), false);
  }

  async suspend(): Promise<void> {
    await this.#abandon(new DOMException('the backup was suspended', 'AbortError'), true);
  }

  close(): Promise<void> {
    return this.cancel();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.cancel();
  }

  describe(): string {
    return `${JSON.stringify(this.volume)} (${this.status})`;
  }

  async #abandon(reason: unknown, keepsUploads: boolean): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#parts.ending.cancel(reason, keepsUploads);
    await this.#result.settled();
  }

  get #phase(): string {
    if (this.#ended !== undefined) return this.#ended;
    const { outages, progress } = this.#parts;
    if (outages.outage !== undefined) return 'waiting';
    return progress.phase === 'storing' ? this.status : progress.phase;
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
    this.#reports.end();
    this.#parts.progress.moved();
  }

  /** Waits, at most until the job ends. */
  #pause(intervalMs: number): Promise<unknown> {
    const waiting = Promise.withResolvers<void>();
    const timer = setTimeout(waiting.resolve, intervalMs);
    return Promise.race([waiting.promise, this.#result.settled()]).finally(() => clearTimeout(timer));
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
