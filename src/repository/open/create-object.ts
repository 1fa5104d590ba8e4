import { randomBytes } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import { systemClock, type TargetClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';
import { retry } from '../../common/retry.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { PROBES_PREFIX } from '../format/object-keys.ts';
import { isAnswer } from '../log/create-entry.ts';

/* Objects that are created where there is none: whether a store can do that, and creating one of them (P13). */

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

interface ProbeOptions extends AbortOptions {
  /** The number of races. @defaultValue 3 */
  readonly rounds?: number | undefined;
  /** The number of puts in each race. @defaultValue 8 */
  readonly contenders?: number | undefined;
}

/**
 * Finds out whether create-only puts of a target are atomic, before a repository relies on it: it sends several puts of one new
 * key at the same time, and then one more. Some servers ignore the header, and others look first and store later.
 *
 * The objects are deleted again. If that fails, they stay under `probe/`, where they may be deleted at any time.
 *
 * @throws `SINGLE_WRITER_REQUIRED` if they are not (P13); what the target throws if that can't be found out now
 */
export async function probeCreateOnly(target: CloudTarget, options: ProbeOptions = {}): Promise<void> {
  const { rounds = 3, contenders = 8, signal } = options;
  if (!target.capabilities.createOnly) throw unsupported('the target declares it');
  for (let round = 0; round < rounds; round++) {
    const key = `${PROBES_PREFIX}${randomBytes(16).toString('hex')}`;
    try {
      await race(target, key, contenders, signal);
    } finally {
      await target.delete(key, { signal }).catch(() => {});
    }
  }
}

async function race(
  target: CloudTarget,
  key: string,
  contenders: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const bodies = Array.from({ length: contenders }, () => Uint8Array.from(randomBytes(64)));
  const put = (body: Uint8Array) => target.put(key, Uint8Array.from(body), { createOnly: true, signal });
  const results = await Promise.allSettled(bodies.map(put));
  signal?.throwIfAborted();
  const winners = bodies.filter((_, index) => results[index]?.status === 'fulfilled');
  if (winners.length > 1) throw unsupported(`${winners.length} of ${contenders} puts of one key succeeded`);
  const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
  const refusal = failures.find((error) => BackupError.is(error, 'CREATE_ONLY_UNSUPPORTED'));
  if (refusal !== undefined) throw unsupported('it refuses to', refusal);
  const unclear = failures.find((error) => !isAnswer(error));
  const [winner] = winners;
  // Without a winner who was told so, one of those who heard nothing clear may be it: then that has to be known.
  if (winner === undefined && unclear !== undefined) throw unclear;
  if (winner === undefined) throw unsupported('none of several puts of a new key succeeded');
  // One more put, while no other is under way: a store that overwrites always shows here.
  const late = await put(Uint8Array.from(randomBytes(64))).then(
    () => undefined,
    (error: unknown) => error,
  );
  signal?.throwIfAborted();
  if (late === undefined) throw unsupported('it replaced an existing object');
  if (!isAnswer(late)) throw late;
  if (!(await isStored(target, key, winner, signal)))
    throw unsupported('the object of the successful put is not there');
}

async function isStored(
  target: CloudTarget,
  key: string,
  body: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    return Buffer.compare(await target.get(key, { signal }), body) === 0;
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return false;
    throw error;
  }
}

function unsupported(how: string, cause?: unknown): BackupError {
  const message = `this store does not support create-only puts: ${how}. If only one process at a time writes to the repository, pass singleWriter: true`;
  return new BackupError('SINGLE_WRITER_REQUIRED', message, cause === undefined ? {} : { cause });
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
