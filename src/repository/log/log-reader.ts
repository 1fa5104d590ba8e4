import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { anchorBytes } from '../format/anchors.ts';
import { namedPages, pageKeyOf } from '../format/catalogue-pages.ts';
import { type DecodedEntry, type TailEntry, tailOf } from '../format/entry-codec.ts';
import type { LogEntry } from '../format/log-entry.ts';
import { floorSeq, type LogState } from '../format/log-state.ts';
import { isCheckpointDue } from './checkpoint-due.ts';
import { Checkpoints, stateOf } from './checkpoints.ts';
import { foldEntries, type HashedEntry } from './fold.ts';
import { ListedEntries, lowestFork, type OwnEntry } from './listed-entries.ts';
import { LogChain } from './log-chain.ts';
import { LogListing } from './log-listing.ts';
import { forked, type LogPosition, type LogSource, rolledBack } from './log-source.ts';
import { Idleness, isDoubt, type Sight, untilTwoAgree } from './looking.ts';
import {
  checkPosition,
  checkStillNewest,
  type LogDamage,
  type OpenedLog,
  type OpenLogOptions,
  openLog,
} from './open-log.ts';
import { type CatalogueNeeds, isLost, PageStore } from './pages/page-store.ts';
import { Turns } from './turns.ts';

/** How long a turn at the log may take: the longest entry over the slowest line takes less. */
const TURN_TIMEOUT_MS = 10 * 60 * 1000;

export interface LogReaderOptions extends OpenLogOptions {
  /** How long one append or one replay may take once its turn has come, in milliseconds. @defaultValue 10 minutes */
  readonly turnTimeoutMs?: number | undefined;
}

/** How far a reader has read its log. `newestTag` is what a listing has shown. */
type Standing = Omit<OpenedLog, 'damage'>;

/** Errors that say that something that was read or written is no longer there. */
const GONE: readonly string[] = ['LOG_TRUNCATED', 'REPOSITORY_ROLLED_BACK'];

/**
 * An open log: its state, which follows the log as it grows. Appends and replays of one process take turns at it.
 */
export class LogReader {
  readonly source: LogSource;
  readonly pages: PageStore;
  readonly #turns: Turns;
  #at: Standing;
  /** The newest standing that a listing has shown to be in the log. Entries of this process above it may not be in the log. */
  #confirmed: Standing;
  /** Entries that no listing has shown since, oldest first. */
  #unconfirmed: OwnEntry[] = [];
  /** Set by a look that had to reopen the log, because entries had been deleted or entries of this process are not in it. */
  #reopenedBy: LogChain | undefined;
  #forked: BackupError | undefined;
  #damage: LogDamage | undefined;
  /** Whether the last look found that something which was read or written is no longer there. */
  #isGone = false;
  readonly #isReadOnly: boolean;
  readonly #strays = new Set<string>();
  /** Keys of pages that could not be read twice. States are not opened from checkpoints that name them. */
  readonly #lostPages = new Set<string>();
  readonly #idleness = new Idleness();

  private constructor(source: LogSource, { damage, ...opened }: OpenedLog, options: LogReaderOptions) {
    this.source = source;
    this.pages = new PageStore(source);
    this.#at = this.#confirmed = opened;
    this.#damage = damage;
    this.#isReadOnly = options.onDamage === 'read-only';
    this.#turns = new Turns(options.turnTimeoutMs ?? TURN_TIMEOUT_MS);
  }

  /** See {@link openLog}. */
  static async open(source: LogSource, options: LogReaderOptions = {}): Promise<LogReader> {
    return new LogReader(source, await openLog(source, options), options);
  }

  get state(): LogState {
    return this.#at.state;
  }

  /** What a host may remember (P11, L7). */
  get position(): LogPosition {
    const { seq, hash, anchors } = this.#confirmed.state;
    return { seq, hash, anchors: anchorBytes(anchors) };
  }

  /** Entries since the newest checkpoint that this reader knows of, newest first: those that fit into a tail. */
  get tail(): readonly TailEntry[] {
    return this.#at.tail;
  }

  /** Number of that checkpoint; 0 if there is none. */
  get checkpoint(): number {
    return this.#at.checkpoint;
  }

