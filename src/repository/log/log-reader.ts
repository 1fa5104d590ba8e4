import type { AbortOptions } from '../../common/abort.ts';
import type { BackupError } from '../../common/errors.ts';
import { type DecodedEntry, MAX_TAIL } from './entry-codec.ts';
import { foldEntries, type HashedEntry } from './fold.ts';
import { LogChain } from './log-chain.ts';
import type { LogEntry } from './log-entry.ts';
import { entryKey } from './log-keys.ts';
import { LogListing } from './log-listing.ts';
import { fetchEntry, forked, type LogPosition, type LogSource, rolledBack } from './log-source.ts';
import type { LogState } from './log-state.ts';
import { type OpenedLog, type OpenLogOptions, openLog } from './open-log.ts';
import { Turns } from './turns.ts';

/** A log that is open: the state that it gives, followed as it grows. */
export class LogReader {
  readonly source: LogSource;
  /** Whoever moves the state takes a turn. */
  readonly turns = new Turns();
  #state: LogState;
  #tail: readonly LogEntry[];
  #checkpoint: number;
  #newestId: string | undefined;
  #forked: BackupError | undefined;
  /** Opened, for reading only, as it was before two entries at one number. */
  readonly #isBeforeFork: boolean;

  private constructor(source: LogSource, opened: OpenedLog) {
    this.source = source;
    this.#state = opened.state;
    this.#tail = opened.tail.slice(0, MAX_TAIL);
    this.#checkpoint = opened.checkpoint;
    this.#newestId = opened.commitId;
    this.#forked = opened.forked;
    this.#isBeforeFork = opened.forked !== undefined;
  }

  /** See {@link openLog}. */
  static async open(source: LogSource, options: OpenLogOptions = {}): Promise<LogReader> {
    return new LogReader(source, await openLog(source, options));
  }

  get state(): LogState {
    return this.#state;
  }

  /** For a host to remember (P11). */
  get position(): LogPosition {
    return { seq: this.#state.seq, hash: this.#state.hash };
  }

  /** Entries since the newest checkpoint that is known here, newest first, at most {@link MAX_TAIL}. */
  get tail(): readonly LogEntry[] {
    return this.#tail;
  }

  /** Sequence of that checkpoint; 0 for none. */
  get checkpoint(): number {
    return this.#checkpoint;
  }

  /** Why nothing may be appended: two entries were seen at one number (P13). */
  get forked(): BackupError | undefined {
    return this.#forked;
  }

  /** Replays what others have appended meanwhile: one request where that is nothing. */
  catchUp(options: AbortOptions = {}): Promise<LogState> {
    return this.turns.take(() => this.look(options), options.signal);
  }

  /**
   * As {@link LogReader.catchUp}, for who has the turn.
   *
   * @throws `REPOSITORY_ROLLED_BACK` when the log does not go on from what was read before; `LOG_TRUNCATED`,
   * `LOG_CORRUPT`, `LOG_FORKED`, and what the target gives
   */
  async look(options: AbortOptions = {}): Promise<LogState> {
    if (this.#isBeforeFork) return this.#state; // What comes after it is nobody's.
    if (this.source.mode === 'shared') {
      // A name says where the next entry would be, so looking needs no listing.
      const seq = this.#state.seq + 1;
      const next = await fetchEntry(this.source, seq, entryKey(seq), options);
      if (next === undefined) return this.#state;
      await this.accept([next]);
    }
    const listing = await LogListing.read(this.source, options);
    if (this.source.mode === 'single-writer') await this.#checkAlone(listing, options);
    this.noteCheckpoint(listing.checkpoints.find((seq) => seq <= listing.newest) ?? 0);
    if (listing.newest > this.#state.seq) {
      const chain = await LogChain.from(this.source, listing, listing.newest, options);
      await chain.reach(this.#state.seq + 1, options);
      await this.accept(chain.since(this.#state.seq));
    }
    return this.#state;
  }

  /**
   * Folds in what comes next, oldest first: all of it or nothing.
   *
   * @param next - the state that it gives, where it was folded already
   */
  async accept(entries: readonly (HashedEntry | DecodedEntry)[], next?: LogState): Promise<void> {
    const first = entries[0];
    if (first !== undefined && Buffer.compare(first.entry.prev, this.#state.hash) !== 0) {
      throw rolledBack(`entry ${first.entry.seq} does not follow entry ${this.#state.seq} as it was read here`);
    }
    this.#state = next ?? (await foldEntries(this.#state, entries));
    const newer = entries.map(({ entry }) => entry).reverse();
    this.#newestId = newer[0]?.commitId ?? this.#newestId;
    this.#tail = [...newer, ...this.#tail].slice(0, MAX_TAIL);
    this.#trim();
  }

  /** A checkpoint is known to be there: tails begin after it. */
  noteCheckpoint(seq: number): void {
    this.#checkpoint = Math.max(this.#checkpoint, seq);
    this.#trim();
  }

  /** P13: from now on nothing is appended. */
  noteFork(seq: number): BackupError {
    this.#forked ??= forked(seq);
    return this.#forked;
  }

  #trim(): void {
    this.#tail = this.#tail.filter(({ seq }) => seq > this.#checkpoint);
  }

  async #checkAlone(listing: LogListing, options: AbortOptions): Promise<void> {
    if (listing.forkedAt !== undefined) throw this.noteFork(listing.forkedAt);
    const { seq } = this.#state;
    if (seq === 0) return;
    if ((await listing.keyOf(seq, options)) !== entryKey(seq, this.#newestId)) {
      throw rolledBack(`entry ${seq} of the log is not where it was read`);
    }
  }
}
