import { inTurns, letOthersRun } from '../../common/event-loop-turns.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { deleteAll } from '../../targets/delete-all.ts';
import type { Condemnation, LogState } from '../format/log-state.ts';
import { PROBES_PREFIX, packKey } from '../format/object-keys.ts';
import { findingDeletable } from '../log/entries/collect-decision.ts';
import type { Marking } from './collect.ts';
import { isLocked, type ListedPack } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';

const STATS_AT_A_TIME = 16;
const BATCH_PACKS = 1000;

/**
 * P8: deletes what was condemned, by whomever, once its grace is over and no object lock holds. It may be done any number
 * of times, by several at once: what lands late is seen by the next run. One run may do it more than once, as the log goes on.
 */
export async function deleteCondemned(run: PruneRun, state: LogState, marking: Marking): Promise<void> {
  const { listing, tables, live } = marking;
  if (run.options.graceMs > 0) await run.ages.lookAgain();
  const due: ListedPack[] = [];
  let waitingBytes = 0;
  for (const { pack, by } of await inTurns(findingDeletable(state, listing.packs, tables))) {
    await letOthersRun();
    const key = packKey(pack);
    if (run.deleted.has(key)) continue;
    // What a live map needs was never condemned by a correct collector. If it was all the same, it is the last copy.
    const mayGo = (await isGraceOver(run, by)) && !live.has(key) && !isLocked(pack.retainUntil, run.now);
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
    run.advance(bytesOf(batch));
  }
  run.result.waitingBytes = waitingBytes;
}

function bytesOf(packs: readonly ListedPack[]): number {
  return packs.reduce((sum, { size }) => sum + size, 0);
}

async function isGraceOver({ ages, options }: PruneRun, by: Condemnation): Promise<boolean> {
  return options.graceMs === 0 || (await ages.ofCollection(by)).ms >= options.graceMs;
}

/** Leaves out what the store says is locked. A listing does not say it everywhere. */
async function unlocked(run: PruneRun, packs: readonly ListedPack[]): Promise<ListedPack[]> {
  const { checkLocks, signal } = run.options;
  if (!checkLocks) return [...packs];
  const free: ListedPack[] = [];
  const look = async (pack: ListedPack) => ({ pack, info: await run.context.target.stat(packKey(pack), { signal }) });
  for await (const { pack, info } of mapConcurrently(packs, look, STATS_AT_A_TIME)) {
    if (!isLocked(info?.retainUntil, run.now)) free.push(pack);
  }
  return free;
}

/** What killed writers have left where no listing shows it, such as temporary files in a folder. */
export async function removeLeftovers({ context, options, result }: PruneRun): Promise<void> {
  const { signal, dryRun } = options;
  const removed = await context.target.removeLeftovers?.({ dryRun, signal });
  if (removed === undefined) return;
  result.leftoverCount += removed.count;
  result.leftoverBytes += removed.bytes;
}

/** What is left of a try whether the store creates atomically means nothing to anybody after a day. */
export async function deleteProbes(run: PruneRun): Promise<void> {
  const { target } = run.context;
  const { signal, dryRun } = run.options;
  const keys: string[] = [];
  for await (const { key, modifiedAt, size, retainUntil } of target.list(PROBES_PREFIX, { signal })) {
    await letOthersRun();
    const ageMs = run.ages.ofObject(modifiedAt);
    if (ageMs === undefined || ageMs < PROBE_MS || isLocked(retainUntil, run.now)) continue;
    keys.push(key);
    run.result.freedBytes += size;
  }
  if (!dryRun && keys.length > 0) await deleteAll(target, keys, { signal });
  run.result.deletedObjects += keys.length;
}

const PROBE_MS = 86_400_000;
