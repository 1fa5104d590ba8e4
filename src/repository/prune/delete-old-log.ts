import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { deleteAll } from '../../targets/delete-all.ts';
import { pageKeys } from '../format/catalogue-pages.ts';
import { floorSeq, type LogState } from '../format/log-state.ts';
import { CATALOGUE_PREFIX, LOG_PREFIX, parseLogKey, parsePageKey } from '../format/object-keys.ts';
import { floorCheckpoint, keyOfCheckpoint } from '../log/log-source.ts';
import { isLocked } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';

/** An object of the log that means nothing any more. */
interface OldObject {
  readonly key: string;
  readonly size: number;
}

/**
 * L1: deletes the entries up to the floor of a state, the checkpoints below it, and in single-writer mode the other checkpoints
 * of the floor's number. It may be called any number of times, also by several hosts at once: what arrives late is deleted by a
 * later run.
 *
 * @param state - a state that is known to be in the log (L2): an entry that was only created may never have been part of it
 */
export async function deleteOldLog(run: PruneRun, state: LogState): Promise<void> {
  const { context, options } = run;
  const floor = floorSeq(state);
  if (floor <= run.deletedBelow || options.dryRun) return;
  run.deletedBelow = floor;
  const ofFloor = state.floor && keyOfCheckpoint(context.log.reader.source, floor, state.floor.sha256);
  const old: OldObject[] = [];
  for await (const { key, size, retainUntil } of context.target.list(LOG_PREFIX, { signal: options.signal })) {
    await yieldToEventLoop();
    const parsed = parseLogKey(key);
    // @mutation others-of-the-floor-go
    const isOld = parsed !== undefined && parsed.seq <= floor && key !== ofFloor;
    if (isOld && !isLocked(retainUntil, run.ages.now)) old.push({ key, size });
  }
  await deleteObjects(run, old.reverse());
  await deleteObjects(run, await oldPages(run, state));
}

/** L8: pages of numbers below the floor that the floor's checkpoint does not name; none if that checkpoint can't be read. */
async function oldPages({ context, options, ages }: PruneRun, { floor }: LogState): Promise<OldObject[]> {
  const { target, log } = context;
  const { signal } = options;
  const ofFloor = floor && (await floorCheckpoint({ ...log.reader.source, target }, floor, { signal }));
  if (ofFloor === undefined) return [];
  const named = pageKeys(ofFloor.pages);
  const old: OldObject[] = [];
  for await (const { key, size, retainUntil } of target.list(CATALOGUE_PREFIX, { signal })) {
    await yieldToEventLoop();
    const page = parsePageKey(key);
    // @mutation pages-of-the-floor-stay
    if (page === undefined || page.seq >= ofFloor.seq || named.has(page.page)) continue;
    if (!isLocked(retainUntil, ages.now)) old.push({ key, size });
  }
  return old;
}

/** @param old - the oldest first */
async function deleteObjects(run: PruneRun, old: readonly OldObject[]): Promise<void> {
  const { context, options, result } = run;
  const free = await unlocked(run, old);
  if (free.length === 0) return;
  const keys = free.map(({ key }) => key);
  await deleteAll(context.target, keys, { signal: options.signal });
  result.deletedObjects += free.length;
  result.freedBytes += free.reduce((sum, { size }) => sum + size, 0);
}

/**
 * Leaves out what an object lock protects. The listings of many stores don't show locks, and asking for each object would take as
 * many requests as were needed to write them. Locks end in the order in which the objects were written, so it looks for the
 * newest one that is free.
 *
 * @param old - the oldest first
 */
async function unlocked(run: PruneRun, old: readonly OldObject[]): Promise<readonly OldObject[]> {
  const { checkLocks, signal } = run.options;
  if (!checkLocks || old.length === 0) return old;
  const isFree = async (index: number) => {
    const info = await run.context.target.stat((old[index] as OldObject).key, { signal });
    return !isLocked(info?.retainUntil, run.ages.now);
  };
  if (await isFree(old.length - 1)) return old;
  let [free, locked] = [0, old.length - 1];
  while (free < locked) {
    const middle = (free + locked) >> 1;
    if (await isFree(middle)) free = middle + 1;
    else locked = middle;
  }
  return old.slice(0, free);
}
