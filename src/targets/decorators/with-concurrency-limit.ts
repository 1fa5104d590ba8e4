import PQueue from 'p-queue';
import { integerArgument, optionsArgument } from '../../common/arguments.ts';
import type { CloudTarget, ListOptions, ObjectInfo } from '../cloud-target.ts';
import { type ClosableTarget, ForwardingTarget, type TargetCall } from './forwarding-target.ts';

/** Options of {@link withConcurrencyLimit}. @public */
export interface ConcurrencyOptions {
  /** The number of calls that are under way at once. Further calls wait in order. @defaultValue 16 */
  concurrency?: number | undefined;
}

/**
 * Limits the number of calls that are under way at once. A listing counts only while its next object is being fetched. A call
 * that is aborted while it waits never reaches the target.
 *
 * @throws `TypeError` for an invalid target, an unknown option, and a concurrency that is not an integer from 1. Calls throw what
 * those of `target` throw, and `signal.reason` if they are aborted while they wait.
 * @public
 */
export function withConcurrencyLimit(target: CloudTarget, options: ConcurrencyOptions = {}): ClosableTarget {
  return new ConcurrencyLimitedTarget(target, options);
}

class ConcurrencyLimitedTarget extends ForwardingTarget {
  readonly #queue: PQueue;

  constructor(inner: CloudTarget, options: ConcurrencyOptions) {
    super(inner, 'this target with a concurrency limit');
    const { concurrency = 16 } = optionsArgument('options', options, { concurrency: true });
    this.#queue = new PQueue({ concurrency: integerArgument('options.concurrency', concurrency, 1) });
  }

  protected override around<T>(call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    return this.#turn(call.signal, invoke);
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    const objects = this.inner.list(prefix, options)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const { value, done } = await this.#turn(options.signal, () => objects.next());
        if (done) return;
        yield value;
      }
    } finally {
      await objects.return?.();
    }
  }

  /**
   * The queue gets the abort only while the call waits. If it got it later, it would start the next call although the request of
   * this one is still under way.
   */
  async #turn<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const waiting = new AbortController();
    const leave = () => waiting.abort(signal?.reason);
    signal?.addEventListener('abort', leave, { once: true });
    const start = () => {
      signal?.removeEventListener('abort', leave);
      return work();
    };
    try {
      return await (this.#queue.add(start, { signal: waiting.signal }) as Promise<T>);
    } finally {
      signal?.removeEventListener('abort', leave);
    }
  }
}
