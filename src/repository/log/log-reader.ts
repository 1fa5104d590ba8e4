import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { type DecodedEntry, MAX_TAIL } from '../format/entry-codec.ts';
import type { LogEntry } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import { foldEntries, type HashedEntry } from './fold.ts';
import { LogChain } from './log-chain.ts';
import { type ListedEntry, LogListing } from './log-listing.ts';
import {
  fetchEntry,
  forked,
  keyOfEntry,
  type LogPosition,
  type LogSource,
  rolledBack,
  truncated,
} from './log-source.ts';
import { type LogDamage, type OpenLogOptions, openLog } from './open-log.ts';
import { lowestFork } from './sound-entries.ts';
import { Turns } from './turns.ts';

/** Where a reader is in its log. */
interface Standing {
  readonly state: LogState;
  /** Entries since the newest checkpoint that is known here, newest first, at most {@link MAX_TAIL}. */
  readonly tail: readonly LogEntry[];
  /** Sequence of that checkpoint; 0 for none. */
  readonly checkpoint: number;
  /** Bytes of the newest entry's object. */
  readonly newestBytes: number;
  /** What a listing said of that object; `undefined` for an entry of one's own that none has shown yet. */
  readonly newestTag: string | undefined;
}

/** Says that what was read or written is not there any more. */
const GONE: readonly string[] = ['LOG_TRUNCATED', 'REPOSITORY_ROLLED_BACK'];

/** A log that is open: the state that it gives, followed as it grows. */
export class LogReader {
  readonly source: LogSource;
  /** Whoever moves the state takes a turn. */
  readonly turns = new Turns();
  #at: Standing;
  /** The newest standing that a listing has shown to be in the log. Own entries above it are believed only after one. */
  #confirmed: Standing;
  /** Standings since then, oldest first. */
  #unconfirmed: Standing[] = [];
  #forked: BackupError | undefined;
  #damage: LogDamage | undefined;
  readonly #isReadOnly: boolean;
  readonly #strays = new Set<string>();

  private constructor(source: LogSource, at: Standing, damage: LogDamage | undefined, isReadOnly: boolean) {
    this.source = source;
    this.#at = at;
    this.#confirmed = at;
    this.#damage = damage;
    this.#isReadOnly = isReadOnly;
  }

  /** See {@link openLog}. */
  static async open(source: LogSource, options: OpenLogOptions = {}): Promise<LogReader> {
    const { damage, ...opened } = await openLog(source, options);
    const at = { ...opened, tail: opened.tail.slice(0, MAX_TAIL) };
    return new LogReader(source, at, damage, options.onDamage === 'read-only');
  }

  get state(): LogState {
    return this.#at.state;
  }

  /** For a host to remember (P11). */
  get position(): LogPosition {
    const { seq, hash } = this.#confirmed.state;
    return { seq, hash };
  }

  /** Entries since the newest checkpoint that is known here, newest first, at most {@link MAX_TAIL}. */
  get tail(): readonly LogEntry[] {
    return this.#at.tail;
  }

  /** Sequence of that checkpoint; 0 for none. */
  get checkpoint(): number {
    return this.#at.checkpoint;
  }

  /** Why nothing may be appended: two entries were seen at one number (P13), or the newest ones are damaged. */
  get unwritable(): BackupError | undefined {
    return this.#forked ?? this.#damage?.error;
  }

  /** Why a log that was opened for reading only is not shown to its newest entry. */
  get damage(): LogDamage | undefined {
    return this.#damage;
  }

  /** Replays what others have appended meanwhile: one request where that is nothing. */
  catchUp(options: AbortOptions = {}): Promise<LogState> {
    return this.turns.take(() => this.look(options), options.signal);
  }

  /**
   * As {@link LogReader.catchUp}, for whoever has the turn. It begins with a listing, which shows at once what is newer and
   * that what was read or written before is still there: a name that is free may be free because everything is gone.
   *
   * @throws `REPOSITORY_ROLLED_BACK` when the log does not go on from what was read before; `LOG_TRUNCATED`,
   * `LOG_CORRUPT`, `LOG_FORKED`, `REPOSITORY_UNSUPPORTED`, and what the target gives
   */
  async look(options: AbortOptions = {}): Promise<LogState> {
    if (this.#damage !== undefined) return this.state; // What comes after it is nobody's.
    try {
      // @mutation gone-takes-two-listings
      await this.#lookOnce(options).catch((error: unknown) => {
        if (!isGone(error)) throw error;
        return this.#lookOnce(options); // It takes two listings to call it gone.
      });
    } catch (error) {
      if (isGone(error)) this.fallBack();
      if (!this.#isReadOnly || !isDamage(error)) throw error;
      const { seq } = this.state;
      this.#damage = { openedAsOf: seq, newestListed: seq + 1, error };
    }
    return this.state;
  }

