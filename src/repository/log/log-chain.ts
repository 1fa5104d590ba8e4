import { isDeepStrictEqual } from 'node:util';
import type { AbortOptions } from '../../common/abort.ts';
import { logCorrupt } from '../format/decode-values.ts';
import type { DecodedEntry } from '../format/entry-codec.ts';
import type { Floor, LogEntry } from '../format/log-entry.ts';
import type { HashedEntry } from './fold.ts';
import { soundEntry } from './listed-entries.ts';
import type { LogListing } from './log-listing.ts';
import { fetchEntry, keyOfEntry, type LogPosition, type LogSource, truncated } from './log-source.ts';

/** Requests that are made at once for entries that are further down. */
const MOST_AHEAD = 8;

/**
 * Entries from one number down, with every link of the chain checked: an entry names the hash of the entry below it.
 *
 * The tail of an entry counts as read, because the entry that carries it is authenticated, so one request can cover many
 * entries. A verification reads every object instead, and compares tails with the entries that they repeat.
 */
export class LogChain {
  /** The size of the newest entry's object. */
  readonly topBytes: number;
  /** The highest floor that an entry of the chain has set. Below it nothing belongs to the log. */
  floor: Floor | undefined;
  readonly #source: LogSource;
  readonly #listing: LogListing;
  readonly #usesTails: boolean;
  /** Entries that were requested before it was their turn, by key. */
  readonly #ahead = new Map<string, Promise<DecodedEntry | undefined>>();
  /** Newest first. */
  readonly #entries: HashedEntry[] = [];
  /** Tails of which some entries have not been read yet. */
  #openTails: { readonly of: number; readonly tail: readonly LogEntry[] }[] = [];

  private constructor(source: LogSource, listing: LogListing, top: DecodedEntry, usesTails: boolean) {
    this.#source = source;
    this.#listing = listing;
    this.#usesTails = usesTails;
    this.topBytes = top.sizeBytes;
    this.#add(top);
  }

  /** @param usesTails - `false` to read every object, as a verification does */
  static async from(
    source: LogSource,
    listing: LogListing,
    seq: number,
    options: AbortOptions & { usesTails?: boolean | undefined } = {},
  ): Promise<LogChain> {
    const top = await soundEntry(source, listing, seq, options);
    return new LogChain(source, listing, top, options.usesTails ?? true);
  }

  /** The position below the lowest entry, as that entry says. */
  get below(): LogPosition {
    const { entry } = this.#entries.at(-1) as HashedEntry;
    return { seq: entry.seq - 1, hash: entry.prev };
  }

  get #top(): number {
    return (this.#entries[0] as HashedEntry).entry.seq;
  }

  /** Reads on, down to entry `seq`. @throws `LOG_TRUNCATED`, `LOG_CORRUPT`, and what the target throws */
  async reach(seq: number, options: AbortOptions = {}): Promise<void> {
    while (this.below.seq >= seq) {
      const { below } = this;
      const listed = await this.#listing.find(below.seq, keyOfEntry(this.#source, below.seq, below.hash), options);
      if (listed !== undefined && this.#usesTails) this.#readAhead(listed.key, seq, options);
      const coming = listed && (this.#ahead.get(listed.key) ?? fetchEntry(this.#source, below.seq, listed, options));
      const decoded = await coming;
      if (decoded === undefined) throw truncated(below.seq);
      if (Buffer.compare(decoded.hash, below.hash) !== 0) {
        throw logCorrupt(`entry ${below.seq + 1} does not continue the chain of entry ${below.seq}`);
      }
      this.#add(decoded);
    }
  }

  /** The hash of an entry of the chain, or of the one below it. */
  hashOf(seq: number): Uint8Array | undefined {
    if (seq === this.below.seq) return this.below.hash;
    return this.#entries[this.#top - seq]?.hash;
  }

  /** The entries above `seq`, oldest first. */
  since(seq: number): HashedEntry[] {
    return this.#entries.slice(0, Math.max(0, this.#top - seq)).reverse();
  }

  #add({ entry, tail, hash }: DecodedEntry): void {
    this.#push({ entry, hash });
    if (!this.#usesTails) {
      this.#compareWithTails(entry);
      this.#openTails.push({ of: entry.seq, tail });
      return;
    }
    let above = entry;
    for (const earlier of tail) {
      this.#push({ entry: earlier, hash: above.prev });
      above = earlier;
    }
  }

  /** Requests entries that tails will not reach, if they are as long as a writer makes them. */
  #readAhead(next: string, seq: number, options: AbortOptions): void {
    if (this.#ahead.has(next)) return;
    this.#ahead.clear();
    let at = this.below.seq;
    for (let n = 0; n < MOST_AHEAD && at >= seq; n++, at = this.#listing.belowTail(at)) {
      const [only, ...others] = this.#listing.entriesAt(at);
      if (only === undefined || others.length > 0) continue;
      const coming = fetchEntry(this.#source, at, only, options);
      coming.catch(() => {}); // It is reported when its turn comes.
      this.#ahead.set(only.key, coming);
    }
  }

  #push(hashed: HashedEntry): void {
    const { entry } = hashed;
    this.#entries.push(hashed);
    if (entry.type === 'collect') this.floor ??= entry.floor;
  }

  #compareWithTails(entry: LogEntry): void {
    for (const { of, tail } of this.#openTails) {
      const repeated = tail[of - entry.seq - 1];
      if (repeated !== undefined && !isDeepStrictEqual(repeated, entry)) {
        throw logCorrupt(`the tail of entry ${of} differs from entry ${entry.seq}, which it repeats`);
      }
    }
    this.#openTails = this.#openTails.filter(({ of, tail }) => of - tail.length < entry.seq);
  }
}
