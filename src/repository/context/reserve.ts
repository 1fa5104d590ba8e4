import { randomBytes } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { deleteAll } from '../../targets/delete-all.ts';
import { CACHE_PREFIX, RESERVE_KEY } from '../format/object-keys.ts';
import type { Decide } from '../log/entries/decision.ts';
import type { Appended } from '../log/log-writer.ts';
import type { CatalogueNeeds } from '../log/pages/page-store.ts';
import type { RepositoryContext } from './repository-context.ts';

/**
 * The reserve is an object of random bytes that keeps space free. Forgetting and pruning have to write a log entry before
 * anything may be deleted, and a full store has no space for that entry. Then the reserve is deleted to make space, and the
 * first prune that finds space again creates a new one.
 */

/** Its default size. An entry without a tail has at most 8 MiB, but mostly a few KB. */
export const RESERVE_BYTES = 2 ** 20;

type Parts = Pick<RepositoryContext, 'target' | 'log'>;

/** How an entry that frees space is appended. */
export interface LittleRoomOptions extends AbortOptions {
  readonly lookFirst?: boolean | undefined;
  /** See `LogWriter.append`. @defaultValue true */
  readonly confirm?: boolean | undefined;
  /** See `LogWriter.append`. */
  readonly needs?: CatalogueNeeds | undefined;
  /**
   * Whether the reserve may be used up. A backup that fails because the store is full must leave it alone: the next backup would
   * fill the space, and no backup could be forgotten any more. @defaultValue true
   */
  readonly usesReserve?: boolean | undefined;
  /** Called if the store is full. */
  readonly onFull?: (() => void) | undefined;
}

/**
 * Appends an entry that frees space. If the store is full, the entry is written without its tail; if there is no space for
 * that either, the cache and the reserve are deleted first.
 *
 * @throws `NO_SPACE` if all of that does not help (nothing was written then), and what the log throws
 */
export async function appendInLittleRoom(
  { target, log }: Parts,
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
  // Objects under `cache/` are created again when there is space.
  const deletable = [RESERVE_KEY];
  for await (const { key } of target.list(CACHE_PREFIX, { signal: append.signal })) deletable.push(key);
  await deleteAll(target, deletable, { signal: append.signal });
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
 * With these errors the store refuses the reserve, or the host's budget is used up. Any other error is thrown, because a host
 * that does not learn why it has no reserve would find out when its store is full.
 */
const REFUSALS: readonly string[] = ['NO_SPACE', 'OBJECT_TOO_LARGE', 'PERMISSION_DENIED', 'BUDGET_EXCEEDED'];

/** Creates the reserve if there is none. If the store has no space for it or refuses it, there is no reserve. */
export async function keepReserve(
  { target }: Pick<Parts, 'target'>,
  bytes: number,
  signal?: AbortSignal,
): Promise<void> {
  try {
    if ((await target.stat(RESERVE_KEY, { signal })) !== undefined) return;
    // Random bytes, which no file system can compress.
    await target.put(RESERVE_KEY, new Uint8Array(randomBytes(bytes)), { signal });
  } catch (error) {
    signal?.throwIfAborted();
    if (!BackupError.is(error) || !REFUSALS.includes(error.code)) throw error;
  }
}
