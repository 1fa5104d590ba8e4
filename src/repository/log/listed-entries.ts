import type { AbortOptions } from '../../common/abort.ts';
import type { BackupError } from '../../common/errors.ts';
import type { ListedEntry, LogListing } from './log-listing.ts';
import { fetchEntry, keyOfEntry, type LogSource, rolledBack } from './log-source.ts';

/** An entry that this process has created or read. */
export interface OwnEntry {
  readonly seq: number;
  readonly hash: Uint8Array;
  /** Of its object. */
  readonly bytes: number;
  /** Whether it may be another's entry that is listed: then it is read. */
  readonly isUncertain?: boolean | undefined;
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

  /** As {@link ListedEntries.find}; an entry that may be another's is compared. */
  async check(own: OwnEntry): Promise<void> {
    const listed = await this.find(own);
    if (own.isUncertain === true) await this.#compare(own, listed);
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
