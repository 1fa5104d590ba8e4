import { systemClock, type TargetClock } from '../../common/clock.ts';
import { type RetryPolicy, retry } from '../../common/retry.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { withConcurrencyLimit } from '../../targets/decorators/with-concurrency-limit.ts';
import { withRetries } from '../../targets/decorators/with-retries.ts';

const LIMITS = { attempts: 4, baseDelayMs: 500, maxDelayMs: 20_000, maxRetryAfterMs: 60_000 } as const;
const REQUESTS_AT_A_TIME = 32;

/**
 * Repeats requests of a verification that fail in a way that may pass. Such a failure says nothing about what is stored: after
 * the last attempt the verification fails with it, and it never counts as damage.
 */
export class VerifyRetries {
  /** The target, with retries and a limit of concurrent requests. */
  readonly target: CloudTarget;
  readonly #policy: RetryPolicy;
  readonly #signal: AbortSignal;

  constructor(target: CloudTarget, signal: AbortSignal, clock: Pick<TargetClock, 'sleep'> = systemClock) {
    const retried = withRetries(target, { ...LIMITS, clock });
    this.target = withConcurrencyLimit(retried, { concurrency: REQUESTS_AT_A_TIME });
    this.#policy = { ...LIMITS, sleep: (delayMs, waiting) => clock.sleep(delayMs, waiting), random: Math.random };
    this.#signal = signal;
  }

  /** Repeats work that makes its requests with another target. */
  with<T>(work: () => Promise<T>): Promise<T> {
    return retry(work, this.#policy, this.#signal);
  }
}