  /**
   * Whether the log may have gone on so far that the next number was deleted already. An entry that is created there is not in the
   * log, which its writer learns late. It only decides whether to look first.
   */
  get mayBeFarBehind(): boolean {
    return this.#idleness.isLong;
  }

  /** Whether nothing may be sent before a look: the number above the state may lie above the end of a log that was set back. */
  get mustLook(): boolean {
    return this.#isGone;
  }

  /** Whether a listing has shown that the state is that of the log. */
  get isConfirmed(): boolean {
    return this.#at.state === this.#confirmed.state && this.#unconfirmed.length === 0;
  }

  /** Whether a checkpoint is due, or will be after some more entries. */
  isCheckpointDue(more = 0): boolean {
    return isCheckpointDue(this.state.seq + more - this.checkpoint, this.#at.weights);
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

  /** See {@link Turns.take}. */
  inTurn<T>(work: (ending: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#turns.take(work, signal);
  }

  /**
   * As {@link LogReader.catchUp}, within a turn. It begins with a listing, which shows what is newer, and also that everything
   * that was read or written before is still there: if a number is free, the reason may be that the whole log is gone. Then it
   * goes down from the newest entry by hash, and never up by asking for the next number, which may have been deleted (L3).
   *
   * @throws `REPOSITORY_ROLLED_BACK` when the log does not continue what was read before; `LOG_TRUNCATED`,
   * `LOG_CORRUPT`, `LOG_FORKED`, `REPOSITORY_UNSUPPORTED`, and what the target throws
   */
  async look(options: AbortOptions = {}): Promise<LogState> {
    if (this.#damage !== undefined) return this.state; // Nothing can be appended after damage.
    try {
      await untilTwoAgree((sight) => this.#lookOnce(sight, options));
      this.#isGone = false;
    } catch (error) {
      if (isGone(error)) {
        this.fallBack();
        this.#isGone = true;
      }
      if (!this.#isReadOnly || !isDamage(error)) throw error;
      const { seq } = this.state;
      this.#damage = { openedAsOf: seq, newestListed: seq + 1, error };
    }
    return this.state;
  }

  /**
   * Whether an entry that this process has created is in the log, as the look since then has found: the state that was opened from
   * the newest entry contains it. Where its number was deleted, that state alone says what became of it (L2).
   */
  isInLog({ seq, hash }: Pick<OwnEntry, 'seq' | 'hash'>): boolean {
    const found = this.#reopenedBy?.hashOf(seq);
    if (this.#reopenedBy === undefined) return true;
    return found !== undefined && Buffer.compare(found, hash) === 0;
  }

  /** Drops entries of this process that no listing has shown. The next look shows which of them are in the log. */
  fallBack(): void {
    this.#at = this.#confirmed;
    this.#unconfirmed = [];
  }

  /** Whether an entry that was read at the next number can be folded into the state. */
  isNext({ entry }: HashedEntry): boolean {
    return entry.seq === this.state.seq + 1 && Buffer.compare(entry.prev, this.state.hash) === 0;
  }

  /**
   * Folds the next entries into the state, oldest first: all of them or none.
   *
   * @param newestBytes - the size of the newest entry's object
   * @param next - the state after them, if it was computed already
   * @param known - what is known of the newest entry's object
   */
  async accept(
    entries: readonly (HashedEntry | DecodedEntry)[],
    newestBytes: number,
    next?: LogState,
    known: Pick<OwnEntry, 'isUncertain' | 'tag'> = {},
  ): Promise<void> {
    const state = next ?? (await foldEntries(this.state, entries));
    const tail = await this.#tailAfter(entries);
    this.#at = { ...this.#at, state, tail, newestBytes, newestTag: undefined };
    this.#unconfirmed.push({ seq: state.seq, hash: state.hash, bytes: newestBytes, ...known });
  }

  /**
   * Notes an entry that does not follow from the state: either that of this process was never in the log, or the log is broken. The
   * next look shows which (L6).
   */
  noteOther({ entry: { seq }, hash, sizeBytes }: DecodedEntry, tag: string | undefined): void {
    this.#unconfirmed.push({ seq, hash, bytes: sizeBytes, tag });
  }

  /**
   * The state with the pages of the catalogue taken in that are needed. If one is missing, there may be a newer checkpoint that
   * does not need it.
   *
   * @param look - follows the log
   * @throws `LOG_CORRUPT`, and what the target throws
   */
  async withPages(needs: CatalogueNeeds, look: () => Promise<unknown>, options: AbortOptions): Promise<LogState> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.pages.takeIn(this.state, needs, options);
      } catch (error) {
        if (!isLost(error) || this.#damage !== undefined) throw error;
        // At first it may only be that the log has gone on.
        // @mutation lower-checkpoint-is-tried
        if (attempt > 1 && !this.#passOverLostPages()) throw error;
        await look().catch((other: unknown) => {
          // Then no checkpoint does without the page, and it is the page that has to be restored.
          throw this.#lostPages.size > 0 && BackupError.is(other, 'LOG_TRUNCATED') ? error : other;
        });
      }
    }
  }

  /**
   * L11: the newest checkpoint may be that of a process that slept, and name pages that were deleted meanwhile. Lower ones, down to
   * the floor's, do without them.
   *
   * @returns whether there are pages that were not passed over before
   */
  #passOverLostPages(): boolean {
    const before = this.#lostPages.size;
    for (const key of this.pages.lost) this.#lostPages.add(key);
    return this.#lostPages.size > before;
  }

  /** Whether the state has a page that can't be read. */
  get #isLost(): boolean {
    return (
      this.#lostPages.size > 0 && namedPages(this.state.pages).some(({ ref }) => this.#lostPages.has(pageKeyOf(ref)))
    );
  }

  /**
   * Replaces the state by that of a checkpoint that this process has written, and by the entries since: its rows are in pages, so
   * it takes less memory.
   *
   * @param checkpoint - what it says: the same as a state that was read before
   */
  rebaseOn(checkpoint: LogState): Promise<void> {
    return this.inTurn(async () => {
      const isSame = this.#at.state === this.#confirmed.state;
      const at = await rebased(this.#at, checkpoint);
      this.#confirmed = isSame ? { ...this.#confirmed, state: at.state } : await rebased(this.#confirmed, checkpoint);
      this.#at = at;
    });
  }

  /** Notes that there is a checkpoint: tails begin after it. */
  noteCheckpoint(seq: number): void {
    if (seq <= this.checkpoint) return;
    this.#at = { ...this.#at, checkpoint: seq, tail: this.tail.filter(({ entry }) => entry.seq > seq) };
  }

  #tailAfter(entries: readonly HashedEntry[]): Promise<readonly TailEntry[]> {
    const newer = entries.map(({ entry }) => entry).reverse();
    return runInSteps(tailOf(newer, this.tail));
  }

  async #lookOnce(sight: Sight, options: AbortOptions): Promise<void> {
    const { source, state } = this;
    const listing = await LogListing.read(source, { ...options, through: this.#confirmed.state.seq });
    await listing.reachCheckpoint(options);
    const { newest } = listing;
    sight.newest = newest;
    let next: Standing = this.#at;
    let reopenedBy: LogChain | undefined;
    const isLost = this.#isLost;
    if (newest <= state.seq && !isLost) {
      await this.#checkOwn(listing, this.state, options);
      listing.checkWhole(newest);
    } else {
      const known = this.#confirmedEntry;
      const listed = new ListedEntries(source, listing, options);
      if (known.seq > listing.checkpointBelow(newest)) await listed.find(known);
      const chain = await LogChain.from(source, listing, newest, { ...options, through: state.seq + 1 });
      await checkStillNewest(source, listing, options);
      listing.checkWhole(newest);
      const followed = isLost ? undefined : await this.#follow(chain, listing, options);
      if (followed === undefined) reopenedBy = chain;
      next = followed ?? (await this.#reopen(chain, listing, options));
      await this.#checkOwn(listing, next.state, options);
    }
    const fork = await lowestFork(source, listing, this.#strays, { ...options, above: floorSeq(next.state) });
    if (fork !== undefined) {
      this.#forked ??= forked(fork);
      throw this.#forked;
    }
    this.#at = next;
    this.noteCheckpoint(listing.checkpointBelow(newest));
    const weights = listing.weightsAt(newest);
    this.#confirmed = this.#at = { ...this.#at, weights, newestTag: listing.tagOf(this.state.seq) };
    this.#unconfirmed = [];
    this.#reopenedBy = reopenedBy;
    this.#idleness.looked(newest > state.seq);
  }

  /** Reads on from the own state. @returns `undefined` if the newest entry does not follow from it, or entries were deleted */
  async #follow(chain: LogChain, listing: LogListing, options: AbortOptions): Promise<Standing | undefined> {
    const { seq, hash } = this.state;
    const checkpoint = listing.checkpointBelow(listing.newest);
    try {
      await chain.reach(seq + 1, options);
    } catch (error) {
      // Up to the newest checkpoint it may have been deleted; above, nothing ever is.
      if (!isDoubt(error) || chain.below.seq > checkpoint) throw error;
      return undefined;
    }
    // @mutation writer-opens-anew
    if (Buffer.compare(chain.hashOf(seq) as Uint8Array, hash) !== 0) return undefined;
    const entries = chain.since(seq);
    const next = { state: await foldEntries(this.state, entries), tail: await this.#tailAfter(entries) };
    return { ...this.#at, ...next, newestBytes: chain.topBytes, newestTag: undefined };
  }

  /** Opens the log again from a checkpoint, and compares it with what is known (L6, L7). */
  async #reopen(chain: LogChain, listing: LogListing, options: AbortOptions): Promise<Standing> {
    const { newest } = listing;
    const { state, checkpoint } = await stateOf(
      chain,
      new Checkpoints(this.source, listing, newest, this.#lostPages),
      options,
    );
    const known = this.#confirmed.state;
    if (known.seq > 0) await checkPosition(known, chain, state, options);
    for (const { seq, hash } of this.#unconfirmed) {
      // L6: what was created at a number that had been deleted is at or below the floor.
      // @mutation strays-are-below-the-floor
      if (seq <= floorSeq(state)) continue;
      await chain.reach(seq + 1, options);
      if (Buffer.compare(chain.hashOf(seq) as Uint8Array, hash) === 0) continue;
      throw rolledBack(`entry ${seq}, as this process has written or read it, is not in the log`);
    }
    const tail = await runInSteps(chain.tail(checkpoint));
    const shown = { newestBytes: chain.topBytes, newestTag: listing.tagOf(newest), weights: listing.weightsAt(newest) };
    return { state, tail, checkpoint, ...shown };
  }

  /**
   * Checks that entries of this process, and the one that was confirmed last, are listed as they were: a tail would hide damage
   * below it. Up to the floor of the newest state they may be gone.
   */
  async #checkOwn(listing: LogListing, newest: LogState, options: AbortOptions): Promise<void> {
    const floor = floorSeq(newest);
    const listed = new ListedEntries(this.source, listing, options);
    // @mutation own-entries-are-listed
    for (const own of this.#unconfirmed.toReversed()) if (own.seq > floor) await listed.check(own);
    const known = this.#confirmedEntry;
    if (known.seq === 0 || (known.seq <= floor && known.seq < newest.seq)) return;
    await listed.checkSame(known, this.#confirmed.newestTag);
  }

  get #confirmedEntry(): OwnEntry {
    const { state, newestBytes } = this.#confirmed;
    return { seq: state.seq, hash: state.hash, bytes: newestBytes };
  }
}

function isGone(error: unknown): boolean {
  return BackupError.is(error) && GONE.includes(error.code);
}

function isDamage(error: unknown): error is BackupError {
  return BackupError.is(error, 'LOG_CORRUPT') || BackupError.is(error, 'LOG_FORKED');
}

/** The same standing, folded from a checkpoint, if the tail has all entries since then. */
async function rebased(standing: Standing, checkpoint: LogState): Promise<Standing> {
  const { state, tail } = standing;
  const isBetween = ({ seq }: LogEntry) => seq > checkpoint.seq && seq <= state.seq;
  const entries = tail
    .map(({ entry }) => entry)
    .filter(isBetween)
    .reverse();
  if (state.seq < checkpoint.seq || entries.length !== state.seq - checkpoint.seq) return standing;
  const hashed = entries.map((entry, at) => ({ entry, hash: entries[at + 1]?.prev ?? state.hash }));
  return { ...standing, state: await foldEntries(checkpoint, hashed) };
}
