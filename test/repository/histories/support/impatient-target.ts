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
import type { Mishaps } from './mishaps.ts';

/** How long the first request of a mishap hangs: what else is under way goes on meanwhile. */
const FIRST_HANGS_MS = 5;

/**
 * Gives up the requests that never get an answer, as targets on a network do, and no others, however slow the machine is.
 * Those that follow the first of an outage are given up at once: there are thousands of them.
 */
export class ImpatientTarget extends ForwardingTarget {
  readonly #mishaps: Pick<Mishaps, 'unanswered'>;

  /** @param inner a target whose requests consult `mishaps` as soon as they are sent */
  constructor(inner: CloudTarget, mishaps: Pick<Mishaps, 'unanswered'>) {
    super(inner, 'this ImpatientTarget');
    this.#mishaps = mishaps;
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
    const { unanswered: before } = this.#mishaps;
    const answer = work(outer === undefined ? timeout.signal : AbortSignal.any([outer, timeout.signal]));
    if (this.#mishaps.unanswered > before) {
      const giveUp = () => timeout.abort(new BackupError('TARGET_TIMEOUT', 'no answer in time', { retryable: true }));
      if (before === 0) setTimeout(giveUp, FIRST_HANGS_MS);
      else setImmediate(giveUp);
    }
    return answer;
  }
}
