import {
  type CloudTarget,
  ForwardingTarget,
  type ListOptions,
  type ObjectInfo,
  type TargetCall,
} from 'cow-cloud-backup';

/** Entries of one page of a listing, as S3 has it. */
const PAGE_ENTRIES = 1000;

/** Counts what is asked of a target and what goes there and back: each attempt, where calls are made again. */
export class CountedTarget extends ForwardingTarget {
  requests = 0;
  uploadedBytes = 0;
  downloadedBytes = 0;

  constructor(inner: CloudTarget) {
    super(inner, 'this counted target');
  }

  protected override async around<T>({ operation, bytes }: TargetCall, invoke: () => Promise<T>): Promise<T> {
    this.requests++;
    if (operation === 'put') this.uploadedBytes += bytes ?? 0;
    const answer = await invoke();
    if (answer instanceof Uint8Array) this.downloadedBytes += answer.length;
    return answer;
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    let entries = 0;
    this.requests++;
    for await (const info of this.inner.list(prefix, options)) {
      if (entries > 0 && entries % PAGE_ENTRIES === 0) this.requests++;
      entries++;
      yield info;
    }
  }
}
