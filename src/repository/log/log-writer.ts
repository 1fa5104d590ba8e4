import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { systemClock } from '../../target/clock.ts';
import { encodeCheckpoint } from './checkpoint-codec.ts';
import { createEntry, insist, outliving, type Persistence, putEntry, type SentEntry } from './create-entry.ts';
import { encodeEntry, newCommitId } from './entry-codec.ts';
import { foldEntries, type HashedEntry } from './fold.ts';
import type { LogEntry, LogFact } from './log-entry.ts';
import { checkpointKey, entryKey, LOG_PREFIX, parseLogKey } from './log-keys.ts';
import type { LogReader } from './log-reader.ts';
import { type LogPosition, rolledBack } from './log-source.ts';
import type { LogState } from './log-state.ts';

/** From so many entries on a checkpoint is due. */
export const CHECKPOINT_EVERY = 32;

/** What is to become true, by the state that it is decided on; an error for "it may not"; `undefined` for "nothing to say". */
export type Decision<Fact extends LogFact = LogFact> = Fact | BackupError | undefined;

/**
 * Decides what to append. Called anew for every number that is tried (P4, P7), and has no other source of truth than
 * the state. It may be asynchronous, but others of this process wait meanwhile.
 */
export type Decide<Fact extends LogFact = LogFact> = (state: LogState) => Decision<Fact> | Promise<Decision<Fact>>;

export interface AppendOptions extends AbortOptions {
  /**
   * Whether to look for newer entries before deciding. Without, a state that is behind costs a lost number; what is
   * refused is refused only after a look. In single-writer mode there is always a look. @defaultValue true
   */
  readonly lookFirst?: boolean | undefined;
  /**
   * For a store that is full: the entry is as small as it can be, without a tail, and no checkpoint follows. Whoever opens
   * the log needs a few requests more. @defaultValue false
   */
  readonly withoutTail?: boolean | undefined;
}

/** An entry that has won its number. */
export interface Appended {
  readonly entry: LogEntry;
  /** The state through it. */
  readonly state: LogState;
}

/** Options of {@link LogWriter}. */
export interface LogWriterOptions extends Partial<Persistence> {
  /** Milliseconds since 1970, for the entries' informational time. @defaultValue Date.now */
  readonly now?: (() => number) | undefined;
  /** Told of a checkpoint that could not be written; nothing depends on it. */
  readonly onCheckpointFailed?: ((error: unknown) => void) | undefined;
}

/** Single-writer mode: an entry that may or may not be there, or may be forked. */
interface Unsettled {
  readonly sent: SentEntry;
  readonly decoded: HashedEntry;
  /** The state after it. */
  readonly next: LogState;
}

/** Appends to a log: one entry at a time in this process, and against everybody else by the store's create-only. */
export class LogWriter {
  readonly reader: LogReader;
  readonly #persistence: Persistence;
  readonly #now: () => number;
  readonly #onCheckpointFailed: ((error: unknown) => void) | undefined;
  /** It comes before all others. */
  #unsettled: Unsettled | undefined;

