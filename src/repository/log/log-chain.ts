import { isDeepStrictEqual } from 'node:util';
import type { AbortOptions } from '../../common/abort.ts';
import type { Steps } from '../../common/yield-to-event-loop.ts';
import { logCorrupt } from '../format/decode-values.ts';
import { type DecodedEntry, type TailEntry, tailOf } from '../format/entry-codec.ts';
import type { Floor, LogEntry } from '../format/log-entry.ts';
import type { HashedEntry } from './fold.ts';
import { soundEntry } from './listed-entries.ts';
import type { LogListing } from './log-listing.ts';
import { fetchEntry, keyOfEntry, type LogPosition, type LogSource, truncatedBelow } from './log-source.ts';

/** Entries that were requested before it was their turn, by key. */
type Ahead = ReadonlyMap<string, Promise<DecodedEntry | undefined>>;

interface ChainOptions extends AbortOptions {
  /** `false` to read every object, as a verification does. @defaultValue true */
  readonly usesTails?: boolean | undefined;
  /** The chain will be read down to this number: what tails do not reach is requested at once. @defaultValue the newest one */
  readonly through?: number | undefined;
}

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
  #ahead: Ahead;
  /** Newest first. */
  readonly #entries: HashedEntry[] = [];
  /** Tails of which some entries have not been read yet. */
  #openTails: { readonly of: number; readonly tail: readonly LogEntry[] }[] = [];

  private constructor(source: LogSource, listing: LogListing, top: DecodedEntry, usesTails: boolean, ahead: Ahead) {
    this.#source = source;
    this.#listing = listing;
    this.#usesTails = usesTails;
    this.#ahead = ahead;
    this.topBytes = top.sizeBytes;
    this.#add(top);
  }

  static async from(
    source: LogSource,
    listing: LogListing,
    seq: number,
    options: ChainOptions = {},
  ): Promise<LogChain> {
    const { usesTails = true, through = seq } = options;
    const newest = soundEntry(source, listing, seq, options);
    const ahead = usesTails ? requestedAhead(source, listing, listing.belowTail(seq), through, options) : new Map();
    return new LogChain(source, listing, await newest, usesTails, ahead);
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
      if (listed !== undefined && this.#usesTails && !this.#ahead.has(listed.key)) {
        this.#ahead = requestedAhead(this.#source, this.#listing, below.seq, seq, options, this.#ahead);
      }
      const coming = listed && (this.#ahead.get(listed.key) ?? fetchEntry(this.#source, below.seq, listed, options));
      const decoded = await coming;
      if (decoded === undefined) throw truncatedBelow(below.seq);
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

  /** What later entries may repeat of those above `seq`. */
  tail(seq: number): Steps<readonly TailEntry[]> {
    return tailOf(this.#entries.slice(0, Math.max(0, this.#top - seq)).map(({ entry }) => entry));
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

/** Requests the entries that have to be read from one number down to another, if tails are as long as a writer makes them. */
function requestedAhead(
  source: LogSource,
  listing: LogListing,
  from: number,
  through: number,
  options: AbortOptions,
  known: Ahead = new Map(),
): Ahead {
  const ahead = new Map<string, Promise<DecodedEntry | undefined>>();
  for (const { seq, named } of listing.entriesAhead(from, through)) {
    const coming = known.get(named.key) ?? fetchEntry(source, seq, named, options);
    coming.catch(() => {}); // It is reported when its turn comes.
    ahead.set(named.key, coming);
  }
  return ahead;
}
