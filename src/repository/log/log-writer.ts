import type { AbortOptions } from '../../common/abort.ts';
import { systemClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { metered } from '../../targets/decorators/request-meter.ts';
import { MAX_TIME } from '../format/decode-values.ts';
import { commitIdFor, encodingEntry } from '../format/entry-codec.ts';
import type { LogEntry, LogFact } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import { CheckpointWriter } from './checkpoint-writer.ts';
import {
  commitUnknown,
  createEntry,
  insist,
  isRefusal,
  outliving,
  type Persistence,
  putEntry,
  type SentEntry,
  type Waiting,
} from './create-entry.ts';
import type { Decide } from './entries/decision.ts';
import { foldEntries, type HashedEntry } from './fold.ts';
import type { LogReader } from './log-reader.ts';
import { keyOfEntry, type LogPosition } from './log-source.ts';

export interface AppendOptions extends AbortOptions {
  /**
   * Whether to look for newer entries before deciding. Without, a state that is behind costs a lost number; what is
   * refused is refused only after a look. In single-writer mode there is always a look. @defaultValue true
   */
  readonly lookFirst?: boolean | undefined;
  /**
   * Whether a listing begun after the entry was created has to show it in a whole log: a name that was free may have been
   * free because a disk is gone, or another bucket is in its place. Nothing may be reported or deleted because of an entry
   * before that; it also confirms all own entries below. In single-writer mode there always is one. @defaultValue true
   */
  readonly confirm?: boolean | undefined;
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

/** An entry that was sent, and the state after it. */
interface Sending {
  readonly sent: SentEntry;
  readonly decoded: HashedEntry;
  readonly next: LogState;
}

/** Appends to a log: one entry at a time in this process, and against everybody else by the store's create-only. */
export class LogWriter {
  readonly reader: LogReader;
  readonly #persistence: Persistence;
  readonly #now: () => number;
  readonly #checkpoints: CheckpointWriter;
  /** Single-writer mode: an entry that may or may not be there, or may be forked. It comes before all others. */
  #unsettled: Sending | undefined;

  constructor(reader: LogReader, options: LogWriterOptions = {}) {
    this.reader = reader;
    this.#persistence = {
      attempts: options.attempts ?? 8,
      baseDelayMs: options.baseDelayMs ?? 200,
      maxDelayMs: options.maxDelayMs ?? 10_000,
      sleep: options.sleep ?? ((delayMs, signal) => systemClock.sleep(delayMs, signal)),
      random: options.random ?? Math.random,
    };
    this.#now = options.now ?? Date.now;
    this.#checkpoints = new CheckpointWriter(reader, options.onCheckpointFailed);
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

  /** Waits a while for a checkpoint that is being written, and gives it up then. Nothing depends on it. */
  settled(): Promise<void> {
    return this.#checkpoints.settled();
  }

  /**
   * Appends what `decide` says.
   *
   * Rejects with `signal.reason` where the entry is not in the log, and only then: an abort before the entry is sent
   * needs no network, one after that waits for the outcome, some seconds at most.
   *
   * @returns `undefined` when there was nothing to say
   * @throws what `decide` refuses with, judged on a state that was looked at in this call; `COMMIT_UNKNOWN` when the
   * store can't be reached to learn the outcome, or lists a log without the entry or without those before it (then the cause
   * says so); `NO_SPACE` and other refusals of the store; `CLOCK_WRONG`; `LOG_FORKED`; `LIMIT_EXCEEDED`; `LOG_CORRUPT`
   * for a fact that breaks the log's rules, which is not written; and what {@link LogReader.look} gives
   */
  append(decide: Decide, options: AppendOptions = {}): Promise<Appended | undefined> {
    return this.reader.turns.take(() => this.#append(decide, options), options.signal);
  }

  async #append(decide: Decide, options: AppendOptions): Promise<Appended | undefined> {
    const { signal, lookFirst = true, confirm = true, withoutTail = false } = options;
    const { reader } = this;
    const isSingle = reader.source.mode === 'single-writer';
    if (reader.unwritable !== undefined) throw reader.unwritable;
    if (this.#unsettled !== undefined) await this.#settleEarlier(this.#unsettled, signal);
    let isFresh = lookFirst || isSingle;
    if (isFresh) await reader.look({ signal });
    for (let lost = 0; ; ) {
      // @mutation decided-again
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
      const sending = await this.#prepare(decision, withoutTail ? [] : reader.tail);
      signal?.throwIfAborted(); // From here on the entry may be in the log.
      const isThere = isSingle ? await this.#settle(sending, signal) : await this.#create(sending, confirm, signal);
      if (isThere) {
        if (confirm && !withoutTail) await this.#checkpoints.writeIfDue(signal);
        return { entry: sending.decoded.entry, state: sending.next };
      }
      // Another's entry is at N+1, and folded in. Decide again, and try N+2 (P4).
      lost++;
      signal?.throwIfAborted();
      if (lost > 1) await reader.look({ signal });
      isFresh = lost > 1;
    }
  }

  async #prepare(fact: LogFact, tail: readonly LogEntry[]): Promise<Sending> {
    const { source, state } = this.reader;
    const head = { seq: state.seq + 1, prev: state.hash, at: clockTime(this.#now()) };
    const commitId = await runInSteps(commitIdFor(source.logKey, { ...head, ...fact }));
    const { logKey, formatCopy } = source;
    const entry = { ...head, commitId, ...fact };
    const { bytes, ...decoded } = await runInSteps(encodingEntry(logKey, entry, tail, formatCopy));
    // What nobody could fold must not get into a log that is never mended.
    const next = await foldEntries(state, [decoded]);
    const { hash } = decoded;
    return { sent: { seq: head.seq, key: keyOfEntry(source, head.seq, hash), hash, bytes }, decoded, next };
  }

  /** Sends the entry to the next number. @returns `false` when that is another's, which is folded in */
  #create({ sent, decoded, next }: Sending, confirm: boolean, signal: AbortSignal | undefined): Promise<boolean> {
    const { reader } = this;
    return outliving(signal, sent.seq, async (waiting) => {
      const other = await createEntry(reader.source, sent, this.#persistence, waiting);
      if (other !== undefined) {
        await reader.accept([other], other.sizeBytes);
        return false;
      }
      await reader.accept([decoded], sent.bytes.length, next);
      // @mutation success-is-listed
      if (confirm) await this.#confirm(sent.seq, waiting);
      return true;
    });
  }

  /**
   * Single-writer mode: puts the entry, and looks whether it is alone before anybody is told (P13, decision 022). An entry
   * whose outcome is not known is sent again before any other: nothing else would stop both from being there.
   */
  #settle(sending: Sending, signal: AbortSignal | undefined): Promise<true> {
    this.#unsettled = sending;
    return outliving(signal, sending.sent.seq, (waiting) => this.#settleUntil(waiting, sending));
  }

  /**
   * An earlier entry whose outcome was not learned. Where its number is taken by now, by itself or by an entry of the process
   * that has written since, it is not sent again: next to another entry it would be a fork.
   */
  async #settleEarlier(sending: Sending, signal: AbortSignal | undefined): Promise<void> {
    const { seq } = await this.reader.look({ signal });
    signal?.throwIfAborted();
    // @mutation taken-number-is-not-sent-to
    if (seq >= sending.sent.seq) this.#unsettled = undefined;
    else await this.#settle(sending, signal);
  }

  async #settleUntil(waiting: Waiting, { sent, decoded, next }: Sending): Promise<true> {
    const { reader } = this;
    try {
      await putEntry(reader.source, sent, this.#persistence, waiting);
      // A look may have found it meanwhile.
      if (reader.state.seq < sent.seq) await reader.accept([decoded], sent.bytes.length, next);
      // @mutation single-writer-looks
      await this.#confirm(sent.seq, waiting);
      this.#unsettled = undefined;
      return true;
    } catch (error) {
      // Refused: it is not there, and nothing is on its way. Or it is there, and its log is not whole.
      if (!BackupError.is(error, 'COMMIT_UNKNOWN')) this.#unsettled = undefined;
      throw error;
    }
  }

  /** Success is what a listing shows that was begun after the creation: the newest entry, and those before it. */
  async #confirm(seq: number, waiting: Waiting): Promise<void> {
    const { reader } = this;
    try {
      await insist(seq, this.#persistence, waiting, () => lookAtAnyCost(reader, waiting.givenUp), isVerdict);
    } catch (error) {
      reader.fallBack();
      if (BackupError.is(error, 'LOG_FORKED')) throw error;
      throw BackupError.is(error, 'COMMIT_UNKNOWN') ? error : commitUnknown(seq, error);
    }
  }
}

/** What was sent was within the budget; learning what became of it has to be, whatever that is. */
function lookAtAnyCost(reader: LogReader, signal: AbortSignal | undefined): Promise<LogState> {
  return reader.look({ signal }).catch((error: unknown) => {
    if (!BackupError.is(error, 'BUDGET_EXCEEDED')) throw error;
    return metered(undefined, () => reader.look({ signal }));
  });
}

/** What asking again does not change. */
function isVerdict(error: unknown): boolean {
  const verdicts = ['REPOSITORY_ROLLED_BACK', 'REPOSITORY_UNSUPPORTED', 'LOG_TRUNCATED', 'LOG_FORKED', 'LOG_CORRUPT'];
  return BackupError.is(error) && (verdicts.includes(error.code) || isRefusal(error));
}

/** A time that every reader takes. @throws `CLOCK_WRONG` */
function clockTime(now: number): number {
  if (Number.isFinite(now) && now >= 0 && now <= MAX_TIME) return now;
  const message = `the clock of this machine shows ${now} ms since 1970, a time that can't be stored: set the clock`;
  throw new BackupError('CLOCK_WRONG', message);
}
