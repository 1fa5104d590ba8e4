import { integerArgument, limitArgument, optionsArgument } from '../../common/arguments.ts';
import { isBytes } from '../../common/realms.ts';
import { systemClock, type TargetClock } from '../clock.ts';
import type { CloudTarget } from '../cloud-target.ts';
import { clockArgument } from '../target-arguments.ts';
import { type ClosableTarget, ForwardingTarget, type TargetCall } from './forwarding-target.ts';

/** Options of {@link withBandwidthLimit}. @public */
export interface BandwidthOptions {
  /** How many bytes of bodies `put` sends a second, an integer from 1 or `Infinity`. @defaultValue Infinity */
  uploadBytesPerSecond?: number | undefined;
  /** How many bytes of bodies `get` receives a second, an integer from 1 or `Infinity`. @defaultValue Infinity */
  downloadBytesPerSecond?: number | undefined;
  /** How much unused allowance is saved up, in milliseconds of it. @defaultValue 1000 */
  burstMs?: number | undefined;
  /** Replaced in tests. */
  clock?: TargetClock | undefined;
}

/**
 * Keeps the bytes of bodies under a rate, each way by itself, over any time longer than the burst.
 *
 * A call waits for its turn before it begins and then goes at full speed, so a rate holds on average and not
 * within one body. A `get` of a whole object, whose size isn't known beforehand, holds up the calls after it
 * instead.
 *
 * @throws `TypeError` for a target, a rate or a burst that is none, and an option that is unknown. Calls throw what those of `target` throw, and `signal.reason`
 * when they are aborted while they wait.
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
 * An allowance that fills at a rate up to a limit and may go into debt: who takes more than there is waits until the
 * debt, his own and that of all before him, is paid off. Hence first come, first served, and bodies larger than
 * the burst are possible.
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
      this.#available += bytes; // Never sent: those who come later need not pay for it.
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
