import { ABORT_GRACE_MS, abortable, pastAbort } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { DecodedEntry } from '../format/entry-codec.ts';
import { fetchEntry, type LogSource } from './log-source.ts';

/** How often and how patiently an entry is sent (P5). */
export interface Persistence {
  /** Requests about one number until the outcome counts as unknown. */
  readonly attempts: number;
  /** The longest pause after the first of them, in milliseconds; it doubles with each. */
  readonly baseDelayMs: number;
  readonly maxDelayMs: number;
  readonly sleep: (delayMs: number, signal?: AbortSignal) => Promise<void>;
  /** Numbers from 0 to 1, for the jitter. */
  readonly random: () => number;
}

/** Who waits for the outcome, and for how long. */
export interface Waiting {
  /** The caller's signal. Once it aborts there are no pauses any more, and only one attempt more. */
  readonly signal?: AbortSignal | undefined;
  /** Aborts some seconds after it, and ends every request. */
  readonly givenUp?: AbortSignal | undefined;
}

/** An entry on its way. */
export interface SentEntry {
  readonly seq: number;
  readonly key: string;
  readonly hash: Uint8Array;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * With these the store has refused the request, or it was never sent; no earlier one of the same bytes is on its way
 * either, since whoever gets another failure first keeps asking.
 */
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

/**
 * Creates an entry, create-only, and learns whose the number is: rule P5 to the letter. After anything but a clear answer
 * the same bytes go to the same number until it is occupied; then what stands there is compared, byte for byte: a copy of this
 * process may have drawn the same random numbers for another entry. No request here is aborted by the caller's signal, because
 * it may have taken effect; see {@link outliving}.
 *
 * @returns `undefined` when the entry is the number's; else the entry that is
 * @throws `signal.reason` when the caller has aborted and no request can have taken effect; `COMMIT_UNKNOWN` when that can't be learned; a refusal of the store when nothing else has happened; `LOG_CORRUPT`
 * and `REPOSITORY_UNSUPPORTED` when another object has the number, which is no entry or one of a newer program
 */
export async function createEntry(
  source: LogSource,
  sent: SentEntry,
  persistence: Persistence,
  waiting: Waiting = {},
): Promise<DecodedEntry | undefined> {
  const { givenUp } = waiting;
  const tries = new Tries(sent.seq, persistence, waiting);
  let isOccupied = false;
  let isUncertain = false;
  let unreadable = 0;
  for (;;) {
    let isPutting = false;
    try {
      if (isOccupied) {
        const found = await readBack(source, sent, givenUp);
        if (found !== 'nothing') return found === 'own' ? undefined : found;
      }
      isPutting = true;
      // A copy each time: a request that was given up may still be reading its buffer.
      await source.target.put(sent.key, Uint8Array.from(sent.bytes), { createOnly: true, signal: givenUp });
      return undefined;
    } catch (error) {
      if (!isOccupied && BackupError.is(error, 'OBJECT_EXISTS')) {
        isOccupied = true;
        continue; // Perhaps its own, after an answer that was lost.
      }
      if (!isUncertain && !isOccupied && isRefusal(error)) throw error;
      if (BackupError.is(error, 'REPOSITORY_UNSUPPORTED')) throw error;
      // Read twice, and nothing of one's own was ever on its way: it is another's, and damaged.
      if (BackupError.is(error, 'LOG_CORRUPT') && !isUncertain && ++unreadable > 1) throw error;
      // A conflict means "again", and tells nothing else; a read has no effect.
      if (isPutting && !isAnswer(error)) isUncertain = true;
      await tries.pause(error, isUncertain || isOccupied);
    }
  }
}

/** What stands at the number. A read that came out wrong is an error like any other: it may do better next time. */
async function readBack(
  source: LogSource,
  sent: SentEntry,
  signal: AbortSignal | undefined,
): Promise<'own' | 'nothing' | DecodedEntry> {
  // Its size first: whoever may write could have put anything there.
  const info = await source.target.stat(sent.key, { signal });
  const found = info && (await fetchEntry(source, sent.seq, info, { signal }));
  if (found === undefined) return 'nothing';
  // Hashes are of all bytes: two objects of one hash are one.
  // @mutation all-bytes-decide
  return Buffer.compare(found.hash, sent.hash) === 0 ? 'own' : found;
}

/** Puts an entry under a key of its own, where the store can't create only (P13): the same bytes until it says yes. */
export async function putEntry(
  source: LogSource,
  sent: SentEntry,
  persistence: Persistence,
  waiting: Waiting = {},
): Promise<void> {
  const { givenUp } = waiting;
  const tries = new Tries(sent.seq, persistence, waiting);
  let isUncertain = false;
  for (;;) {
    try {
      await source.target.put(sent.key, Uint8Array.from(sent.bytes), { signal: givenUp });
      return;
    } catch (error) {
      if (!isUncertain && isRefusal(error)) throw error;
      isUncertain = true;
      await tries.pause(error);
    }
  }
}

/** Repeats `work` while it fails in a way that may pass, and then gives the outcome up as unknown. */
export async function insist<T>(
  seq: number,
  persistence: Persistence,
  waiting: Waiting,
  work: () => Promise<T>,
  isFinal: (error: unknown) => boolean,
): Promise<T> {
  const tries = new Tries(seq, persistence, waiting);
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (isFinal(error)) throw error;
      await tries.pause(error);
    }
  }
}