  constructor(reader: LogReader, options: LogWriterOptions = {}) {
    this.reader = reader;
    this.#persistence = {
      attempts: options.attempts ?? 8,
      baseDelayMs: options.baseDelayMs ?? 200,
      maxDelayMs: options.maxDelayMs ?? 10_000,
      sleep: options.sleep ?? ((delayMs) => systemClock.sleep(delayMs)),
      random: options.random ?? Math.random,
    };
    this.#now = options.now ?? Date.now;
    this.#onCheckpointFailed = options.onCheckpointFailed;
  }

  get state(): LogState {
    return this.reader.state;
  }

  /** For a host to remember (P11). */
  get position(): LogPosition {
    return this.reader.position;
  }

  /** Replays what others have appended. */
  catchUp(options: AbortOptions = {}): Promise<LogState> {
    return this.reader.catchUp(options);
  }

  /**
   * Appends what `decide` says.
   *
   * Rejects with `signal.reason` where the entry is not in the log, and only then: an abort before the entry is sent
   * needs no network, one after that waits for the outcome, some seconds at most.
   *
   * @returns `undefined` when there was nothing to say
   * @throws what `decide` refuses with, judged on a state that was looked at in this call; `COMMIT_UNKNOWN` when the
   * store can't be reached to learn the outcome; `NO_SPACE` and other refusals of the store; `LOG_FORKED`; `LIMIT_EXCEEDED`; `LOG_CORRUPT` for a fact that breaks
   * the log's rules, which is not written; and what {@link LogReader.look} gives
   */
  append(decide: Decide, options: AppendOptions = {}): Promise<Appended | undefined> {
    return this.reader.turns.take(() => this.#append(decide, options), options.signal);
  }

  async #append(decide: Decide, options: AppendOptions): Promise<Appended | undefined> {
    const { signal, lookFirst = true, withoutTail = false } = options;
    const { reader } = this;
    const isSingle = reader.source.mode === 'single-writer';
    if (reader.forked !== undefined) throw reader.forked;
    if (this.#unsettled !== undefined) await this.#settle(this.#unsettled, signal);
    let isFresh = lookFirst || isSingle;
    if (isFresh) await reader.look({ signal });
    for (let lost = 0; ; ) {
      const decision = await decide(reader.state);
      signal?.throwIfAborted();
      if (decision === undefined || BackupError.is(decision)) {
        // On an old state it says nothing: what stands in the way may be over.
        if (isFresh && decision === undefined) return undefined;
        if (isFresh) throw decision;
        await reader.look({ signal });
        isFresh = true;
        continue;
      }
      const appended = await this.#tryNext(decision, withoutTail ? [] : reader.tail, signal);
      if (appended !== undefined) {
        if (!withoutTail) await this.#checkpointIfDue(signal);
        return appended;
      }
      // Another's entry is at N+1, and folded in. Decide again, and try N+2 (P4).
      lost++;
      signal?.throwIfAborted();
      if (lost > 1) await reader.look({ signal });
      isFresh = lost > 1;
    }
  }

  /** Sends the entry to the next number. @returns `undefined` when that is another's */
  async #tryNext(
    fact: LogFact,
    tail: readonly LogEntry[],
    signal: AbortSignal | undefined,
  ): Promise<Appended | undefined> {
    const { reader } = this;
    const { source, state } = reader;
    const head = { seq: state.seq + 1, prev: state.hash, at: this.#now() };
    const commitId = newCommitId(source.logKey, { ...head, ...fact });
    const { logKey, formatCopy } = source;
    const { bytes, ...decoded } = encodeEntry(logKey, { ...head, commitId, ...fact }, tail, formatCopy);
    const next = await foldEntries(state, [decoded]); // What nobody could fold must not get into a log that is never mended.
    const sent = { seq: head.seq, key: entryKey(head.seq, commitId), commitId, bytes };
    if (source.mode === 'single-writer') {
      this.#unsettled = { sent, decoded, next };
      await this.#settle(this.#unsettled, signal);
    } else {
      const own = { ...sent, key: entryKey(head.seq) };
      const other = await outliving(signal, head.seq, (givenUp) =>
        createEntry(source, own, this.#persistence, givenUp),
      );
      if (other !== undefined) {
        await reader.accept([other]);
        return undefined;
      }
      await reader.accept([decoded], next);
    }
    return { entry: decoded.entry, state: reader.state };
  }

  /**
   * Single-writer mode: puts the entry, and looks whether it is alone before anybody is told (P13, decision 022). An entry
   * whose outcome is not known is sent again before any other: nothing else would stop both from being there.
   */
  async #settle(unsettled: Unsettled, signal: AbortSignal | undefined): Promise<void> {
    await outliving(signal, unsettled.sent.seq, (givenUp) => this.#settleUntil(givenUp, unsettled));
  }

  async #settleUntil(givenUp: AbortSignal, { sent, decoded, next }: Unsettled): Promise<void> {
    const { reader } = this;
    try {
      await putEntry(reader.source, sent, this.#persistence, givenUp);
    } catch (error) {
      // A refusal: it is not there, and nothing is on its way.
      if (!BackupError.is(error, 'COMMIT_UNKNOWN')) this.#unsettled = undefined;
      throw error;
    }
    const others = await insist(sent.seq, this.#persistence, givenUp, () => this.#othersFrom(sent, givenUp));
    if (others.length > 0) throw reader.noteFork(Math.min(...others));
    this.#unsettled = undefined;
    // A look may have found it meanwhile.
    if (reader.state.seq < sent.seq) await reader.accept([decoded], next);
  }

  /** Numbers of entries from this one up that are not this one. The newest come first, so it is one page. */
  async #othersFrom(sent: SentEntry, signal: AbortSignal): Promise<number[]> {
    const others: number[] = [];
    let isThere = false;
    for await (const { key } of this.reader.source.target.list(LOG_PREFIX, { signal })) {
      const parsed = parseLogKey(key);
      if (parsed === undefined || parsed.kind === 'checkpoint' || parsed.commitId === undefined) continue;
      if (parsed.seq < sent.seq) break;
      if (key === sent.key) isThere = true;
      else others.push(parsed.seq);
    }
    if (!isThere) throw rolledBack(`entry ${sent.seq} was written and is not listed`);
    return others;
  }

  /** P11: of an entry that has won. It is a cache: its failure is nobody's, and an abort only ends the waiting for it. */
  async #checkpointIfDue(signal: AbortSignal | undefined): Promise<void> {
    const { source, state, checkpoint } = this.reader;
    if (state.seq - checkpoint < CHECKPOINT_EVERY) return;
    try {
      const bytes = encodeCheckpoint(source.logKey, state);
      if (bytes === undefined) return;
      await source.target.put(checkpointKey(state.seq), bytes, { signal });
      this.reader.noteCheckpoint(state.seq);
    } catch (error) {
      this.#onCheckpointFailed?.(error);
    }
  }
}
