import { type AbortOptions, abortable } from '../../common/abort.ts';
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
import { type LogDamage, type OpenedLog, type OpenLogOptions, openLog } from './open-log.ts';
import { lowestFork } from './sound-entries.ts';

/** How long a turn at the log may take: the longest entry over the slowest line takes less. */
const TURN_TIMEOUT_MS = 10 * 60 * 1000;

export interface LogReaderOptions extends OpenLogOptions {
  /** How long one append or one replay may take once its turn has come, in milliseconds. @defaultValue 10 minutes */
  readonly turnTimeoutMs?: number | undefined;
}

/** How far a reader has read its log. There is no tag for an own entry that no listing has shown yet. */
type Standing = Omit<OpenedLog, 'damage'>;

/** Errors that say that something that was read or written is no longer there. */
const GONE: readonly string[] = ['LOG_TRUNCATED', 'REPOSITORY_ROLLED_BACK'];

/**
 * An open log: its state, which follows the log as it grows. Appends and replays of one process take turns at it.
 */
export class LogReader {
  readonly source: LogSource;
  readonly #turnTimeoutMs: number;
  /** Settles when every turn that was asked for is over. */
  #turns: Promise<unknown> = Promise.resolve();
  #at: Standing;
  /** The newest standing that a listing has shown to be in the log. Own entries above it may not be in the log. */
  #confirmed: Standing;
  /** Standings since then, oldest first. */
  #unconfirmed: Standing[] = [];
  #forked: BackupError | undefined;
  #damage: LogDamage | undefined;
  readonly #isReadOnly: boolean;
  readonly #strays = new Set<string>();

  private constructor(source: LogSource, { damage, ...opened }: OpenedLog, options: LogReaderOptions) {
    this.source = source;
    this.#at = this.#confirmed = { ...opened, tail: opened.tail.slice(0, MAX_TAIL) };
    this.#damage = damage;
    this.#isReadOnly = options.onDamage === 'read-only';
    this.#turnTimeoutMs = options.turnTimeoutMs ?? TURN_TIMEOUT_MS;
  }

  /** See {@link openLog}. */
  static async open(source: LogSource, options: LogReaderOptions = {}): Promise<LogReader> {
    return new LogReader(source, await openLog(source, options), options);
  }

  get state(): LogState {
    return this.#at.state;
  }

  /** What a host may remember (P11). */
  get position(): LogPosition {
    const { seq, hash } = this.#confirmed.state;
    return { seq, hash };
  }

  /** Entries since the newest checkpoint that this reader knows of, newest first, at most {@link MAX_TAIL}. */
  get tail(): readonly LogEntry[] {
    return this.#at.tail;
  }

  /** Number of that checkpoint; 0 if there is none. */
  get checkpoint(): number {
    return this.#at.checkpoint;
  }

  /** Why nothing may be appended: two entries have one number (P13), or the newest entries are damaged. */
  get unwritable(): BackupError | undefined {
    return this.#forked ?? this.#damage?.error;
  }

  /** Why a log that was opened for reading only ends before its newest entry. */
  get damage(): LogDamage | undefined {
    return this.#damage;
  }

  /** Replays what other writers have appended. If that is nothing, it takes one request. */
  catchUp({ signal }: AbortOptions = {}): Promise<LogState> {
    return this.inTurn((ending) => this.look({ signal: ending }), signal);
  }

