import type { AbortOptions } from '../../common/abort.ts';
import { systemClock, type TargetClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';
import { retry } from '../../common/retry.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';

/** What the pauses between attempts depend on. */
export interface Pacing {
  readonly clock: Pick<TargetClock, 'sleep'>;
  /** Numbers from 0 to 1, for the jitter. */
  readonly random: () => number;
}

export const PACING: Pacing = { clock: systemClock, random: Math.random };
/** The defaults of `withRetries`, which does not repeat create-only puts. */
const RETRIES = { attempts: 6, baseDelayMs: 200, maxDelayMs: 20_000, maxRetryAfterMs: 60_000 } as const;

/**
 * Creates an object, and survives a busy store and an answer that is lost after the object was stored. If there is an object
 * already, it is read back, and counts as this one if it has the same bytes; so the bytes must be unique to this call.
 *
 * @param target - repeats reads by itself
 * @returns whether the object that is there is this one
 * @throws what the target throws
 */
export async function createObject(
  target: CloudTarget,
  key: string,
  bytes: Uint8Array<ArrayBuffer>,
  options: AbortOptions & { readonly createOnly: boolean; readonly pacing?: Pacing | undefined },
): Promise<boolean> {
  const { createOnly, signal, pacing = PACING } = options;
  return retried(pacing, signal, async () => {
    try {
      // A copy, because after a failure the target may still be reading its buffer.
      await target.put(key, Uint8Array.from(bytes), { createOnly, signal });
      return true;
    } catch (error) {
      signal?.throwIfAborted();
      if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
    }
    return holds(target, key, bytes, signal);
  });
}

/** Repeats `work` while it fails with a retryable error. */
export function retried<T>(
  { clock, random }: Pacing,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  return retry(work, { ...RETRIES, sleep: (delayMs, waiting) => clock.sleep(delayMs, waiting), random }, signal);
}

async function holds(
  target: CloudTarget,
  key: string,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    const found = await target.stat(key, { signal });
    if (found?.size !== bytes.length) return false;
    const stored = await getBounded(target, key, bytes.length, { signal });
    return stored !== undefined && Buffer.compare(stored, bytes) === 0;
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return false;
    throw error;
  }
}
