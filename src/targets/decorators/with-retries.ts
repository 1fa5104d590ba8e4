import { functionArgument, integerArgument, optionsArgument } from '../../common/arguments.ts';
import { systemClock, type TargetClock } from '../../common/clock.ts';
import { Retries, type RetryPolicy, retry } from '../../common/retry.ts';
import type { CloudTarget, ListOptions, ObjectInfo, PutOptions, PutResult } from '../cloud-target.ts';
import { bodyArgument, clockArgument, putOptions } from '../target-arguments.ts';
import { type ClosableTarget, ForwardingTarget, type TargetCall } from './forwarding-target.ts';

/** Options of {@link withRetries}. @public */
export interface RetryOptions {
  /** The number of attempts in all, the first one included; from 1. @defaultValue 6 */
  attempts?: number | undefined;
  /** The longest pause before the second attempt, in milliseconds. It doubles with each further attempt. @defaultValue 200 */
  baseDelayMs?: number | undefined;
  /** The longest pause before any attempt, in milliseconds. @defaultValue 20_000 */
  maxDelayMs?: number | undefined;
  /**
   * The longest pause that the store may ask for (`Retry-After`), in milliseconds. If it asks for a longer one, the call rejects at
   * once, because an earlier request would only add to the load. @defaultValue 60_000
   */
  maxRetryAfterMs?: number | undefined;
  /** Replaced in tests. */
  clock?: Pick<TargetClock, 'sleep'> | undefined;
  /** Numbers from 0 to 1 for the jitter. @defaultValue Math.random */
  random?: (() => number) | undefined;
}

/**
 * Repeats calls that failed with a `retryable` error, after pauses that grow exponentially and have full jitter (a pause is anywhere
 * from nothing to its limit, so that many clients do not come back at the same moment), and not before the time that the store
 * asked for.
 *
 * - A create-only put is **never** repeated. It may have taken effect although it failed, and would then lose the race against
 *   itself. The caller reads the object back and decides.
 * - A listing continues after its last key. Each key resets the number of attempts.
 * - After the last attempt, its error is thrown as it is.
 * - Bodies are copied once, because an abandoned attempt may still read its buffer after a later one has succeeded, when the
 *   caller may refill it.
 *
 * @example
 * ```ts
 * // Five attempts, with pauses of up to 200 ms, 400 ms and so on, and never more than 10 seconds.
 * await using target = withRetries(offsite, { attempts: 5, baseDelayMs: 200, maxDelayMs: 10_000 });
 * await using repository = await BackupRepository.open(target, { unlock: { passphrase } });
 * ```
 *
 * @throws `TypeError` for an invalid target and for an option that is unknown or out of range. Calls throw the error of the last
 * attempt, and `signal.reason` if they are aborted while they wait.
 * @public
 */
export function withRetries(target: CloudTarget, options: RetryOptions = {}): ClosableTarget {
  return new RetryingTarget(target, options);
}

const KNOWN = {
  attempts: true,
  baseDelayMs: true,
  maxDelayMs: true,
  maxRetryAfterMs: true,
  clock: true,
  random: true,
} as const;

class RetryingTarget extends ForwardingTarget {
  readonly #policy: RetryPolicy;

  constructor(inner: CloudTarget, options: RetryOptions) {
    super(inner, 'this target with retries');
    const {
      attempts = 6,
      baseDelayMs = 200,
      maxDelayMs = 20_000,
      maxRetryAfterMs = 60_000,
      clock = systemClock,
      random = Math.random,
    } = optionsArgument('options', options, KNOWN);
    clockArgument('options.clock', clock, ['sleep']);
    this.#policy = {
      attempts: integerArgument('options.attempts', attempts, 1),
      baseDelayMs: integerArgument('options.baseDelayMs', baseDelayMs, 0),
      maxDelayMs: integerArgument('options.maxDelayMs', maxDelayMs, 0),
      maxRetryAfterMs: integerArgument('options.maxRetryAfterMs', maxRetryAfterMs, 0),
      sleep: (delayMs, signal) => clock.sleep(delayMs, signal),
      random: functionArgument('options.random', random),
    };
  }

  override async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<PutResult> {
    const { createOnly } = putOptions(options);
    const given = bodyArgument(body);
    const repeated = !createOnly && this.#policy.attempts > 1;
    return super.put(key, repeated ? new Uint8Array(given) : given, options);
  }

  protected override around<T>(call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    return call.createOnly ? invoke() : retry(invoke, this.#policy, call.signal);
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    const retries = new Retries(this.#policy, options.signal);
    let { after } = options;
    for (;;) {
      try {
        for await (const info of this.inner.list(prefix, { ...options, after })) {
          yield info;
          after = info.key;
          retries.reset();
        }
        return;
      } catch (error) {
        await retries.pause(error);
      }
    }
  }
}
