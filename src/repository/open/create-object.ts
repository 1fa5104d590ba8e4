import type { AbortOptions } from '../../common/abort.ts';
import { systemClock, type TargetClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';

/** How patiently an object is created. */
export interface Patience {
  readonly clock: Pick<TargetClock, 'sleep'>;
  /** Numbers from 0 to 1, for the jitter. */
  readonly random: () => number;
}

export const PATIENCE: Patience = { clock: systemClock, random: Math.random };
/** As many, and as far apart, as `withRetries` makes of other calls. */
const ATTEMPTS = 6;
const BASE_DELAY_MS = 200;
const MAX_DELAY_MS = 20_000;
const MAX_RETRY_AFTER_MS = 60_000;

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

/** Repeats what fails in a way that may pass by itself. */
export async function persistently<T>(
  { clock, random }: Patience,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      signal?.throwIfAborted();
      if (!BackupError.is(error) || !error.retryable || attempt >= ATTEMPTS) throw error;
      const limitMs = Math.min(MAX_DELAY_MS, BASE_DELAY_MS * 2 ** (attempt - 1));
      const askedMs = error.retryAfterMs ?? 0;
      // Coming back earlier than asked makes matters worse.
      if (askedMs > MAX_RETRY_AFTER_MS) throw error;
      await clock.sleep(Math.max(askedMs, Math.round(random() * limitMs)), signal);
    }
  }
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
