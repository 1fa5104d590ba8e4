import type { CloudTarget, GetOptions, ListOptions, ObjectInfo } from '../../targets/cloud-target.ts';
import { ForwardingTarget } from '../../targets/decorators/forwarding-target.ts';
import { MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import { entryKey, parseLogKey } from '../format/object-keys.ts';

const ENTRIES_AHEAD = 8;

/** Requests the next entries early: a log is read from its newest entry down, and the key of each follows from the one before. */
export class EntriesAhead extends ForwardingTarget {
  /** Entries below this are not requested. */
  lowest = 1;
  readonly #coming = new Map<string, Promise<Uint8Array>>();
  /** Bytes by key, as they were listed. */
  readonly #sizes = new Map<string, number>();
  readonly #tags = new Map<string, string | undefined>();

  constructor(target: CloudTarget) {
    super(target, 'the log');
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    for await (const info of super.forwardList(prefix, options)) {
      this.#sizes.set(info.key, info.size);
      this.#tags.set(info.key, info.tag);
      yield info;
    }
  }

  protected override forwardGet(key: string, options: GetOptions): Promise<Uint8Array> {
    const answer = this.#coming.get(key) ?? super.forwardGet(key, options);
    this.#coming.delete(key);
    const parsed = parseLogKey(key);
    if (parsed?.kind === 'entry' && parsed.suffix === undefined) {
      for (let seq = parsed.seq - 1; seq >= Math.max(this.lowest, parsed.seq - ENTRIES_AHEAD); seq--) {
        const below = entryKey(seq);
        const length = this.#sizes.get(below) ?? 0;
        if (this.#coming.has(below) || length === 0 || length > MAX_ENTRY_BYTES) continue;
        const range = { offset: 0, length };
        const coming = super.forwardGet(below, { ...options, range, ifTag: this.#tags.get(below) });
        coming.catch(() => {}); // It is reported when its turn comes.
        this.#coming.set(below, coming);
      }
    }
    return answer;
  }
}
