import { ABORT_GRACE_MS, pastAbort } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { Retries, type RetryPolicy } from '../../common/retry.ts';
import type { PutResult } from '../../targets/cloud-target.ts';
import { tagOfPut } from '../../targets/tags.ts';
import type { DecodedEntry } from '../format/entry-codec.ts';
import { fetchEntry, type LogSource } from './log-source.ts';

/*
 * How an entry gets its number in the log, and how its writer learns whether it has it (P5). An answer can be lost, and a
 * request can arrive late. So an entry that was sent once is sent again, with the same bytes and to the same number, until it
 * is clear which entry has the number. If that can't be found out, the outcome is `COMMIT_UNKNOWN` and not a failure.
 */

/** How long the outcome of an entry that was sent is waited for. */
export interface Waiting {
  /** The caller's signal. After it has aborted there are no more pauses, and there is only one more attempt. */
  readonly signal?: AbortSignal | undefined;
  /** Aborts some seconds after the caller's signal, and ends every request. */
  readonly givenUp?: AbortSignal | undefined;
  /** Called when the entry is in the store, or may be, or may arrive later. */
  readonly onMayBeThere?: (() => void) | undefined;
}

/** What has the number of an entry that was sent, and the tag of its object where the target gives one. */
export type Holder =
  | { readonly whose: 'own'; readonly tag: string | undefined }
  | { readonly whose: 'other'; readonly tag: string | undefined; readonly entry: DecodedEntry }
  /** The number was taken, and what had it is not there any more. */
  | { readonly whose: 'gone' };

export interface SentEntry {
  readonly seq: number;
  readonly key: string;
  readonly hash: Uint8Array;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Errors that say that a request has no effect, now or later: the store refused it, or it was never sent. */
const REFUSALS: readonly string[] = [
  'PERMISSION_DENIED',
  'CREDENTIALS_REFUSED',
  'CLOCK_SKEWED',
  'BUCKET_NOT_FOUND',
  'OBJECT_TOO_LARGE',
  'INVALID_KEY',
  'READ_ONLY',
  'NO_SPACE',
  'CREATE_ONLY_UNSUPPORTED',
  'CLOSED',
  'BUDGET_EXCEEDED',
];

export function isRefusal(error: unknown): boolean {
  return BackupError.is(error) && REFUSALS.includes(error.code);
}

/**
 * Creates an entry, create-only, and learns which entry has the number (P5).
 *
 * After anything but a clear answer the same bytes go to the same number until it is occupied. Then what is stored there is
 * compared byte for byte, because a copy of this process may have drawn the same random numbers for another entry. The
 * caller's signal aborts no request here, since the request may have taken effect: see {@link pastCallersAbort}.
 *
 * @returns whose the number is. If that is `gone`, the entry must not be sent again, because a number that was deleted is free (L3).
 * @throws `signal.reason` if the caller has aborted and no request can have taken effect; `COMMIT_UNKNOWN` if that can't be
 * found out; a refusal of the store if nothing else has happened; `LOG_CORRUPT` and `REPOSITORY_UNSUPPORTED` if the object at
 * this number is no entry, or one of a newer program
 */
export async function createEntry(
  source: LogSource,
  sent: SentEntry,
  policy: RetryPolicy,
  waiting: Waiting = {},
): Promise<Holder> {
  const { givenUp } = waiting;
  const attempts = new Attempts(sent.seq, policy, waiting);
  let isOccupied = false;
  let isUncertain = false;
  let unreadable = 0;
  for (;;) {
    let isPutting = false;
    try {
      if (isOccupied) {
        const holder = await readBack(source, sent, givenUp);
        if (holder.whose !== 'other') waiting.onMayBeThere?.();
        return holder;
      }
      isPutting = true;
      // The put gets a copy, because a request that was given up may still be reading its buffer.
      const stored = await source.target.put(sent.key, Uint8Array.from(sent.bytes), {
        createOnly: true,
        signal: givenUp,
      });
      waiting.onMayBeThere?.();
      return { whose: 'own', tag: tagOfPut(stored) };
    } catch (error) {
      if (!isOccupied && BackupError.is(error, 'OBJECT_EXISTS')) {
        isOccupied = true;
        continue; // It may be this very entry, if an earlier answer was lost.
      }
      if (!isUncertain && !isOccupied && isRefusal(error)) throw error;
      if (BackupError.is(error, 'REPOSITORY_UNSUPPORTED')) throw error;
      // It was read twice, and this entry was never on its way: the object is another writer's, and damaged.
      if (BackupError.is(error, 'LOG_CORRUPT') && !isUncertain && ++unreadable > 1) throw error;
      // A conflict only says that the request had no effect, and a read never has any.
      if (isPutting && !isAnswer(error)) {
        isUncertain = true;
        waiting.onMayBeThere?.();
      }
      await attempts.pause(error, isUncertain || isOccupied);
    }
  }
}

/** What is stored at the number. A read that fails is tried again like any other request. */
async function readBack(source: LogSource, sent: SentEntry, signal: AbortSignal | undefined): Promise<Holder> {
  // The size comes first, because any writer of the store could have put anything there.
  const info = await source.target.stat(sent.key, { signal });
  if (info === undefined) return { whose: 'gone' };
  const { key, size, tag } = info;
  const found = await fetchEntry(source, sent.seq, { key, size, ifTag: tag }, { signal });
  if (found === undefined) return { whose: 'gone' };
  // The hash covers all bytes.
  // @mutation all-bytes-decide
  return Buffer.compare(found.hash, sent.hash) === 0 ? { whose: 'own', tag } : { whose: 'other', tag, entry: found };
}

/** Puts an entry under a key that no other entry has, for a store without create-only (P13). */
export function putEntry(
  source: LogSource,
  sent: SentEntry,
  policy: RetryPolicy,
  waiting: Waiting,
): Promise<PutResult> {
  const put = () => {
    waiting.onMayBeThere?.();
    return source.target.put(sent.key, Uint8Array.from(sent.bytes), { signal: waiting.givenUp });
  };
  let isUncertain = false;
  const isFinal = (error: unknown) => {
    const nothingHappened = !isUncertain && isRefusal(error);
    isUncertain = true;
    return nothingHappened;
  };
  return untilKnown(sent.seq, policy, waiting, put, isFinal);
}

/** Repeats `work` until it succeeds or its error is final. @throws `COMMIT_UNKNOWN` after the last attempt */
export async function untilKnown<T>(
  seq: number,
  policy: RetryPolicy,
  waiting: Waiting,
  work: () => Promise<T>,
  isFinal: (error: unknown) => boolean,
): Promise<T> {
  const attempts = new Attempts(seq, policy, waiting);
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (isFinal(error)) throw error;
      await attempts.pause(error);
    }
  }
}

