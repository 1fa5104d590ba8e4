import { BackupError } from '../../common/errors.ts';
import { systemClock, type TargetClock } from '../../targets/clock.ts';

/** That the target can't be reached, and since when. @public */
export interface Outage {
  /** By this machine's clock. */
  readonly since: Date;
  /** What the last request failed with. */
  readonly error: BackupError;
}

interface Wait {
  readonly since: Date;
  /** By the clock that measures it. */
  readonly startedAt: number;
  error: BackupError;
}

/** How long a job waits for a target that can't be reached, unless its options say otherwise: an hour. */
export const DEFAULT_OUTAGE_MS = 60 * 60 * 1000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;
/** Failures that are retryable, and yet say nothing of the target being away: waiting for hours would not mend them. */
const BRIEF: readonly string[] = ['OBJECT_CONFLICT', 'CHECKSUM_MISMATCH'];
const MOST_BRIEF = 8;

/** Options of {@link JobPatience}. */
export interface PatienceOptions {
  /** How long one request is repeated after its first failure, in milliseconds. */
  readonly outageMs: number;
  /** Ends every wait at once. */
  readonly signal: AbortSignal;
  /** Called when a wait begins, and when one is over. */
  readonly onChange: () => void;
  readonly clock?: TargetClock | undefined;
  /** Numbers from 0 to 1, for the jitter. */
  readonly random?: (() => number) | undefined;
}

/**
 * Waits out a target that can't be reached: all requests of a job go through one of these, so that what has been sent so
 * far is not thrown away with the job. What will not pass by itself (a refused permission, a bucket that is gone, a full
 * disk) is not waited for.
 */
export class JobPatience {
  readonly #options: PatienceOptions;
  readonly #clock: TargetClock;
  readonly #random: () => number;
  /** One for each request that is being repeated, the oldest first. */
  readonly #waits = new Set<Wait>();

  constructor(options: PatienceOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
  }

  /** What is being waited for: the longest of the waits. */
  get outage(): Outage | undefined {
    const [oldest] = this.#waits;
    return oldest && { since: oldest.since, error: oldest.error };
  }

  /**
   * Repeats `work` while it fails in a way that may pass, with pauses that grow up to half a minute.
   *
   * @param mayPass - whether a failure is waited for
   * @throws the last failure when the time is over, and `signal.reason`
   */
  async through<T>(work: () => Promise<T>, mayPass: (error: unknown) => boolean = isOutage): Promise<T> {
    const { signal, onChange } = this.#options;
    let wait: Wait | undefined;
    let brief = 0;
    try {
      for (let failures = 0; ; failures++) {
        try {
          return await work();
        } catch (error) {
          signal.throwIfAborted();
          if (!BackupError.is(error) || !mayPass(error)) throw error;
          if (BRIEF.includes(error.code) && ++brief >= MOST_BRIEF) throw error;
          const startedAt = wait?.startedAt ?? this.#clock.now();
          const pauseMs = this.#pauseMs(error, failures, startedAt);
          if (pauseMs === undefined) throw error;
          if (wait === undefined) {
            wait = { since: new Date(), startedAt, error };
            this.#waits.add(wait);
            onChange();
          }
          wait.error = error;
          await this.#clock.sleep(pauseMs, signal);
        }
      }
    } finally {
      if (wait !== undefined) {
        this.#waits.delete(wait);
        onChange();
      }
    }
  }

  /** How long to wait, `undefined` when the time is over. */
  #pauseMs(error: BackupError, failures: number, startedAt: number): number | undefined {
    const leftMs = this.#options.outageMs - (this.#clock.now() - startedAt);
    const askedMs = error.retryAfterMs ?? 0;
    // Coming back earlier than the store has asked for would make matters worse.
    if (leftMs <= 0 || askedMs > leftMs) return undefined;
    const limitMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures, 16));
    return Math.min(leftMs, Math.max(askedMs, Math.ceil(this.#random() * limitMs)));
  }
}

/** The whole backup may be made again after these, and the request not: what they tell will not pass. */
const FINAL: readonly string[] = ['PACK_CONDEMNED', 'SESSION_SHARED'];

/** Whether a request has failed in a way that may pass by itself. */
export function isOutage(error: unknown): boolean {
  return BackupError.is(error) && error.retryable && !FINAL.includes(error.code);
}
