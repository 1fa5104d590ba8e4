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

/** What a backup is made of: a snapshot, or a volume that is frozen for it. @public */
export type BackupSource = CopyOnWriteVolume | VolumeSnapshot;

/**
 * - `lazy`: stores what is about to be overwritten, and nothing else
 * - `sweeping`: stores the remaining blocks in order as well
 * - `paused`: stores nothing for now; what is overwritten is preserved still
 * - `committed`, `failed`, `cancelled`, `suspended`: over, see `done`
 *
 * @public
 */
export type JobStatus = 'lazy' | 'sweeping' | 'paused' | 'committed' | 'failed' | 'cancelled' | 'suspended';

/**
 * How far a backup has got.
 *
 * `phase` is the status, or `uploading` (everything has been read, and the last packs are on their way), `committing`, or
 * `waiting` (the target can't be reached, see `outage`). `doneBytes` counts blocks that are safe, in the store or because
 * they need not be stored, and of packs on their way the part that has been sent, where the target tells;
 * `transferredBytes` counts what has been sent. Neither ever goes back, so that a rate and a remaining time can be computed
 * from two reports.
 *
 * @public
 */
export interface BackupProgress extends Progress {
  readonly status: JobStatus;
  /** Set while the job waits for a target that can't be reached; see `outageMs` of `BackupOptions`. */
  readonly outage: Outage | undefined;
  /** Blocks by their state. */
  readonly counts: Readonly<Record<BlockState, number>>;
}

/** Options of one backup. @public */
export interface BackupOptions extends ProgressOptions<BackupProgress> {
  /** The volume's name in the repository, not empty. Backups of one name follow each other. */
  volume: string;
  /** The backup to build on, by id; `'none'` for a full one. @defaultValue the volume's latest */
  base?: string | 'none' | undefined;
  /** Text that is stored with the backup, at most 64 KiB of names and values together. */
  metadata?: Readonly<Record<string, string>> | undefined;
  /** The most that this backup may ask of the target; `BUDGET_EXCEEDED` before it would ask for more. */
  budget?: RequestBudget | undefined;
  /**
   * Take the volume over from another backup of it that is under way, which can't be committed any more. Sessions of processes
   * that are known to be dead are always taken over, see `listSessions`. @defaultValue false
   */
  takeOver?: boolean | undefined;
  /**
   * How many of the blocks that change tracking reports as unchanged are read and compared with the base, which may cost
   * requests. @defaultValue up to 32 blocks whose map is in memory, which costs no request
   */
  sampleBlocks?: number | undefined;
  /**
   * How long the job waits for a target that can't be reached, in milliseconds for each request; with `Infinity` it waits
   * until it is cancelled. It does not wait for failures that need somebody's help (a refused permission, a full disk).
   * Blocks that are overwritten in the meantime are preserved within the volume's limits. @defaultValue 3_600_000, an hour
   */
  outageMs?: number | undefined;
}

/** One backup of a group. @public */
export type GroupPart = { source: BackupSource } & Omit<BackupOptions, 'budget' | 'outageMs'>;

/** Options of a group as a whole. @public */
export interface GroupOptions extends AbortOptions {
  /** The most that all of it may ask of the target; `BUDGET_EXCEEDED` before it would ask for more. */
  budget?: RequestBudget | undefined;
  /** As of one backup: see `BackupOptions`. @defaultValue 3_600_000, an hour */
  outageMs?: number | undefined;
}

/** Options of `BackupJob.watch`. @public */
export interface WatchOptions extends AbortOptions {
  /** The least time between two reports, in milliseconds. @defaultValue 250 */
  intervalMs?: number | undefined;
}

/** The outcome of a backup. @public */
export interface BackupResult extends BackupInfo {
  /**
   * Where the knowledge of what changed came from: the volume's change tracking; comparing all contents with the base;
   * or there was no usable base.
   */
  readonly changeSource: ChangeSource;
  /** Why the volume's change tracking was not used; `undefined` where it was. */
  readonly changeReason: ChangeReason | undefined;
  /** Bytes read from the snapshot. */
  readonly readBytes: number;
  /** Requests made of the target. Of a group: by all of it. */
  readonly requests: number;
  /** What the host should know although the backup is good, such as `CHANGE_TRACKING_WRONG`. */
  readonly warnings: readonly BackupError[];
}

/**
 * A backup on its way. Never thenable, so that it can be returned from `async` functions.
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
  /** The job's own handle on the instant. */
  readonly snapshot: VolumeSnapshot;
  /**
   * Settles when the job is over. It counts as handled from the start: a failure that nobody looks at is a process
   * warning and a message on the diagnostics channel `cow-cloud-backup:job:failed`, not a crash. Of a cancelled job it
   * rejects with an `AbortError`, or with `signal.reason`.
   */
  readonly done: Promise<BackupResult>;
  progress(): BackupProgress;
  /**
   * Tells of progress, now and whenever there is some, and once in the end. Never throws but by its signal; leaving it
   * cancels nothing.
   */
  watch(options?: WatchOptions): AsyncIterable<BackupProgress>;
  /** The second instruction: store the remaining blocks, in order. */
  sweep(): this;
  pause(): void;
  /** Goes on after a pause, as it was before. */
  resume(): void;
  /**
   * Gives the backup up. Needs no network until the commit's own request has been sent; after that it waits for the
   * outcome, and a backup that has been committed stays.
   */
  cancel(): Promise<void>;
  /** As `cancel`. */
  close(): Promise<void>;
  /**
   * Stops so that `resumeBackup` can go on. Only a volume with a state directory can keep what that takes, and there is
   * none yet: for now this cancels.
   */
  suspend(): Promise<void>;
}
