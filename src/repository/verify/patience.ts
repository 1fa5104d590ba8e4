import { systemClock, type TargetClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { withConcurrencyLimit } from '../../targets/decorators/with-concurrency-limit.ts';
import { withRetries } from '../../targets/decorators/with-retries.ts';

const ATTEMPTS = 4;
const BASE_DELAY_MS = 500;
const REQUESTS_AT_A_TIME = 32;

/**
 * What fails and may work a moment later says nothing of what is stored: it is tried again a few times, and then the
 * verification fails with it. It is never taken for damage.
 */
export class Patience {
  /** The same target, tried again. */
  readonly target: CloudTarget;
  readonly #clock: Pick<TargetClock, 'sleep'>;
  readonly #signal: AbortSignal;

  constructor(target: CloudTarget, signal: AbortSignal, clock: Pick<TargetClock, 'sleep'> = systemClock) {
    const retried = withRetries(target, { attempts: ATTEMPTS, baseDelayMs: BASE_DELAY_MS, clock });
    this.target = withConcurrencyLimit(retried, { concurrency: REQUESTS_AT_A_TIME });
    this.#clock = clock;
    this.#signal = signal;
  }

  /** Work that makes its requests elsewhere. */
  async with<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        this.#signal.throwIfAborted();
        if (!BackupError.is(error) || !error.retryable || attempt >= ATTEMPTS) throw error;
        const delayMs = error.retryAfterMs ?? Math.round(Math.random() * BASE_DELAY_MS * 2 ** attempt);
        await this.#clock.sleep(delayMs, this.#signal);
      }
    }
  }
}
