// This folder is the commit log: it opens, reads and appends; what each kind of entry decides and changes is in
// entries/.

import { type AbortOptions, abortable } from '../../common/abort.ts';
import { systemClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';
import type { RetryPolicy } from '../../common/retry.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { metered } from '../../targets/decorators/request-meter.ts';
import { MAX_TIME } from '../format/decode-values.ts';
import { commitIdFor, type DecodedEntry, encodingEntry } from '../format/entry-codec.ts';
import { requireWriterFeatures } from '../format/features.ts';
import type { LogEntry, LogFact } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import { tailLength } from './checkpoint-due.ts';
import { CheckpointWriter } from './checkpoint-writer.ts';
import {
  commitUnknown,
  createEntry,
  isRefusal,
  pastCallersAbort,
  putEntry,
  type SentEntry,
  untilKnown,
  type Waiting,
} from './create-entry.ts';
import type { Decide } from './entries/decision.ts';
import { foldEntries, type HashedEntry } from './fold.ts';
import type { LogReader } from './log-reader.ts';
import { keyOfEntry, type LogPosition } from './log-source.ts';
import type { CatalogueNeeds } from './pages/page-store.ts';

export interface AppendOptions extends AbortOptions {
  /** What `decide` asks its state about: those pages of the catalogue are taken in before. A function is asked for each state. */
  readonly needs?: CatalogueNeeds | (() => CatalogueNeeds) | undefined;
  /**
   * Whether to look for newer entries before deciding. Without this, a state that is behind costs one attempt, because the
   * number is taken. Nothing is refused without a look, and in single-writer mode the writer always looks. @defaultValue true
   */
  readonly lookFirst?: boolean | undefined;
  /**
   * Whether a listing that was begun after the entry was created must show it in a whole log (P5): its number may have been
   * free because a disk is gone, or another bucket has taken its place. Before that, nothing may be reported or deleted
   * because of the entry. The listing also confirms all earlier entries of this process. In single-writer mode the entry is always
   * confirmed. @defaultValue true
   */
  readonly confirm?: boolean | undefined;
  /**
   * For a store that is full: the entry has no tail, so that it is as small as possible, and no checkpoint follows. Opening the
   * log then takes a few more requests. @defaultValue false
   */
  readonly withoutTail?: boolean | undefined;
  /**
   * Called when the entry is in the store, or may be, or may arrive later. If it is not in the log after that, it may have been
   * there once.
   */
  readonly onMayBeThere?: (() => void) | undefined;
}

/** An entry that has its number in the log. */
export interface Appended {
  readonly entry: LogEntry;
  /** The state through it, in which the pages that `decide` needed are taken in. */
  readonly state: LogState;
}

export interface LogWriterOptions extends Partial<RetryPolicy> {
  /** Milliseconds since 1970, for the informational time of entries. @defaultValue Date.now */
  readonly now?: (() => number) | undefined;
  /** Is called when a checkpoint could not be written. Nothing depends on it. */
  readonly onCheckpointFailed?: ((error: unknown) => void) | undefined;
}

/** An entry that is being sent, and the state after it. */
interface Sending {
  readonly sent: SentEntry;
  readonly decoded: HashedEntry;
  readonly next: LogState;
  /** The same state with pages taken in. */
  readonly seen: LogState;
}

/**
 * What became of an entry. `lost`: another writer's has its number, and was folded in. `looked`: it is not known to be in the log,
 * and the reader stands at the newest entry, whose state decides.
 */
type Outcome = 'written' | 'lost' | 'looked';

/**
 * Appends to a log: one entry at a time in this process. Between processes, the store's create-only puts decide which entry
 * gets a number.
 */
export class LogWriter {
  readonly reader: LogReader;
  readonly #policy: RetryPolicy;
  readonly #now: () => number;
  readonly #checkpoints: CheckpointWriter;
  /** Single-writer mode: an entry whose outcome is not known. It is settled before any other is sent. */
  #unsettled: Sending | undefined;

  constructor(reader: LogReader, options: LogWriterOptions = {}) {
    this.reader = reader;
    this.#policy = {
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

  get position(): LogPosition {
    return this.reader.position;
  }

  /**
   * Replays what other writers have appended.
   *
   * @returns the state, with the pages of the catalogue taken in that are needed
   */
  async catchUp({
    needs,
    signal,
  }: AbortOptions & { readonly needs?: CatalogueNeeds | undefined } = {}): Promise<LogState> {
    const state = await this.reader.catchUp({ signal });
    return needs === undefined ? state : this.withPages(needs, { signal });
  }

  /** The state as it is known here, with the pages of the catalogue taken in that are needed. @throws as {@link catchUp} */
  withPages(needs: CatalogueNeeds, options: AbortOptions = {}): Promise<LogState> {
    return this.reader.withPages(needs, () => this.reader.catchUp(options), options);
  }

  /** Writes a checkpoint of the present state, if it is the newest one that is confirmed, whether or not one is due. Never rejects. */
  async checkpointNow({ signal }: AbortOptions = {}): Promise<void> {
    if (this.reader.unwritable !== undefined) return;
    await this.reader.inTurn((ending) => this.#checkpoints.write(ending), signal);
  }

  /** Waits some seconds for a checkpoint that is being written, and then gives it up. */
  settled(): Promise<void> {
    return this.#checkpoints.settled();
  }

  /**
   * Appends the entry that `decide` returns.
   *
   * Rejects with `signal.reason`, or with `TARGET_TIMEOUT` when its turn takes too long, only if the entry is not in the log.
   * Before the entry is sent, an abort takes effect without a request. Afterwards the call waits for the outcome, for some seconds
   * at most.
   *
   * @returns `undefined` if `decide` has nothing to append
   * @throws what `decide` refuses with, on a state that was looked at during this call; `COMMIT_UNKNOWN` if the outcome can't
   * be found out, or the log is listed without the entry or without earlier ones (the cause says so); `NO_SPACE` and other
   * refusals of the store; `CLOCK_WRONG`; `LOG_FORKED`; `LIMIT_EXCEEDED`; `LOG_CORRUPT` for an entry that breaks the rules of
   * the log, which is not written; `REPOSITORY_UNSUPPORTED` when a newer program has said that writers must know more; and
   * what {@link LogReader.look} throws
   */
  append(decide: Decide, options: AppendOptions = {}): Promise<Appended | undefined> {
    return this.reader.inTurn((ending) => this.#append(decide, ending, options), options.signal);
  }

  async #append(decide: Decide, signal: AbortSignal, options: AppendOptions): Promise<Appended | undefined> {
    const { lookFirst = true, confirm = true, withoutTail = false, onMayBeThere } = options;
    const { reader } = this;
    const isSingle = reader.source.mode === 'single-writer';
    if (reader.unwritable !== undefined) throw reader.unwritable;
    if (this.#unsettled !== undefined) await this.#settleEarlier(this.#unsettled, signal);
    let isFresh = lookFirst || isSingle || reader.mustLook;
    if (isFresh) await reader.look({ signal });
    for (let lost = 0; ; ) {
      // @mutation features-stop-writers
      requireWriterFeatures(reader.state.features);
      const needs = typeof options.needs === 'function' ? options.needs() : (options.needs ?? {});
      const state = await reader.withPages(needs, () => reader.look({ signal }), { signal });
      // @mutation decided-again
      const decision = await abortable(Promise.resolve(decide(state)), signal);
      signal.throwIfAborted();
      if (decision === undefined || BackupError.is(decision)) {
        // On an old state a refusal proves nothing, because its reason may be over.
        if (isFresh && decision === undefined) return undefined;
        // @mutation refused-on-a-confirmed-state
        if (isFresh) throw decision;
        await reader.look({ signal });
        isFresh = true;
        continue;
      }
      const sending = await this.#prepare(decision, state, withoutTail);
      signal.throwIfAborted(); // From here on the entry may be in the log.
      const within = (work: (waiting: Waiting) => Promise<Outcome>) =>
        pastCallersAbort(signal, sending.sent.seq, work, onMayBeThere);
      const outcome = await within((waiting) =>
        isSingle ? this.#settle(sending, waiting) : this.#create(sending, confirm, waiting),
      );
      if (outcome === 'written') {
        if (confirm && !withoutTail) await this.#checkpoints.writeIfDue(signal);
        return { entry: sending.decoded.entry, state: sending.seen };
      }
      // Another writer's entry has the number, or entries were deleted meanwhile. Decide again on the newer state (P4, L2).
      lost++;
      signal.throwIfAborted();
      if (outcome === 'lost' && lost > 1) await reader.look({ signal });
      isFresh = outcome === 'looked' || lost > 1;
    }
  }

  /** @param decided - the state that was decided on, with pages taken in */
  async #prepare(fact: LogFact, decided: LogState, withoutTail: boolean): Promise<Sending> {
    const { source, state, tail: since } = this.reader;
    const { logKey, formatCopy } = source;
    const head = { seq: state.seq + 1, prev: state.hash, at: clockTime(this.#now()) };
    const commitId = await runInSteps(commitIdFor(logKey, { ...head, ...fact }));
    const entry = { ...head, commitId, ...fact };
    const tail = withoutTail ? [] : since.slice(0, tailLength(head.seq));
    const { bytes, ...decoded } = await runInSteps(encodingEntry(logKey, entry, tail, formatCopy));
    // An entry that can't be folded would make the whole log unreadable for good.
    const seen = await foldEntries(decided, [decoded]);
    const next = decided === state ? seen : await foldEntries(state, [decoded]);
    const { hash } = decoded;
    return { sent: { seq: head.seq, key: keyOfEntry(source, head.seq, hash), hash, bytes }, decoded, next, seen };
  }

  /** Sends the entry to the next number. */
  async #create({ sent, decoded, next }: Sending, confirm: boolean, waiting: Waiting): Promise<Outcome> {
    const { reader } = this;
    const holder = await createEntry(reader.source, sent, this.#policy, waiting);
    if (holder.whose === 'other') return await this.#followOther(holder.entry, holder.tag, waiting);
    const isGone = holder.whose === 'gone';
    const known = isGone ? { isUncertain: true } : { tag: holder.tag };
    await reader.accept([decoded], sent.bytes.length, next, known);
    // @mutation success-is-listed
    if (!confirm && !isGone) return 'written';
    await this.#confirm(sent.seq, waiting);
    // @mutation state-decides
    return reader.isInLog(sent) ? 'written' : 'looked';
  }

  /** The number is another writer's for good. If its entry does not follow from the state, the state is not that of the log (L6). */
  async #followOther(other: DecodedEntry, tag: string | undefined, { givenUp }: Waiting): Promise<Outcome> {
    const { reader } = this;
    if (reader.isNext(other)) {
      await reader.accept([other], other.sizeBytes, undefined, { tag });
      return 'lost';
    }
    reader.noteOther(other, tag);
    await reader.look({ signal: givenUp });
    return 'looked';
  }

  /**
   * Single-writer mode: puts the entry, and looks whether it is the only one of its number before it reports a success (P13,
   * decision 022). An entry whose outcome is not known is sent again before any other, or both could end up in the log.
   */
  #settle(sending: Sending, waiting: Waiting): Promise<Outcome> {
    this.#unsettled = sending;
    return this.#settleUntil(waiting, sending);
  }

  /**
   * Settles an earlier entry whose outcome is not known. If its number is taken by now, by this entry or by one of the process
   * that has written since, it is not sent again: next to another entry it would be a fork.
   */
  async #settleEarlier(sending: Sending, signal: AbortSignal): Promise<void> {
    const { seq } = await this.reader.look({ signal });
    signal.throwIfAborted();
    // @mutation taken-number-is-not-sent-to
    if (seq >= sending.sent.seq) this.#unsettled = undefined;
    else await pastCallersAbort(signal, sending.sent.seq, (waiting) => this.#settle(sending, waiting));
  }

  async #settleUntil(waiting: Waiting, { sent, decoded, next }: Sending): Promise<Outcome> {
    const { reader } = this;
    try {
      await putEntry(reader.source, sent, this.#policy, waiting);
      // A look may have found it in the meantime.
      if (reader.state.seq < sent.seq) await reader.accept([decoded], sent.bytes.length, next);
      // @mutation single-writer-looks
      await this.#confirm(sent.seq, waiting);
      this.#unsettled = undefined;
      return reader.isInLog(sent) ? 'written' : 'looked';
    } catch (error) {
      // Either it was refused and is not on its way, or it is there and the log is not whole.
      if (!BackupError.is(error, 'COMMIT_UNKNOWN')) this.#unsettled = undefined;
      throw error;
    }
  }

  /** P5: a success is what a listing shows that was begun after the creation: the entry, and those before it. */
  async #confirm(seq: number, waiting: Waiting): Promise<void> {
    const { reader } = this;
    try {
      await untilKnown(seq, this.#policy, waiting, () => lookAtAnyCost(reader, waiting.givenUp), isVerdict);
    } catch (error) {
      reader.fallBack();
      if (BackupError.is(error, 'LOG_FORKED')) throw error;
      throw BackupError.is(error, 'COMMIT_UNKNOWN') ? error : commitUnknown(seq, error);
    }
  }
}

/** Sending the entry was within the request budget. Learning its outcome is allowed even if it exceeds the budget. */
function lookAtAnyCost(reader: LogReader, signal: AbortSignal | undefined): Promise<LogState> {
  return reader.look({ signal }).catch((error: unknown) => {
    if (!BackupError.is(error, 'BUDGET_EXCEEDED')) throw error;
    return metered(undefined, () => reader.look({ signal }));
  });
}

/** Errors that another attempt does not change. */
function isVerdict(error: unknown): boolean {
  const verdicts = ['REPOSITORY_ROLLED_BACK', 'REPOSITORY_UNSUPPORTED', 'LOG_TRUNCATED', 'LOG_FORKED', 'LOG_CORRUPT'];
  return BackupError.is(error) && (verdicts.includes(error.code) || isRefusal(error));
}

/** A time that every reader accepts. @throws `CLOCK_WRONG` */
function clockTime(now: number): number {
  if (Number.isFinite(now) && now >= 0 && now <= MAX_TIME) return now;
  const message = `the clock of this machine shows ${now} ms since 1970, a time that can't be stored: set the clock`;
  throw new BackupError('CLOCK_WRONG', message);
}
