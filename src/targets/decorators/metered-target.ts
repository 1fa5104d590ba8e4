import { abortable } from '../../common/abort.ts';
import type { CloudTarget, ListOptions, ObjectInfo, PutOptions } from '../cloud-target.ts';
import { ForwardingTarget, type TargetCall } from './forwarding-target.ts';
import { currentMeter } from './request-meter.ts';

/** Entries of one page of a listing, as S3 and most others have it. */
const PAGE_ENTRIES = 1000;

/**
 * A repository's view of its target. Every request is charged to the operation that makes it, and every call settles as
 * soon as its signal aborts, whatever the target does: one that ignores signals, or never answers, holds nothing up. A put
 * that is abandoned so may still be read from its buffer, which is why the callers never use the buffer of a failed put again.
 */
export class MeteredTarget extends ForwardingTarget {
  constructor(inner: CloudTarget) {
    super(inner, 'this repository');
  }

  protected override async around<T>({ operation, bytes, signal }: TargetCall, invoke: () => Promise<T>): Promise<T> {
    const meter = currentMeter();
    if (operation === 'put') meter?.put(bytes ?? 0);
    else if (operation !== 'delete' && operation !== 'deleteMany') meter?.get(bytes ?? 0);
    else if (meter !== undefined) meter.deletes++;
    const answer = await abortable(invoke(), signal);
    if (operation === 'get' && meter !== undefined) meter.downloadBytes += (answer as Uint8Array).length;
    return answer;
  }

  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    const meter = currentMeter();
    if (meter === undefined) return this.inner.put(key, body, options);
    let told = 0;
    const onSent = (bytes: number) => {
      told += bytes;
      meter.sentBytes += bytes;
      options.onSent?.(bytes);
    };
    await this.inner.put(key, body, { ...options, onSent });
    // Not every target tells, and some only of a part; what it repeated was sent twice.
    meter.sentBytes += Math.max(0, body.length - told);
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    const meter = currentMeter();
    let entries = 0;
    meter?.get(0);
    const objects = this.inner.list(prefix, options)[Symbol.asyncIterator]();
    let ended = false;
    try {
      for (;;) {
        const { value, done } = await abortable(objects.next(), options.signal);
        ended = done === true;
        if (ended) return;
        if (entries > 0 && entries % PAGE_ENTRIES === 0) meter?.get(0);
        entries++;
        yield value as ObjectInfo;
      }
    } finally {
      // Not waited for: an iterator that is stuck in `next` does not come to its `return` either.
      if (!ended) (async () => objects.return?.())().catch(() => {});
    }
  }
}
