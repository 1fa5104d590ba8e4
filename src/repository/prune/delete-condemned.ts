import { deleteAll } from '../../target/delete-all.ts';
import { deletable } from '../log/collect-decision.ts';
import type { Condemnation, LogState } from '../log/log-state.ts';
import { readAhead } from '../map/read-ahead.ts';
import { packKey } from '../records/record.ts';
import type { Marking } from './collect.ts';
import { isLocked, type ListedPack } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';

const STATS_AT_A_TIME = 16;
const BATCH_PACKS = 1000;

/**
 * P8: deletes what was condemned, by whomever, once its grace is over and no object lock holds. It may be done any number
 * of times, by several at once: what lands late is seen by the next run.
 */
export async function deleteCondemned(run: PruneRun, state: LogState, marking: Marking): Promise<void> {
  const { listing, tables, live } = marking;
  const due: ListedPack[] = [];
  const bytesOf = (packs: readonly ListedPack[]) => packs.reduce((sum, { size }) => sum + size, 0);
  const listed = new Map(listing.packs.map((pack) => [packKey(pack), pack]));
  for (const { pack, by } of deletable(state, listing.packs, tables)) {
    const each = listed.get(packKey(pack)) as ListedPack;
    const isOver = await isGraceOver(run, by);
    // What a live map needs was never condemned by a correct collector. If it was all the same, it is the last copy.
    if (isOver && !live.has(packKey(pack)) && !isLocked(each.retainUntil, run.now)) due.push(each);
    else run.result.waitingBytes += each.size;
  }
  run.begin('deleting', bytesOf(due));
  for (let from = 0; from < due.length; from += BATCH_PACKS) {
    const batch = await unlocked(run, due.slice(from, from + BATCH_PACKS));
    if (!run.options.dryRun) await deleteAll(run.context.target, batch.map(packKey), { signal: run.options.signal });
    run.result.freedBytes += bytesOf(batch);
    run.result.deletedObjects += batch.length;
    run.advance(bytesOf(batch));
  }
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
  for await (const { pack, info } of readAhead(packs, look, STATS_AT_A_TIME)) {
    if (!isLocked(info?.retainUntil, run.now)) free.push(pack);
    else run.result.waitingBytes += pack.size;
  }
  return free;
}

/** What is left of a try whether the store creates atomically means nothing to anybody after a day. */
export async function deleteProbes(run: PruneRun): Promise<void> {
  const { target } = run.context;
  const { signal, dryRun } = run.options;
  const keys: string[] = [];
  for await (const { key, modifiedAt, size, retainUntil } of target.list(PROBES, { signal })) {
    const ageMs = run.ages.ofObject(modifiedAt);
    if (ageMs === undefined || ageMs < PROBE_MS || isLocked(retainUntil, run.now)) continue;
    keys.push(key);
    run.result.freedBytes += size;
  }
  if (!dryRun && keys.length > 0) await deleteAll(target, keys, { signal });
  run.result.deletedObjects += keys.length;
}

const PROBES = 'probe/';
const PROBE_MS = 86_400_000;