function isAnswer(error: unknown): boolean {
  return BackupError.is(error, 'OBJECT_EXISTS') || BackupError.is(error, 'OBJECT_CONFLICT');
}

export function commitUnknown(seq: number, cause: unknown): BackupError {
  const why = BackupError.is(cause) ? `: ${cause.message}` : '';
  return new BackupError(
    'COMMIT_UNKNOWN',
    `the store could not be asked whether it has entry ${seq} of the log${why}`,
    { cause },
  );
}

/**
 * Runs `work`, which sends an entry, past an abort of `signal`: its outcome is worth a wait. Not worth any wait, though: a
 * target may never answer. Some seconds after the abort the signal that `work` is given aborts with `COMMIT_UNKNOWN`.
 */
export function outliving<T>(
  signal: AbortSignal | undefined,
  seq: number,
  work: (waiting: Waiting) => Promise<T>,
): Promise<T> {
  const outcome = (givenUp: AbortSignal) => work({ signal, givenUp });
  return pastAbort(signal, outcome, () => {
    const message = `the call was aborted, and the store did not say within ${ABORT_GRACE_MS} ms whether it has entry ${seq} of the log`;
    return new BackupError('COMMIT_UNKNOWN', message, { cause: signal?.reason });
  });
}

/** Whether the store refused a request: it has no effect, now or later. */
export function isRefusal(error: unknown): boolean {
  return BackupError.is(error) && REFUSALS.includes(error.code);
}

/** Counts requests, and waits between them with exponentially growing pauses and full jitter. */
class Tries {
  readonly #seq: number;
  readonly #persistence: Persistence;
  readonly #waiting: Waiting;
  #made = 0;
  #isLast = false;

  constructor(seq: number, persistence: Persistence, waiting: Waiting) {
    this.#seq = seq;
    this.#persistence = persistence;
    this.#waiting = waiting;
  }

  /**
   * An abort ends the pause at once. One more attempt follows where something may have taken effect: it says what has, and
   * the call may not claim that nothing did.
   *
   * @param isUncertain - whether something may have taken effect
   * @throws `COMMIT_UNKNOWN` when there have been enough, or the wait for the outcome was given up; `signal.reason` after an
   * abort when nothing can have taken effect
   */
  async pause(error: unknown, isUncertain = true): Promise<void> {
    const { signal, givenUp } = this.#waiting;
    givenUp?.throwIfAborted();
    const { attempts, baseDelayMs, maxDelayMs, sleep, random } = this.#persistence;
    this.#made++;
    if (this.#made >= attempts || this.#isLast) throw commitUnknown(this.#seq, error);
    const limitMs = Math.min(maxDelayMs, baseDelayMs * 2 ** (this.#made - 1));
    const askedMs = BackupError.is(error) ? (error.retryAfterMs ?? 0) : 0;
    const delayMs = Math.max(Math.min(askedMs, maxDelayMs), Math.round(random() * limitMs));
    try {
      signal?.throwIfAborted();
      await abortable(sleep(delayMs, signal), signal);
    } catch (cause) {
      if (!signal?.aborted || !isUncertain) throw cause;
      this.#isLast = true;
    }
  }
}
