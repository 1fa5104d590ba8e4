import { BackupError } from './errors.ts';

/** How often, and with which pauses, something that failed is tried again. `RetryOptions` describes the numbers. */
export interface RetryPolicy {
  readonly attempts: number;
  readonly baseDelayMs: number;
  readonly maxDelayMs: number;
  /** Absent: a request (`retryAfterMs`) for a longer pause than `maxDelayMs` counts as one for `maxDelayMs`. */
  readonly maxRetryAfterMs?: number | undefined;
  readonly sleep: (delayMs: number, signal?: AbortSignal) => Promise<void>;
  /** Numbers from 0 to 1, for the jitter. */
  readonly random: () => number;
  /** Whether another attempt makes no sense after this error. @defaultValue {@link isFinal} */
  readonly isFinal?: ((error: unknown) => boolean) | undefined;
  /** Makes the error that is thrown after the last attempt. @defaultValue the last error itself */
  readonly exhausted?: ((error: unknown) => unknown) | undefined;
}

/** Whether an error is anything but a `BackupError` that is marked as `retryable`. */
export function isFinal(error: unknown): boolean {
  return !BackupError.is(error) || !error.retryable;
}

/**
 * Runs `work` until it succeeds, with pauses that grow exponentially and have full jitter: a pause is anywhere from nothing
 * to its limit, so that many clients do not come back at the same moment.
 *
 * @throws `signal.reason`; the error of the last attempt, or what the policy makes of it
 */
export async function retry<T>(work: () => Promise<T>, policy: RetryPolicy, signal?: AbortSignal): Promise<T> {
  const retries = new Retries(policy, signal);
  for (;;) {
    try {
      return await work();
    } catch (error) {
      await retries.pause(error);
    }
  }
}

/** The attempts of one operation that is more than one call: its loop calls {@link Retries.pause} after each failure. */
export class Retries {
  readonly #policy: RetryPolicy;
  readonly #signal: AbortSignal | undefined;
  #failures = 0;

  constructor(policy: RetryPolicy, signal?: AbortSignal) {
    this.#policy = policy;
    this.#signal = signal;
  }

  /** Starts to count anew: the operation has made progress. */
  reset(): void {
    this.#failures = 0;
  }

  /** Waits before the next attempt, or throws if there is to be none. */
  async pause(error: unknown): Promise<void> {
    this.#signal?.throwIfAborted();
    const { attempts, baseDelayMs, maxDelayMs, maxRetryAfterMs, sleep, random } = this.#policy;
    if ((this.#policy.isFinal ?? isFinal)(error)) throw error;
    this.#failures++;
    const askedMs = BackupError.is(error) ? (error.retryAfterMs ?? 0) : 0;
    if (this.#failures >= attempts || askedMs > (maxRetryAfterMs ?? Number.POSITIVE_INFINITY)) {
      throw this.#policy.exhausted?.(error) ?? error;
    }
    const leastMs = maxRetryAfterMs === undefined ? Math.min(askedMs, maxDelayMs) : askedMs;
    const limitMs = Math.min(maxDelayMs, baseDelayMs * 2 ** (this.#failures - 1));
    await sleep(Math.max(leastMs, Math.round(random() * limitMs)), this.#signal);
    this.#signal?.throwIfAborted();
  }
}
