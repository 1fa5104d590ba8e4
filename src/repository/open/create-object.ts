import type { AbortOptions } from '../../common/abort.ts';
import { systemClock, type TargetClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';
import { retry } from '../../common/retry.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';

/** How patiently an object is created. */
export interface Patience {
  readonly clock: Pick<TargetClock, 'sleep'>;
  /** Numbers from 0 to 1, for the jitter. */
  readonly random: () => number;
}

export const PATIENCE: Patience = { clock: systemClock, random: Math.random };
const RETRIES = { attempts: 6, baseDelayMs: 200, maxDelayMs: 20_000, maxRetryAfterMs: 60_000 } as const;

/**
 * Creates an object that nobody else writes the same bytes of, and survives what passes: a store that is busy, an answer that
 * is lost after the object was stored. What stands there already is read back, and counts as one's own if it is the same.
 *
 * @param target - one that repeats reads by itself
 * @returns whether the object that stands there is this one
 * @throws what the target gives
 */
export async function createObject(
  target: CloudTarget,
  key: string,
  bytes: Uint8Array<ArrayBuffer>,
  options: AbortOptions & { readonly createOnly: boolean; readonly patience?: Patience | undefined },
): Promise<boolean> {
  const { createOnly, signal, patience = PATIENCE } = options;
  return persistently(patience, signal, async () => {
    try {
      // A copy: after a failure this buffer is not used again, and it is compared with.
      await target.put(key, Uint8Array.from(bytes), { createOnly, signal });
      return true;
    } catch (error) {
      signal?.throwIfAborted();
      if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
    }
    return holds(target, key, bytes, signal);
  });
}

/** Repeats work that fails in a way that may pass, as often and with the same pauses as `withRetries` does by default. */
export function persistently<T>(
  { clock, random }: Patience,
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