/** Whether the store has answered that this create-only put had no effect. */
export function isAnswer(error: unknown): boolean {
  return BackupError.is(error, 'OBJECT_EXISTS') || BackupError.is(error, 'OBJECT_CONFLICT');
}

export function commitUnknown(seq: number, cause: unknown): BackupError {
  const why = BackupError.is(cause) ? `: ${cause.message}` : '';
  const message = `it could not be found out whether entry ${seq} of the log was written${why}`;
  return new BackupError('COMMIT_UNKNOWN', message, { cause });
}

/**
 * Runs `work`, which sends an entry, to its end although the caller's signal aborts, because the outcome is worth a wait.
 * Some seconds later `givenUp` aborts with `COMMIT_UNKNOWN`, since a store may never answer.
 */
export function pastCallersAbort<T>(
  signal: AbortSignal,
  seq: number,
  work: (waiting: Waiting) => Promise<T>,
  onMayBeThere?: (() => void) | undefined,
): Promise<T> {
  const outcome = (givenUp: AbortSignal) => work({ signal, givenUp, onMayBeThere });
  return pastAbort(signal, outcome, () => {
    const message = `the call was aborted, and the store did not answer within ${ABORT_GRACE_MS} ms whether it has entry ${seq} of the log`;
    return new BackupError('COMMIT_UNKNOWN', message, { cause: signal.reason });
  });
}

/** The attempts to write one entry, and to learn what became of it. */
class Attempts {
  readonly #seq: number;
  readonly #waiting: Waiting;
  readonly #retries: Retries;
  #isLast = false;

  constructor(seq: number, policy: RetryPolicy, waiting: Waiting) {
    this.#seq = seq;
    this.#waiting = waiting;
    const exhausted = (error: unknown) => commitUnknown(seq, error);
    this.#retries = new Retries({ ...policy, isFinal: () => false, exhausted }, waiting.signal);
  }

  /**
   * Waits before the next attempt. An abort ends the pause at once. If something may have taken effect, one more attempt
   * follows, because the call must not claim that nothing did.
   *
   * @param isUncertain - whether something may have taken effect
   * @throws `COMMIT_UNKNOWN` after the last attempt, or when the wait for the outcome was given up; `signal.reason` after an
   * abort if nothing can have taken effect
   */
  async pause(error: unknown, isUncertain = true): Promise<void> {
    const { signal, givenUp } = this.#waiting;
    givenUp?.throwIfAborted();
    if (this.#isLast) throw commitUnknown(this.#seq, error);
    try {
      await this.#retries.pause(error);
    } catch (cause) {
      if (!signal?.aborted || !isUncertain || BackupError.is(cause, 'COMMIT_UNKNOWN')) throw cause;
      this.#isLast = true;
    }
  }
}