  /** Own entries that no listing has shown are as if they had not been written: what is in the log, the next look shows. */
  fallBack(): void {
    this.#at = this.#confirmed;
    this.#unconfirmed = [];
  }

  /**
   * Folds in what comes next, oldest first: all of it or nothing.
   *
   * @param newestBytes - of the newest entry's object
   * @param next - the state that it gives, where it was folded already
   */
  async accept(entries: readonly (HashedEntry | DecodedEntry)[], newestBytes: number, next?: LogState): Promise<void> {
    const first = entries[0];
    if (first !== undefined && Buffer.compare(first.entry.prev, this.state.hash) !== 0) {
      throw rolledBack(`entry ${first.entry.seq} does not follow entry ${this.state.seq} as it was read here`);
    }
    const state = next ?? (await foldEntries(this.state, entries));
    const { checkpoint } = this.#at;
    const tail = [...entries.map(({ entry }) => entry).reverse(), ...this.tail].slice(0, MAX_TAIL);
    this.#at = { state, tail, checkpoint, newestBytes, newestTag: undefined };
    this.#unconfirmed.push(this.#at);
  }

  /** A checkpoint is known to be there: tails begin after it. */
  noteCheckpoint(seq: number): void {
    if (seq <= this.checkpoint) return;
    this.#at = { ...this.#at, checkpoint: seq, tail: this.tail.filter((entry) => entry.seq > seq) };
  }

  async #lookOnce(options: AbortOptions): Promise<void> {
    const { seq } = this.state;
    const listing = await LogListing.read(this.source, { ...options, through: this.#confirmed.state.seq });
    // @mutation own-entries-are-listed
    for (const standing of this.#unconfirmed.toReversed()) await this.#findListed(listing, standing, options);
    await this.#checkConfirmed(listing, options);
    const fork = await lowestFork(this.source, listing, this.#strays, options);
    if (fork !== undefined) {
      this.#forked ??= forked(fork);
      throw this.#forked;
    }
    if (listing.newest > seq) {
      const chain = await LogChain.from(this.source, listing, listing.newest, options);
      listing.checkWhole(listing.newest);
      await chain.reach(seq + 1, options);
      await this.accept(chain.since(seq), chain.topBytes);
    } else listing.checkWhole(seq);
    this.noteCheckpoint(listing.checkpoints.find((each) => each <= listing.newest) ?? 0);
    this.#confirmed = this.#at = { ...this.#at, newestTag: listing.tagOf(this.state.seq) };
    this.#unconfirmed = [];
  }

  /**
   * The entry that was confirmed last, with its content: where the log was set back, another host may have written one of the
   * same size at its number. It is read again only where the listing does not show that it is the same object.
   */
  async #checkConfirmed(listing: LogListing, options: AbortOptions): Promise<void> {
    const { state, newestTag } = this.#confirmed;
    const listed = await this.#findListed(listing, this.#confirmed, options);
    if (listed === undefined || this.source.mode === 'single-writer') return; // There the name has the entry's hash.
    if (newestTag !== undefined && listed.tag === newestTag) return;
    const found = await fetchEntry(this.source, state.seq, listed, options);
    // @mutation confirmed-is-the-same-object
    if (found === undefined || Buffer.compare(found.hash, state.hash) !== 0) throw this.#replaced(listing, state.seq);
  }

  /** The newest entry of a standing, as far as a listing tells: by its name, and by its size. */
  async #findListed(
    listing: LogListing,
    { state: { seq, hash }, newestBytes }: Standing,
    options: AbortOptions,
  ): Promise<ListedEntry | undefined> {
    if (seq === 0) return undefined;
    const listed = await listing.find(seq, keyOfEntry(this.source, seq, hash), options);
    if (listed?.size === newestBytes) return listed;
    if (listed !== undefined) throw this.#replaced(listing, seq);
    if (seq < this.state.seq) throw truncated(seq);
    throw rolledBack(`entry ${seq}, which was read here, is gone; the log ends at ${listing.newest}`);
  }

  #replaced({ newest }: LogListing, seq: number): BackupError {
    return rolledBack(`entry ${seq}, which was read here, is another one; the log ends at ${newest}`);
  }
}

function isGone(error: unknown): boolean {
  return BackupError.is(error) && GONE.includes(error.code);
}

function isDamage(error: unknown): error is BackupError {
  return BackupError.is(error, 'LOG_CORRUPT') || BackupError.is(error, 'LOG_FORKED');
}