  /**
   * Runs `work` when all turns that were asked for before are over. A call that is aborted while it waits rejects at once, and
   * its `work` never runs.
   *
   * No turn lasts longer than the option allows, whatever a target does, because every other operation of the process waits
   * for it (decision 116). `work` must end when the signal that it is given aborts: with the caller's reason, or with
   * `TARGET_TIMEOUT`.
   */
  async inTurn<T>(work: (ending: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const before = this.#turns;
    const turn = Promise.withResolvers<void>();
    // Later turns wait for the earlier ones too, if this call gives up while it waits.
    this.#turns = Promise.all([before, turn.promise]);
    const ending = new AbortController();
    const onAbort = () => ending.abort(signal?.reason);
    const onTimeout = () => ending.abort(turnTimedOut(this.#turnTimeoutMs));
    let timer: NodeJS.Timeout | undefined;
    try {
      await abortable(before, signal);
      timer = setTimeout(onTimeout, this.#turnTimeoutMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      return await work(ending.signal);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      turn.resolve();
    }
  }

  /**
   * As {@link LogReader.catchUp}, within a turn. It begins with a listing, which shows what is newer, and also that everything
   * that was read or written before is still there: if a number is free, the reason may be that the whole log is gone.
   *
   * @throws `REPOSITORY_ROLLED_BACK` when the log does not continue what was read before; `LOG_TRUNCATED`,
   * `LOG_CORRUPT`, `LOG_FORKED`, `REPOSITORY_UNSUPPORTED`, and what the target throws
   */
  async look(options: AbortOptions = {}): Promise<LogState> {
    if (this.#damage !== undefined) return this.state; // Nothing can be appended after damage.
    try {
      // @mutation gone-takes-two-listings
      await this.#lookOnce(options).catch((error: unknown) => {
        if (!isGone(error)) throw error;
        return this.#lookOnce(options); // Only a second listing shows that something is gone.
      });
    } catch (error) {
      if (isGone(error)) this.fallBack();
      if (!this.#isReadOnly || !isDamage(error)) throw error;
      const { seq } = this.state;
      this.#damage = { openedAsOf: seq, newestListed: seq + 1, error };
    }
    return this.state;
  }

  /** Drops own entries that no listing has shown. The next look shows which of them are in the log. */
  fallBack(): void {
    this.#at = this.#confirmed;
    this.#unconfirmed = [];
  }

  /**
   * Folds the next entries into the state, oldest first: all of them or none.
   *
   * @param newestBytes - the size of the newest entry's object
   * @param next - the state after them, if it was computed already
   */
  async accept(entries: readonly (HashedEntry | DecodedEntry)[], newestBytes: number, next?: LogState): Promise<void> {
    const first = entries[0];
    if (first !== undefined && Buffer.compare(first.entry.prev, this.state.hash) !== 0) {
      throw rolledBack(
        `entry ${first.entry.seq} does not continue entry ${this.state.seq} as this process has read it`,
      );
    }
    const state = next ?? (await foldEntries(this.state, entries));
    const { checkpoint } = this.#at;
    const tail = [...entries.map(({ entry }) => entry).reverse(), ...this.tail].slice(0, MAX_TAIL);
    this.#at = { state, tail, checkpoint, newestBytes, newestTag: undefined };
    this.#unconfirmed.push(this.#at);
  }

  /** Notes that there is a checkpoint: tails begin after it. */
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
   * Checks that the entry that was confirmed last is still the same. If the log was set back, another host may have written an
   * entry of the same size at its number. It is read again only if the listing does not show that it is the same object.
   */
  async #checkConfirmed(listing: LogListing, options: AbortOptions): Promise<void> {
    const { state, newestTag } = this.#confirmed;
    const listed = await this.#findListed(listing, this.#confirmed, options);
    if (listed === undefined || this.source.mode === 'single-writer') return; // There the key has the entry's hash.
    if (newestTag !== undefined && listed.tag === newestTag) return;
    const found = await fetchEntry(this.source, state.seq, listed, options);
    // @mutation confirmed-is-the-same-object
    if (found === undefined || Buffer.compare(found.hash, state.hash) !== 0) throw this.#replaced(listing, state.seq);
  }

  /** Finds the newest entry of a standing in a listing, by its key and its size. */
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
    throw rolledBack(`entry ${seq}, which this process has read, is gone, and the log ends at entry ${listing.newest}`);
  }

  #replaced({ newest }: LogListing, seq: number): BackupError {
    return rolledBack(`entry ${seq} is not the one that this process has read, and the log ends at entry ${newest}`);
  }
}

function turnTimedOut(timeoutMs: number): BackupError {
  const message = `the log could not be read or written within ${timeoutMs} ms, because the store answers too slowly or not at all: try again when it answers`;
  return new BackupError('TARGET_TIMEOUT', message, { retryable: true });
}

function isGone(error: unknown): boolean {
  return BackupError.is(error) && GONE.includes(error.code);
}

function isDamage(error: unknown): error is BackupError {
  return BackupError.is(error, 'LOG_CORRUPT') || BackupError.is(error, 'LOG_FORKED');
}
