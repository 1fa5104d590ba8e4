import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { DecodedEntry } from '../format/entry-codec.ts';
import type { ListedEntry, LogListing } from './log-listing.ts';
import { fetchEntry, forked, keyOfEntry, type LogSource, rolledBack, truncated } from './log-source.ts';

/*
 * What is behind the entries that a listing shows: the entry of a number, numbers with two entries, and whether those that this
 * process knows are still there.
 */

/**
 * Reads the entry of a number. In single-writer mode several objects may have a key of this number; an object that is not the
 * entry that its key says does not count.
 *
 * @throws `LOG_FORKED` if there are two entries; `LOG_CORRUPT` if there are only objects that are none; `LOG_TRUNCATED` if
 * there is no object; `REPOSITORY_UNSUPPORTED`; what the target throws
 */
export async function soundEntry(
  source: LogSource,
  listing: LogListing,
  seq: number,
  options: AbortOptions = {},
): Promise<DecodedEntry> {
  await listing.reach(seq, options);
  const sound: DecodedEntry[] = [];
  let damage: unknown;
  for (const listed of listing.entriesAt(seq)) {
    try {
      const decoded = await fetchEntry(source, seq, listed, options);
      if (decoded !== undefined) sound.push(decoded);
    } catch (error) {
      if (!BackupError.is(error, 'LOG_CORRUPT')) throw error;
      damage ??= error;
    }
  }
  const [entry] = sound;
  if (sound.length > 1) throw forked(seq);
  if (entry !== undefined) return entry;
  throw damage ?? truncated(seq);
}

/**
 * Finds the lowest listed number with two entries (P13). Up to the floor of the log, two entries mean nothing: one of them may
 * have been on its way for a long time.
 *
 * @param strays - keys of objects that were read earlier and are no entries. Those that are found now are added.
 */
export async function lowestFork(
  source: LogSource,
  listing: LogListing,
  strays: Set<string>,
  { above = 0, ...options }: AbortOptions & { readonly above?: number | undefined } = {},
): Promise<number | undefined> {
  if (source.mode === 'shared') return undefined;
  for (const seq of listing.numbers.reverse()) {
    // @mutation fork-is-above-the-floor
    if (seq <= above) continue;
    const candidates = listing.entriesAt(seq).filter(({ key }) => !strays.has(key));
    if (candidates.length < 2) continue;
    let sound = 0;
    for (const listed of candidates) {
      const entry = await fetchEntry(source, seq, listed, options).catch((error: unknown) => {
        // It is damaged, or no entry at all. A store that does not answer is another matter.
        if (!BackupError.is(error, 'LOG_CORRUPT')) throw error;
        return undefined;
      });
      if (entry === undefined) strays.add(listed.key);
      else sound++;
    }
    if (sound > 1) return seq;
  }
  return undefined;
}

/** An entry that this process has created or read. */
export interface OwnEntry {
  readonly seq: number;
  readonly hash: Uint8Array;
  /** Of its object. */
  readonly bytes: number;
  /** Whether it may be another's entry that is listed: then it is read. */
  readonly isUncertain?: boolean | undefined;
  /** What the target called its object when it was put or read. */
  readonly tag?: string | undefined;
}

/** What a listing shows of entries that this process has created or read (P5). */
export class ListedEntries {
  readonly #source: LogSource;
  readonly #listing: LogListing;
  readonly #options: AbortOptions;

  constructor(source: LogSource, listing: LogListing, options: AbortOptions) {
    this.#source = source;
    this.#listing = listing;
    this.#options = options;
  }

  /** Finds an entry by its key and its size. @throws `REPOSITORY_ROLLED_BACK`, and what the target throws */
  async find({ seq, hash, bytes }: OwnEntry): Promise<ListedEntry> {
    const listed = await this.#listing.find(seq, keyOfEntry(this.#source, seq, hash), this.#options);
    if (listed?.size === bytes) return listed;
    if (listed !== undefined) throw this.#replaced(seq);
    const { newest } = this.#listing;
    throw rolledBack(`entry ${seq}, which this process has read, is gone, and the log ends at entry ${newest}`);
  }

  /**
   * As {@link ListedEntries.find}. An entry that may be another's, or is listed with another tag than it had, is read and compared:
   * another tag alone proves nothing (decision 132).
   */
  async check(own: OwnEntry): Promise<void> {
    const listed = await this.find(own);
    const isOther = own.tag !== undefined && listed.ifTag !== undefined && own.tag !== listed.ifTag;
    // @mutation own-entry-has-its-tag
    if (own.isUncertain === true || isOther) await this.#compare(own, listed);
  }

  /**
   * Checks that an entry that was listed before is still the same object. If the log was set back, another host may have written
   * an entry of the same size at its number. It is read again only if the listing does not show that it is the same object.
   *
   * @param tag - that it had in the earlier listing
   */
  async checkSame(known: OwnEntry, tag: string | undefined): Promise<void> {
    const listed = await this.find(known);
    if (this.#source.mode === 'single-writer') return; // There the key has the entry's hash.
    if (tag !== undefined && listed.tag === tag) return;
    // @mutation confirmed-is-the-same-object
    await this.#compare(known, listed);
  }

  async #compare({ seq, hash }: OwnEntry, listed: ListedEntry): Promise<void> {
    const found = await fetchEntry(this.#source, seq, listed, this.#options);
    if (found === undefined || Buffer.compare(found.hash, hash) !== 0) throw this.#replaced(seq);
  }

  #replaced(seq: number): BackupError {
    const { newest } = this.#listing;
    return rolledBack(`entry ${seq} is not the one that this process has read, and the log ends at entry ${newest}`);
  }
}
