import { systemClock, type TargetClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';

/** A target that can't be reached. @public */
export interface Outage {
  /** When the first request failed, by the clock of this machine. */
  readonly since: Date;
  /** The error of the last failed request. */
  readonly error: BackupError;
}

interface Wait {
  readonly since: Date;
  /** On the clock that measures the wait, in milliseconds. */
  readonly startedAt: number;
  error: BackupError;
}

/** The default of `outageMs`: an hour. */
export const DEFAULT_OUTAGE_MS = 60 * 60 * 1000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;
/** Retryable failures of a target that can be reached: if a few attempts don't help, waiting for hours won't either. */
const BRIEF: readonly string[] = ['OBJECT_CONFLICT', 'CHECKSUM_MISMATCH'];
const MAX_BRIEF_FAILURES = 8;

/** Options of {@link OutageRetries}. */
export interface OutageOptions {
  /** How long one request is repeated after its first failure, in milliseconds. */
  readonly outageMs: number;
  /** Ends every wait at once. */
  readonly signal: AbortSignal;
  /** Called when a wait begins and when it ends. */
  readonly onChange: () => void;
  readonly clock?: TargetClock | undefined;
  /** Numbers from 0 to 1, for the jitter. */
  readonly random?: (() => number) | undefined;
}

/**
 * Repeats the requests of a job while its target can't be reached, so that an outage does not throw away what was uploaded
 * before. Failures that will not pass by themselves (a refused permission, a deleted bucket, a full disk) are thrown at
 * once.
 */
export class OutageRetries {
  readonly #options: OutageOptions;
  readonly #clock: TargetClock;
  readonly #random: () => number;
  /** One for each request that is being repeated, oldest first. */
  readonly #waits = new Set<Wait>();

  constructor(options: OutageOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
  }

  /** The outage that has lasted longest, if any request is being repeated now. */
  get outage(): Outage | undefined {
    const [oldest] = this.#waits;
    return oldest && { since: oldest.since, error: oldest.error };
  }

  /** @throws the last failure when the time is over; `signal.reason` */
  async run<T>(work: () => Promise<T>, mayPass: (error: unknown) => boolean = isOutage): Promise<T> {
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
          if (BRIEF.includes(error.code) && ++brief >= MAX_BRIEF_FAILURES) throw error;
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

  /** The length of the next pause; `undefined` when the time is over. */
  #pauseMs(error: BackupError, failures: number, startedAt: number): number | undefined {
    const leftMs = this.#options.outageMs - (this.#clock.now() - startedAt);
    const askedMs = error.retryAfterMs ?? 0;
    // A request earlier than the store has asked for would only add to its load.
    if (leftMs <= 0 || askedMs > leftMs) return undefined;
    const limitMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures, 16));
    return Math.min(leftMs, Math.max(askedMs, Math.ceil(this.#random() * limitMs)));
  }
}

/** Errors after which the backup as a whole may be made again, but not the request: their cause does not pass. */
const FINAL: readonly string[] = ['PACK_CONDEMNED', 'SESSION_SHARED'];

/** Whether an entry may be sent again: it can't get two numbers. */
export function mayBeSentAgain(error: unknown): boolean {
  return isOutage(error) || BackupError.is(error, 'COMMIT_UNKNOWN');
}

/** Whether a request failed in a way that may pass by itself. */
export function isOutage(error: unknown): boolean {
  return BackupError.is(error) && error.retryable && !FINAL.includes(error.code);
}
