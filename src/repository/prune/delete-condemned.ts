import { mapConcurrently } from '../../common/map-concurrently.ts';
import { runInSteps, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { deleteAll } from '../../targets/delete-all.ts';
import type { Condemnation, LogState } from '../format/log-state.ts';
import { PROBES_PREFIX, packKey } from '../format/object-keys.ts';
import { findDeletable } from '../log/entries/collect.ts';
import type { TableRows } from '../log/entries/known-names.ts';
import { isLocked, type ListedPack, type PackListing } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';

const STATS_AT_A_TIME = 16;
const BATCH_PACKS = 1000;
const PROBE_MS = 86_400_000;

/** What has to be known before a condemned pack may be deleted. */
interface Found {
  readonly listing: PackListing;
  readonly tables: TableRows;
  /** Keys of packs that a live map needs. */
  readonly live: ReadonlySet<string>;
}

/**
 * P8: deletes packs that were condemned, by any host, once their grace period is over and no object lock holds. It may be
 * called any number of times, also by several hosts at once: a pack that appears later is deleted by the next run. One run may
 * call it again when the log has new entries.
 */
export async function deleteCondemned(run: PruneRun, state: LogState, found: Found): Promise<void> {
  const { listing, tables, live } = found;
  if (run.options.graceMs > 0) await run.ages.lookAgain();
  const due: ListedPack[] = [];
  let waitingBytes = 0;
  for (const { pack, by } of await runInSteps(findDeletable(state, listing.packs, tables))) {
    await yieldToEventLoop();
    const key = packKey(pack);
    if (run.deleted.has(key)) continue;
    // A correct collector never condemns a pack that a live map needs. If it happened all the same, this is the last copy.
    const mayGo = (await isGraceOver(run, by)) && !live.has(key) && !isLocked(pack.retainUntil, run.ages.now);
    if (mayGo) due.push(pack);
    else waitingBytes += pack.size;
  }
  if (due.length > 0) run.begin('deleting', bytesOf(due));
  for (let from = 0; from < due.length; from += BATCH_PACKS) {
    const batch = due.slice(from, from + BATCH_PACKS);
    const free = await unlocked(run, batch);
    if (!run.options.dryRun) await deleteAll(run.context.target, free.map(packKey), { signal: run.options.signal });
    for (const pack of free) run.deleted.add(packKey(pack));
    run.result.freedBytes += bytesOf(free);
    run.result.deletedObjects += free.length;
    waitingBytes += bytesOf(batch) - bytesOf(free);
    run.progress.advance(bytesOf(batch));
  }
  run.result.waitingBytes = waitingBytes;
}

function bytesOf(packs: readonly ListedPack[]): number {
  return packs.reduce((sum, { size }) => sum + size, 0);
}

async function isGraceOver({ ages, options }: PruneRun, by: Condemnation): Promise<boolean> {
  return options.graceMs === 0 || (await ages.ofCollection(by)).ms >= options.graceMs;
}

/** Leaves out packs that the store says are locked. The listings of many stores don't show locks. */
async function unlocked(run: PruneRun, packs: readonly ListedPack[]): Promise<ListedPack[]> {
  const { checkLocks, signal } = run.options;
  if (!checkLocks) return [...packs];
  const free: ListedPack[] = [];
  const look = async (pack: ListedPack) => ({ pack, info: await run.context.target.stat(packKey(pack), { signal }) });
  for await (const { pack, info } of mapConcurrently(packs, look, STATS_AT_A_TIME)) {
    if (!isLocked(info?.retainUntil, run.ages.now)) free.push(pack);
  }
  return free;
}

/** Removes leftovers of killed writers that no listing shows, such as temporary files in a folder. */
export async function removeLeftovers({ context, options, result }: PruneRun): Promise<void> {
  const { signal, dryRun } = options;
  const removed = await context.target.removeLeftovers?.({ dryRun, signal });
  if (removed === undefined) return;
  result.leftoverCount += removed.count;
  result.leftoverBytes += removed.bytes;
}

/** Deletes objects of tests whether the store creates atomically, once they are a day old. */
export async function deleteProbes(run: PruneRun): Promise<void> {
  const { target } = run.context;
  const { signal, dryRun } = run.options;
  const keys: string[] = [];
  for await (const { key, modifiedAt, size, retainUntil } of target.list(PROBES_PREFIX, { signal })) {
    await yieldToEventLoop();
    const ageMs = run.ages.ofObject(modifiedAt);
    if (ageMs === undefined || ageMs < PROBE_MS || isLocked(retainUntil, run.ages.now)) continue;
    keys.push(key);
    run.result.freedBytes += size;
  }
  if (!dryRun && keys.length > 0) await deleteAll(target, keys, { signal });
  run.result.deletedObjects += keys.length;
}
