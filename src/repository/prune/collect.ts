import type { AbortOptions } from '../../common/abort.ts';
import { BackupError, isDamage } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { type RepositoryContext, requireWritable } from '../context/repository-context.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import type { CommittedPack, LogFactOf } from '../format/log-entry.ts';
import { floorSeq, type LogState } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { decodingPackTable } from '../format/pack-table-record.ts';
import { RecordKind } from '../format/record.ts';
import { type CollectPlan, decideCollect } from '../log/entries/collect.ts';
import type { Decision } from '../log/entries/decision.ts';
import { packTables, type TableRows, tableKey } from '../log/entries/known-names.ts';
import { goneOn } from '../log/entries/repack.ts';
import { decideByAge } from './ages.ts';
import { type Needed, neededOf } from './damaged-backups.ts';
import { deleteCondemned } from './delete-condemned.ts';
import { deleteOldLog } from './delete-old-log.ts';
import { collectorRecords, LivePacks } from './live-packs.ts';
import { listPacks, type PackListing } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';
import { unreferenced } from './unreferenced.ts';

/** What a collection found out about a state of the log (P7). */
export interface Marking extends Needed {
  readonly listing: PackListing;
  readonly tables: TableRows;
  readonly packs: LivePacks;
}

/** Each new attempt only marks what is new in the log, so the window for losing the race shrinks. */
const MAX_ATTEMPTS = 32;
/** An entry has at most 8 MiB, and a name needs about 27 bytes. */
const MAX_NAMES = 50_000;
const TABLES_AT_A_TIME = 8;

/**
 * Reads the log, lists the packs, marks the live ones, and condemns the others in a log entry. Before it writes the entry, it
 * deletes what was condemned earlier. Resolves with what it found, which repacking and deleting need next.
 *
 * @throws `OBJECT_CONFLICT` if others write log entries faster than this can mark; `NO_SPACE`; what log and target throw
 */
export async function collect(run: PruneRun): Promise<{ marking: Marking; state: LogState }> {
  const { context, options } = run;
  const { signal, dryRun } = options;
  const records = collectorRecords(context);
  let packs = new LivePacks(context, records);
  for (let attempt = 1; ; ) {
    const before = await context.log.catchUp({ needs: 'all', signal });
    // What is condemned is deleted before the next entry is written.
    // @mutation features-stop-collectors
    if (!dryRun) requireWritable(context);
    await deleteOldLog(run, before);
    const marking = await mark(run, before, packs);
    if (marking.damaged.length > 0 && attempt < MAX_ATTEMPTS) {
      // Another host may have forgotten the backup and deleted its packs in the meantime.
      const now = await context.log.catchUp({ signal });
      if (now.seq !== before.seq) {
        attempt++;
        packs = new LivePacks(context, records);
        continue;
      }
    }
    run.result.damagedBackups = marking.damaged;
    run.result.unreferenced = await unreferenced(before, marking.listing.packs, marking.tables);
    const wanted = await runInSteps(decideCollect(before, await planOf(run, before, marking)));
    if (BackupError.is(wanted)) throw wanted;
    if (wanted === undefined) return { marking, state: before };
    if (dryRun) {
      count(run, before, wanted, marking);
      return { marking, state: before };
    }
    // Packs condemned long enough ago are deleted first, because the store may have no space for an entry.
    await deleteCondemned(run, before, marking);
    run.begin('condemning');
    try {
      const state = await condemn(run, before, wanted);
      count(run, before, shortened(wanted), marking);
      if (!isLong(wanted)) return { marking, state };
    } catch (error) {
      if (!BackupError.is(error, 'OBJECT_CONFLICT') || attempt++ >= MAX_ATTEMPTS) throw error;
    }
  }
}

/** P7: the entry is only written if it directly follows the state that was marked. */
async function condemn(run: PruneRun, before: LogState, wanted: CollectFact): Promise<LogState> {
  const decide = (state: LogState): Decision<CollectFact> => {
    return state.seq === before.seq ? shortened(wanted) : goneOn();
  };
  const onFull = () => {
    run.isFull = true;
  };
  const options = { needs: 'all', signal: run.options.signal, lookFirst: false, onFull } as const;
  const appended = await appendInLittleRoom(run.context, decide, options);
  return appended?.state ?? run.context.log.withPages('all', { signal: run.options.signal });
}

/** Lists the packs, and marks those that a state needs. Unreadable maps and tables make no error here. */
async function mark(run: PruneRun, state: LogState, packs: LivePacks): Promise<Marking> {
  const { context, options } = run;
  run.begin('listing');
  // The log was read before, so a pack that is not in this listing does not exist any more.
  const listing = await listPacks(context, { signal: options.signal, ages: run.ages });
  run.begin('marking', listing.bytes);
  const tables = await readTables(context, state, options);
  const needed = await neededOf(context, state, packs, options);
  run.progress.advance(listing.bytes);
  return { ...needed, listing, tables, packs };
}

async function planOf(run: PruneRun, state: LogState, marking: Marking): Promise<CollectPlan> {
  const { live, neededThrough, listing, tables } = marking;
  const { options } = run;
  run.ages.floor = floorSeq(state);
  const times = await decideByAge(run, state, (session) => listing.lifeOf(session));
  return {
    markedAt: state.seq,
    live,
    neededThrough,
    listed: listing.packs,
    tables,
    ...times,
    floor: options.dryRun ? undefined : await run.floors.find(state, options),
    spare: listing.locked(run.ages.now),
  };
}

/** Reads the tables of packs. A damaged table is left out, and then the packs of its session are left alone. */
async function readTables(
  { records }: RepositoryContext,
  state: LogState,
  { signal }: AbortOptions,
): Promise<TableRows> {
  const read = async (table: ReturnType<typeof packTables>[number]) => {
    try {
      const raw = await records.read(RecordKind.table, table.id, table.location, { signal });
      return { key: tableKey(table), packs: await runInSteps(decodingPackTable(raw, table.packs)) };
    } catch (error) {
      if (!isDamage(error)) throw error;
      return undefined;
    }
  };
  const rows = new Map<string, readonly CommittedPack[]>();
  for await (const table of mapConcurrently(packTables(state), read, TABLES_AT_A_TIME)) {
    if (table !== undefined) rows.set(table.key, table.packs);
  }
  return rows;
}

type CollectFact = LogFactOf<'collect'>;

function isLong({ packs, gonePacks }: CollectFact): boolean {
  return packs.length > MAX_NAMES || gonePacks.length > MAX_NAMES;
}

/** Cuts the lists of an entry that would be too long. The next entry has the rest. */
function shortened(fact: CollectFact): CollectFact {
  if (!isLong(fact)) return fact;
  const { packs, gonePacks } = fact;
  return { ...fact, packs: packs.slice(0, MAX_NAMES), gonePacks: gonePacks.slice(0, MAX_NAMES) };
}

function count({ result }: PruneRun, before: LogState, fact: CollectFact, { listing }: Marking): void {
  const sessions = new Set(fact.sessions);
  let [packs, bytes] = [0, 0];
  for (const pack of fact.packs) {
    const size = listing.sizeOf(packKey(pack));
    if (size === 0) continue;
    packs++;
    bytes += size;
  }
  // Orphans: packs of condemned sessions that no entry names.
  for (const each of result.unreferenced.sessions) {
    if (!sessions.has(each.session) || before.condemnedSessions.has(each.session)) continue;
    packs += each.packs;
    bytes += each.bytes;
  }
  result.condemnedPacks += packs;
  result.condemnedBytes += bytes;
  result.fencedSessions += fact.fence.length;
}
