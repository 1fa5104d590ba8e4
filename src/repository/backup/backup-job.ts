import type { AbortOptions } from '../../common/abort.ts';
import type { BackupError } from '../../common/errors.ts';
import type { BlockState } from '../../state/block-state.ts';
import type { BlockStates } from '../../state/block-state-map.ts';
import type { RequestBudget } from '../../targets/decorators/request-meter.ts';
import type { CopyOnWriteVolume } from '../../volume/copy-on-write-volume.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import type { BackupInfo } from '../context/backup-info.ts';
import type { Progress, ProgressOptions } from '../context/progress.ts';
import type { ChangeSource } from './backup-plan.ts';
import type { Outage } from './outage-retries.ts';
import type { ChangeReason } from './witnessed-commits.ts';

/** What is backed up: a snapshot, or a volume that is frozen for the backup. @public */
export type BackupSource = CopyOnWriteVolume | VolumeSnapshot;

/**
 * - `lazy`: the job stores only blocks that are about to be overwritten
 * - `sweeping`: the job also stores the remaining blocks, in order
 * - `paused`: the job stores nothing for now; blocks that are overwritten are still preserved
 * - `committed`, `failed`, `cancelled`, `suspended`: the job has ended, see `done`
 *
 * @public
 */
export type JobStatus = 'lazy' | 'sweeping' | 'paused' | 'committed' | 'failed' | 'cancelled' | 'suspended';

/**
 * The progress of a backup.
 *
 * `phase` is the status, or `uploading` (everything has been read, and the last packs are being sent), `committing`, or
 * `waiting` (the target can't be reached, see `outage`). `doneBytes` counts blocks that are safe, because they are stored or
 * need not be stored, and the sent part of packs that are being uploaded, if the target reports it. `transferredBytes`
 * counts everything that has been sent. Neither ever decreases, so a rate and a remaining time can be computed from two
 * reports.
 *
 * @public
 */
export interface BackupProgress extends Progress {
  readonly status: JobStatus;
  /** Set while the job waits for a target that can't be reached: see `outageMs` of `BackupOptions`. */
  readonly outage: Outage | undefined;
  /** The number of blocks in each state. */
  readonly counts: Readonly<Record<BlockState, number>>;
}

/** Options of one backup. @public */
export interface BackupOptions extends ProgressOptions<BackupProgress> {
  /** The name of the volume in the repository, 1 to 1,024 bytes of UTF-8. Backups under one name form one series. */
  volume: string;
  /** The id of the backup to build on; `'none'` for a full backup. @defaultValue the latest backup of the volume */
  base?: string | 'none' | undefined;
  /** Text that is stored with the backup: at most 64 KiB of UTF-8, names and values together. */
  metadata?: Readonly<Record<string, string>> | undefined;
  /** A limit for the requests of this backup: it fails with `BUDGET_EXCEEDED` before it would exceed one. */
  budget?: RequestBudget | undefined;
  /**
   * Take the volume over from another backup of it that is under way. That backup can't be committed any more. Sessions of
   * processes that are known to be dead are always taken over: see `listSessions`. @defaultValue false
   */
  takeOver?: boolean | undefined;
  /**
   * How many of the blocks that change tracking reports as unchanged are read and compared with the base, to detect writes
   * that went past the volume. This may cost requests. @defaultValue up to 32 blocks whose map is in memory, without requests
   */
  sampleBlocks?: number | undefined;
  /**
   * How long each request is repeated while the target can't be reached, in milliseconds; with `Infinity` until the job is
   * cancelled. Failures that will not pass by themselves (a refused permission, a full disk) are not waited for. Blocks that
   * are overwritten in the meantime are preserved within the limits of the volume. @defaultValue 3_600_000, an hour
   */
  outageMs?: number | undefined;
}

/** One backup of a group. @public */
export type GroupPart = { source: BackupSource } & Omit<BackupOptions, 'budget' | 'outageMs'>;

/** Options of a whole group. @public */
export interface GroupOptions extends AbortOptions {
  /** A limit for the requests of the whole group: it fails with `BUDGET_EXCEEDED` before it would exceed one. */
  budget?: RequestBudget | undefined;
  /** See `outageMs` of `BackupOptions`. @defaultValue 3_600_000, an hour */
  outageMs?: number | undefined;
}

/** Backups that are committed together. A tuple of parts has a tuple of jobs and of results. @public */
export interface BackupGroup<Parts extends readonly unknown[] = readonly unknown[]> {
  /** One for each part, in the same order. */
  readonly jobs: { readonly [K in keyof Parts]: BackupJob };
  /** The results of all jobs, or the one failure of all. It counts as handled, as `done` of a job does. */
  readonly done: Promise<{ readonly [K in keyof Parts]: BackupResult }>;
}

/** Options of `BackupJob.watch`. @public */
export interface WatchOptions extends AbortOptions {
  /** The least time between two reports, in milliseconds. @defaultValue 250 */
  intervalMs?: number | undefined;
}

/** The result of a backup. @public */
export interface BackupResult extends BackupInfo {
  /**
   * How the changed blocks were found: by the volume's change tracking (`tracked`), by comparing all contents with the base
   * (`compared`), or not at all, because there was no usable base (`everything`).
   */
  readonly changeSource: ChangeSource;
  /** Why change tracking was not used; `undefined` if it was. */
  readonly changeReason: ChangeReason | undefined;
  /** Bytes read from the snapshot. */
  readonly readBytes: number;
  /**
   * Stored bytes of blocks that were not uploaded, because an earlier backup of the volume had uploaded them when it was
   * interrupted. They are a part of `uploadedBytes`.
   */
  readonly adoptedBytes: number;
  /** Requests to the target; of a group, the requests of the whole group. */
  readonly requests: number;
  /** What the host should know although the backup is good, for example `CHANGE_TRACKING_WRONG`. */
  readonly warnings: readonly BackupError[];
}

/**
 * A backup that is under way. It is never thenable, so `async` functions can return it.
 *
 * @public
 */
export interface BackupJob extends AsyncDisposable {
  /** The id that the backup will have. */
  readonly id: string;
  /** The volume's name in the repository. */
  readonly volume: string;
  readonly status: JobStatus;
  /** The state of every block. */
  readonly states: BlockStates;
  /** The job's own handle on the snapshot. */
  readonly snapshot: VolumeSnapshot;
  /**
   * Settles when the job ends. It counts as handled from the start: if the program never reads `done`, a failure is not a
   * crash but a process warning, and a message on the diagnostics channel `cow-cloud-backup:job:failed`. For a cancelled job
   * it rejects with an `AbortError`, or with `signal.reason`.
   */
  readonly done: Promise<BackupResult>;
  progress(): BackupProgress;
  /**
   * Yields the progress now, after each change, and once at the end. It throws only if its signal aborts. Leaving the loop
   * does not cancel the job.
   */
  watch(options?: WatchOptions): AsyncIterable<BackupProgress>;
  /** Starts to store the remaining blocks too, in order. */
  sweep(): this;
  pause(): void;
  /** Continues after a pause. */
  resume(): void;
  /**
   * Gives the backup up, and what it has uploaded. An aborted signal, `suspend` and a failure leave that to the next backup of
   * the volume. This needs no request, unless the commit has been sent already: then it waits for the outcome, and a committed
   * backup stays.
   */
  cancel(): Promise<void>;
  /** Does the same as `cancel`. */
  close(): Promise<void>;
  /**
   * Stops, and leaves what has been uploaded to the next backup of the volume. `resumeBackup` could continue with the same
   * instant; that needs a volume with a state directory, which does not exist yet.
   */
  suspend(): Promise<void>;
}
