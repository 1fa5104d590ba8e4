import { functionArgument, integerArgument, optionsArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { systemClock, type TargetClock } from '../clock.ts';
import type { CloudTarget, ListOptions, ObjectInfo, PutOptions } from '../cloud-target.ts';
import { bodyArgument, clockArgument, putOptions } from '../target-arguments.ts';
import { type ClosableTarget, ForwardingTarget, type TargetCall } from './forwarding-target.ts';

/** Options of {@link withRetries}. @public */
export interface RetryOptions {
  /** How often a call is made in all, the first time included; from 1. @defaultValue 6 */
  attempts?: number | undefined;
  /** The longest pause before the second attempt, in milliseconds; it doubles with each one after. @defaultValue 200 */
  baseDelayMs?: number | undefined;
  /** The longest pause before any attempt, in milliseconds. @defaultValue 20_000 */
  maxDelayMs?: number | undefined;
  /**
   * The longest pause that the store may ask for (`Retry-After`), in milliseconds. If it asks for a longer one, the call
   * rejects at once, because an earlier request would only add to the load. @defaultValue 60_000
   */
  maxRetryAfterMs?: number | undefined;
  /** Replaced in tests. */
  clock?: Pick<TargetClock, 'sleep'> | undefined;
  /** Numbers from 0 to 1 for the jitter. @defaultValue Math.random */
  random?: (() => number) | undefined;
}

/**
 * Makes calls again that failed with a `retryable` error, after pauses that grow exponentially with full jitter
 * (a pause is anywhere from nothing to its limit, so that many clients don't come back as one), and not
 * before the time that the other side asked for.
 *
 * - A create-only put is **never** repeated. Its failure may mean that it took effect, and a repeat would then
 *   lose the race against itself; the caller reads the object back and decides.
 * - A listing continues after the last key that it gave; each key resets the number of attempts.
 * - When the attempts are used up the last error is thrown as it came.
 * - Bodies are copied once, since an attempt given up may still be reading its buffer after a later one
 *   has succeeded and the caller has the right to refill it.
 *
 * @throws `TypeError` for a target that is none and an option that is unknown or out of range. Calls throw the error of the last attempt, and
 * `signal.reason` when they are aborted while they wait.
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
  readonly #attempts: number;
  readonly #baseDelayMs: number;
  readonly #maxDelayMs: number;
  readonly #maxRetryAfterMs: number;
  readonly #clock: Pick<TargetClock, 'sleep'>;
  readonly #random: () => number;

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
    this.#attempts = integerArgument('options.attempts', attempts, 1);
    this.#baseDelayMs = integerArgument('options.baseDelayMs', baseDelayMs, 0);
    this.#maxDelayMs = integerArgument('options.maxDelayMs', maxDelayMs, 0);
    this.#maxRetryAfterMs = integerArgument('options.maxRetryAfterMs', maxRetryAfterMs, 0);
    this.#clock = clockArgument('options.clock', clock, ['sleep']);
    this.#random = functionArgument('options.random', random);
  }

  override async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<void> {
    const { createOnly } = putOptions(options);
    const given = bodyArgument(body);
    const repeated = !createOnly && this.#attempts > 1;
    return super.put(key, repeated ? new Uint8Array(given) : given, options);
  }

  protected override async around<T>(call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    if (call.createOnly) return invoke();
    for (let attempt = 1; ; attempt++) {
      try {
        return await invoke();
      } catch (error) {
        await this.#pause(error, attempt, call.signal);
      }
    }
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    let { after } = options;
    for (let attempt = 1; ; attempt++) {
      try {
        for await (const info of this.inner.list(prefix, { ...options, after })) {
          yield info;
          after = info.key;
          attempt = 1;
        }
        return;
      } catch (error) {
        await this.#pause(error, attempt, options.signal);
      }
    }
  }

  /** Waits before the next attempt, or throws `error` when there is to be none. */
  async #pause(error: unknown, attempt: number, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (!BackupError.is(error) || !error.retryable || attempt >= this.#attempts) throw error;
    const askedMs = error.retryAfterMs ?? 0;
    if (askedMs > this.#maxRetryAfterMs) throw error;
    const limitMs = Math.min(this.#maxDelayMs, this.#baseDelayMs * 2 ** (attempt - 1));
    await this.#clock.sleep(Math.max(askedMs, Math.round(this.#random() * limitMs)), signal);
  }
}
