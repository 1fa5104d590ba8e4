import type { AbortOptions } from '../../common/abort.ts';
import type { CloudTarget, ListOptions, ObjectInfo, PutOptions } from '../../target/cloud-target.ts';
import { ForwardingTarget, type TargetCall } from '../../target/forwarding-target.ts';
import { currentMeter } from './request-meter.ts';

/** Entries of one page of a listing, as S3 and most others have it. */
const PAGE_ENTRIES = 1000;

/** A repository's view of its target: every request is charged to the operation that makes it. */
export class MeteredTarget extends ForwardingTarget {
  constructor(inner: CloudTarget) {
    super(inner, 'this repository');
  }

  protected override async around<T>({ operation, bytes }: TargetCall, invoke: () => Promise<T>): Promise<T> {
    const meter = currentMeter();
    if (meter === undefined) return invoke();
    if (operation === 'put') meter.put(bytes ?? 0);
    else if (operation === 'delete' || operation === 'deleteMany') meter.deletes++;
    else meter.get(bytes ?? 0);
    const answer = await invoke();
    if (operation === 'get') meter.downloadBytes += (answer as Uint8Array).length;
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

  protected override async *forwardList(
    prefix: string,
    options: ListOptions & AbortOptions,
  ): AsyncGenerator<ObjectInfo> {
    const meter = currentMeter();
    let entries = 0;
    meter?.get(0);
    for await (const info of this.inner.list(prefix, options)) {
      if (entries > 0 && entries % PAGE_ENTRIES === 0) meter?.get(0);
      entries++;
      yield info;
    }
  }
}
