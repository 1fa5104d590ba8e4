import { BackupError } from '../../common/errors.ts';

/*
 * Looking at a log that others change: how often, and when next.
 *
 * L5: what is not as it should be may have been deleted or written in the meantime, so it leads to another look. Two looks one
 * after the other that find the same make it a fact.
 */

/** How often a log that changes meanwhile is looked at: each change shows that others make progress. */
const MOST_LOOKS = 8;
/** Errors that may say no more than that something was deleted, or that a listing was not whole. */
const DOUBTS: readonly string[] = ['LOG_TRUNCATED', 'LOG_CORRUPT', 'REPOSITORY_ROLLED_BACK'];

/** After this time others may have pruned the log: if entries of others were seen, and if none were. */
const SOON_MS = 10 * 60 * 1000;
const LATE_MS = 24 * 60 * 60 * 1000;

/** What one look has found so far. */
export interface Sight {
  /** The newest number that its listing shows. */
  newest: number;
}

export function isDoubt(error: unknown): error is BackupError {
  return BackupError.is(error) && DOUBTS.includes(error.code);
}

/** Looks until one look succeeds, or two find the same thing wrong below the same newest entry. */
export async function untilTwoAgree<T>(look: (sight: Sight, nth: number) => Promise<T>): Promise<T> {
  let doubt: string | undefined;
  let cause: unknown;
  for (let nth = 0; nth < MOST_LOOKS; nth++) {
    const sight: Sight = { newest: -1 };
    try {
      return await look(sight, nth);
    } catch (error) {
      cause = error;
      if (isChanged(error)) {
        doubt = undefined;
        continue;
      }
      if (!isDoubt(error)) throw error;
      const found = `${sight.newest} ${error.code} ${error.message}`;
      // @mutation gone-takes-two-listings
      if (found === doubt) throw error;
      doubt = found;
    }
  }
  const message = 'the log changes faster than it can be read: try again';
  throw new BackupError('OBJECT_CONFLICT', message, { retryable: true, cause });
}

/** L3: what was read is not what was listed. */
export function changed(what: string): BackupError {
  return new BackupError('OBJECT_CHANGED', `${what} has changed since the log was listed`);
}

function isChanged(error: unknown): boolean {
  return BackupError.is(error, 'OBJECT_CHANGED');
}

/** How long a process has not looked at a log. */
export class Idleness {
  /** When a listing last showed the newest entry, and whether entries of others have ever come meanwhile. */
  #lookedAt = Date.now();
  #hasOthers = false;

  looked(hasOthers: boolean): void {
    this.#lookedAt = Date.now();
    this.#hasOthers ||= hasOthers;
  }

  /** Whether the log may have gone on so far that entries were deleted which were not read. */
  get isLong(): boolean {
    return Math.abs(Date.now() - this.#lookedAt) > (this.#hasOthers ? SOON_MS : LATE_MS);
  }
}
