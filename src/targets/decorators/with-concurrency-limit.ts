import PQueue from 'p-queue';
import { integerArgument, optionsArgument } from '../../common/arguments.ts';
import type { CloudTarget, ListOptions, ObjectInfo } from '../cloud-target.ts';
import { type ClosableTarget, ForwardingTarget, type TargetCall } from './forwarding-target.ts';

/** Options of {@link withConcurrencyLimit}. @public */
export interface ConcurrencyOptions {
  /** How many calls are under way at once; further ones wait in order. @defaultValue 16 */
  concurrency?: number | undefined;
}

/**
 * Lets only so many calls through at once. A listing counts while its next object is being fetched, not while its
 * consumer thinks. A call that is aborted while it waits never reaches the target.
 *
 * @throws `TypeError` for a target that is none, an option that is unknown, and a concurrency that is no integer from 1. Calls throw what those of `target` throw, and
 * `signal.reason` when they are aborted while they wait.
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
   * The queue hears of an abort only while the call waits: a running task that the queue gave up would free its
   * place although its request is still under way.
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
