import type { AbortOptions } from '../../common/abort.ts';
import { MAX_CHECKPOINT_BYTES } from './checkpoint-codec.ts';
import { logCorrupt } from './corrupt.ts';
import { MAX_ENTRY_BYTES } from './entry-codec.ts';
import { entryKey, LOG_PREFIX, parseLogKey } from './log-keys.ts';
import type { LogSource } from './log-source.ts';

/** As many as one page of an object store's listing holds. */
const PAGE_KEYS = 1000;

/** The newest end of the log as listings show it, page by page. */
export class LogListing {
  /** Sequence of the newest entry; 0 where there is none. */
  newest = 0;
  /** Sequences of checkpoints, newest first. */
  readonly checkpoints: number[] = [];
  /** The lowest number seen so far at which there are two entries (P13). */
  forkedAt: number | undefined;
  readonly #source: Pick<LogSource, 'target' | 'mode'>;
  readonly #keys = new Map<number, string>();
  #after: string | undefined;
  #hasMore = true;

  private constructor(source: Pick<LogSource, 'target' | 'mode'>) {
    this.#source = source;
  }

  /** The first page. It needs no key, so it may be read beside the other things that opening reads. */
  static async read(source: Pick<LogSource, 'target' | 'mode'>, options: AbortOptions = {}): Promise<LogListing> {
    const listing = new LogListing(source);
    await listing.readMore(options);
    return listing;
  }

  /** Whether there are older objects than those that were listed. */
  get hasMore(): boolean {
    return this.#hasMore;
  }

  /** Where an entry is; in single-writer mode only a listing can say. */
  async keyOf(seq: number, options: AbortOptions = {}): Promise<string | undefined> {
    if (this.#source.mode === 'shared') return entryKey(seq);
    while (!this.#keys.has(seq) && this.#hasMore) await this.readMore(options);
    return this.#keys.get(seq);
  }

  async readMore({ signal }: AbortOptions = {}): Promise<void> {
    let count = 0;
    for await (const { key, size } of this.#source.target.list(LOG_PREFIX, { after: this.#after, signal })) {
      this.#add(key, size);
      this.#after = key;
      if (++count === PAGE_KEYS) return;
    }
    this.#hasMore = false;
  }

  #add(key: string, size: number): void {
    const parsed = parseLogKey(key);
    if (parsed === undefined) return;
    const { seq } = parsed;
    if (parsed.kind === 'checkpoint') {
      if (size <= MAX_CHECKPOINT_BYTES) this.checkpoints.push(seq);
      return;
    }
    // Keys of the other mode are not this repository's log.
    if ((parsed.commitId === undefined) !== (this.#source.mode === 'shared')) return;
    if (size > MAX_ENTRY_BYTES) throw logCorrupt(`object ${key} is larger than an entry may be`);
    if (this.#keys.has(seq)) this.forkedAt = Math.min(seq, this.forkedAt ?? seq);
    this.#keys.set(seq, key);
    this.newest = Math.max(this.newest, seq);
  }
}
