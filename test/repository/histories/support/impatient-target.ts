import type { AbortOptions } from '../../../../src/common/abort.ts';
import { BackupError } from '../../../../src/common/errors.ts';
import type {
  CloudTarget,
  GetOptions,
  Leftovers,
  ListOptions,
  ObjectInfo,
  PutOptions,
  PutResult,
  RemoveLeftoversOptions,
} from '../../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../../src/targets/decorators/forwarding-target.ts';

/** Gives every request so many milliseconds, as targets on a network do. One in memory answers at once or never. */
export class ImpatientTarget extends ForwardingTarget {
  readonly #timeoutMs: number;

  constructor(inner: CloudTarget, timeoutMs = 5) {
    super(inner, 'this ImpatientTarget');
    this.#timeoutMs = timeoutMs;
  }

  protected override forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<PutResult> {
    return this.#within(options.signal, (signal) => this.inner.put(key, body, { ...options, signal }));
  }

  protected override forwardGet(key: string, options: GetOptions): Promise<Uint8Array> {
    return this.#within(options.signal, (signal) => this.inner.get(key, { ...options, signal }));
  }

  protected override forwardStat(key: string, { signal: outer }: ListOptions): Promise<ObjectInfo | undefined> {
    return this.#within(outer, (signal) => this.inner.stat(key, { signal }));
  }

  protected override forwardDelete(key: string, { signal: outer }: ListOptions): Promise<void> {
    return this.#within(outer, (signal) => this.inner.delete(key, { signal }));
  }

  protected override forwardDeleteMany(keys: readonly string[], { signal: outer }: ListOptions): Promise<void> {
    return this.#within(outer, (signal) => super.forwardDeleteMany(keys, { signal }));
  }

  protected override forwardStoreTime({ signal: outer }: AbortOptions): Promise<Date | undefined> {
    return this.#within(outer, (signal) => super.forwardStoreTime({ signal }));
  }

  protected override forwardRemoveLeftovers(options: RemoveLeftoversOptions): Promise<Leftovers> {
    return this.#within(options.signal, (signal) => super.forwardRemoveLeftovers({ ...options, signal }));
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    // As a store answers: a page at once.
    const page = await this.#within(options.signal, async (signal) => {
      const infos: ObjectInfo[] = [];
      for await (const info of this.inner.list(prefix, { ...options, signal })) infos.push(info);
      return infos;
    });
    yield* page;
  }

  async #within<T>(outer: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const timeout = new AbortController();
    const timer = setTimeout(() => {
      timeout.abort(new BackupError('TARGET_TIMEOUT', 'no answer in time', { retryable: true }));
    }, this.#timeoutMs);
    try {
      return await work(outer === undefined ? timeout.signal : AbortSignal.any([outer, timeout.signal]));
    } finally {
      clearTimeout(timer);
    }
  }
}
