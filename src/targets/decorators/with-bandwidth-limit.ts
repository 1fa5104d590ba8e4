import { integerArgument, limitArgument, optionsArgument } from '../../common/arguments.ts';
import { systemClock, type TargetClock } from '../../common/clock.ts';
import { isBytes } from '../../common/realms.ts';
import type { CloudTarget } from '../cloud-target.ts';
import { clockArgument } from '../target-arguments.ts';
import { type ClosableTarget, ForwardingTarget, type TargetCall } from './forwarding-target.ts';

/** Options of {@link withBandwidthLimit}. @public */
export interface BandwidthOptions {
  /** The bytes of bodies that `put` sends in a second, an integer from 1 or `Infinity`. @defaultValue Infinity */
  uploadBytesPerSecond?: number | undefined;
  /** The bytes of bodies that `get` receives in a second, an integer from 1 or `Infinity`. @defaultValue Infinity */
  downloadBytesPerSecond?: number | undefined;
  /** The unused allowance that is saved up, in milliseconds at the full rate. @defaultValue 1000 */
  burstMs?: number | undefined;
  /** Replaced in tests. */
  clock?: TargetClock | undefined;
}

/**
 * Limits the rate at which the bytes of bodies are sent and received. The two directions have separate limits, which hold for any
 * time longer than the burst.
 *
 * A call waits before it begins and then runs at full speed, so a rate holds on average and not within one body. After a `get` of
 * a whole object, whose size is not known in advance, the following calls wait longer instead.
 *
 * @throws `TypeError` for an invalid target, rate or burst, and for an unknown option. Calls throw what those of `target` throw, and
 * `signal.reason` if they are aborted while they wait.
 * @public
 */
export function withBandwidthLimit(target: CloudTarget, options: BandwidthOptions = {}): ClosableTarget {
  return new BandwidthLimitedTarget(target, options);
}

const KNOWN = { uploadBytesPerSecond: true, downloadBytesPerSecond: true, burstMs: true, clock: true } as const;

class BandwidthLimitedTarget extends ForwardingTarget {
  readonly #up: TokenBucket;
  readonly #down: TokenBucket;

  constructor(inner: CloudTarget, options: BandwidthOptions) {
    super(inner, 'this target with a bandwidth limit');
    const {
      uploadBytesPerSecond = Number.POSITIVE_INFINITY,
      downloadBytesPerSecond = Number.POSITIVE_INFINITY,
      burstMs = 1000,
      clock = systemClock,
    } = optionsArgument('options', options, KNOWN);
    clockArgument('options.clock', clock, ['now', 'sleep']);
    integerArgument('options.burstMs', burstMs, 1);
    limitArgument('options.uploadBytesPerSecond', uploadBytesPerSecond, 1);
    limitArgument('options.downloadBytesPerSecond', downloadBytesPerSecond, 1);
    this.#up = new TokenBucket(uploadBytesPerSecond, burstMs, clock);
    this.#down = new TokenBucket(downloadBytesPerSecond, burstMs, clock);
  }

  protected override async around<T>(call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    if (call.operation === 'put') await this.#up.take(call.bytes ?? 0, call.signal);
    if (call.operation !== 'get') return invoke();
    await this.#down.take(call.bytes ?? 0, call.signal);
    const result = await invoke();
    if (call.bytes === undefined && isBytes(result)) this.#down.charge(result.byteLength);
    return result;
  }
}

/**
 * A token bucket that fills at a rate up to a limit. It may go into debt: a call that takes more than there is waits until the debt
 * of itself and of all calls before it is paid off. Calls are therefore served in order, and a body may be larger than the burst.
 */
class TokenBucket {
  readonly #bytesPerMs: number;
  readonly #limit: number;
  readonly #clock: TargetClock;
  #available: number;
  #filledAt: number;

  constructor(bytesPerSecond: number, burstMs: number, clock: TargetClock) {
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#limit = this.#bytesPerMs * burstMs;
    this.#clock = clock;
    this.#available = this.#limit;
    this.#filledAt = clock.now();
  }

  async take(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    this.charge(bytes);
    if (this.#available >= 0) return;
    try {
      await this.#clock.sleep(Math.ceil(-this.#available / this.#bytesPerMs), signal);
    } catch (error) {
      this.#available += bytes; // These bytes are never sent, so later calls must not pay for them.
      throw error;
    }
  }

  charge(bytes: number): void {
    if (this.#bytesPerMs === Number.POSITIVE_INFINITY) return;
    const now = this.#clock.now();
    const filled = this.#available + (now - this.#filledAt) * this.#bytesPerMs;
    this.#available = Math.min(this.#limit, filled) - bytes;
    this.#filledAt = now;
  }
}
