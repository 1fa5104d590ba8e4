import { randomBytes } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { deleteAll } from '../../targets/delete-all.ts';
import { CACHE_PREFIX, RESERVE_KEY } from '../format/object-keys.ts';
import type { Decide } from '../log/entries/decision.ts';
import type { Appended } from '../log/log-writer.ts';
import type { RepositoryContext } from './repository-context.ts';

/**
 * The reserve: an object that holds nothing but room. Forgetting and pruning have to write a log entry before anything may
 * be deleted, and in a store that is full that entry would have no place. The reserve is deleted for it, and made anew by
 * the first prune that finds room again.
 */

/** Bytes of it by default: an entry without a tail has at most 8 MiB and mostly a few KB. */
export const RESERVE_BYTES = 2 ** 20;

type Place = Pick<RepositoryContext, 'target' | 'log'>;

/** How an entry is appended that makes room. */
export interface LittleRoomOptions extends AbortOptions {
  readonly lookFirst?: boolean | undefined;
  /** As for any other entry. @defaultValue true */
  readonly confirm?: boolean | undefined;
  /**
   * Whether the reserve may be used up. A backup that fails for want of room must leave it alone, or the next one would fill
   * its place, and nobody could forget anything any more. @defaultValue true
   */
  readonly usesReserve?: boolean | undefined;
  /** Called when the store was found to be full. */
  readonly onFull?: (() => void) | undefined;
}

/**
 * Appends an entry that makes room. Where the store has none for it, the entry goes without its tail, and where that has no
 * room either, in the place of the cache and the reserve.
 *
 * @throws `NO_SPACE` where all of that was in vain: then nothing was written; and what the log gives
 */
export async function appendInLittleRoom(
  { target, log }: Place,
  decide: Decide,
  { onFull, usesReserve = true, ...append }: LittleRoomOptions = {},
): Promise<Appended | undefined> {
  try {
    return await log.append(decide, append);
  } catch (error) {
    if (!BackupError.is(error, 'NO_SPACE')) throw error;
  }
  onFull?.();
  const small = { ...append, withoutTail: true };
  try {
    return await log.append(decide, small);
  } catch (error) {
    if (!BackupError.is(error, 'NO_SPACE') || !usesReserve) throw error;
  }
  // What lies under `cache/` is made again when there is room.
  const spare = [RESERVE_KEY];
  for await (const { key } of target.list(CACHE_PREFIX, { signal: append.signal })) spare.push(key);
  await deleteAll(target, spare, { signal: append.signal });
  try {
    return await log.append(decide, small);
  } catch (cause) {
    if (!BackupError.is(cause, 'NO_SPACE')) throw cause;
    const message =
      'the store is full: not even a log entry fits in the space of the reserve; free some space, then forget and prune';
    throw new BackupError('NO_SPACE', message, { cause });
  }
}

/**
 * With these the store has said that it takes no such object, or the host that it pays for no more requests. Anything else
 * is thrown: a host that never learns why it has no reserve finds out when its store is full.
 */
const LEFT_OUT: readonly string[] = ['NO_SPACE', 'OBJECT_TOO_LARGE', 'PERMISSION_DENIED', 'BUDGET_EXCEEDED'];

/**
 * Makes the reserve if it is not there. Where there is no room for it, or it is refused, it is left out.
 *
 * @throws what the target gives otherwise
 */
export async function keepReserve(
  { target }: Pick<Place, 'target'>,
  bytes: number,
  signal?: AbortSignal,
): Promise<void> {
  try {
    if ((await target.stat(RESERVE_KEY, { signal })) !== undefined) return;
    // Bytes that no filesystem can make smaller.
    await target.put(RESERVE_KEY, new Uint8Array(randomBytes(bytes)), { signal });
  } catch (error) {
    signal?.throwIfAborted();
    if (!BackupError.is(error) || !LEFT_OUT.includes(error.code)) throw error;
  }
}
