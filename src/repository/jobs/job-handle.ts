import { channel } from 'node:diagnostics_channel';
import { type AbortOptions, abortable } from '../../common/abort.ts';
import { integerArgument } from '../../common/arguments.ts';
import type { BlockStates } from '../../state/block-state-map.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import type { RequestMeter } from '../requests/request-meter.ts';
import type { BackupJob, BackupProgress, BackupResult, JobStatus } from './backup-job.ts';
import type { BackupRun } from './backup-run.ts';
import type { VolumeBackup } from './volume-backup.ts';

const FAILED = channel('cow-cloud-backup:job:failed');
const DEFAULT_INTERVAL_MS = 250;

/** What a handle shows and steers. */
export interface JobParts {
  readonly id: string;
  readonly volume: string;
  readonly snapshot: VolumeSnapshot;
  readonly backup: VolumeBackup;
  readonly run: BackupRun;
  readonly meter: RequestMeter;
  readonly result: Promise<BackupResult>;
  readonly ending: Ending;
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
  readonly #parts: JobParts;
  readonly #done: Promise<BackupResult>;
  #ended: 'committed' | 'failed' | 'cancelled' | undefined;
  #isPaused = false;
  #isObserved = false;
  #moved = Promise.withResolvers<void>();

  constructor(parts: JobParts) {
    this.#parts = parts;
    this.id = parts.id;
    this.volume = parts.volume;
    this.snapshot = parts.snapshot;
    this.#done = parts.result;
    this.#done.then(
      () => this.#end('committed'),
      (error: unknown) => {
        const { isCancelled } = this.#parts.ending;
        this.#end(isCancelled ? 'cancelled' : 'failed');
        if (!this.#isObserved && !isCancelled) this.#report(error);
      },
    );
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
    const { uploadBytes, requests } = this.#parts.meter;
    const totalBlocks = this.states.blockCount - counts.inherited;
    const doneBlocks = counts.stored + counts.zero + counts.lost;
    const bytes = (blocks: number) => Math.min(size, blocks * blockSize);
    return {
      phase: this.#phase,
      status: this.status,
      counts,
      doneBytes: bytes(doneBlocks),
      totalBytes: bytes(totalBlocks),
      transferredBytes: uploadBytes,
      requests,
    };
  }

  async *watch({ signal, intervalMs = DEFAULT_INTERVAL_MS }: AbortOptions & { intervalMs?: number | undefined } = {}) {
    integerArgument('intervalMs', intervalMs, 0);
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

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cancel();
  }

  /** As `cancel`, with a reason of one's own. @internal */
  async abandon(reason: unknown): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#parts.ending.cancel(reason);
    await this.#done.catch(() => {});
  }

  /** @internal */
  get backup(): VolumeBackup {
    return this.#parts.backup;
  }

  /** There is progress. @internal */
  moved(): void {
    this.#moved.resolve();
    this.#moved = Promise.withResolvers();
  }

  get #phase(): string {
    if (this.#ended !== undefined) return this.#ended;
    return this.#parts.run.phase === 'committing' ? 'committing' : this.status;
  }

  #setPaused(isPaused: boolean): void {
    if (this.#ended !== undefined) return;
    this.#isPaused = isPaused;
    this.#parts.backup.feed.pause(isPaused);
    this.moved();
  }

  #end(how: 'committed' | 'failed' | 'cancelled'): void {
    this.#ended = how;
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
    process.emitWarning(`the backup of ${this.volume} failed and nobody looked at job.done: ${String(error)}`, {
      code: 'COW_BACKUP_FAILED',
    });
  }
}
