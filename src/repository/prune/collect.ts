import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { type CollectPlan, decideCollect, packTables, type TableRows, tableKey } from '../log/collect-decision.ts';
import type { LogFactOf } from '../log/log-entry.ts';
import { type LogState, markedBackups } from '../log/log-state.ts';
import type { Decision } from '../log/log-writer.ts';
import { readAhead } from '../map/read-ahead.ts';
import { decodePackTable } from '../records/pack-table-record.ts';
import { packKey, RecordKind } from '../records/record.ts';
import type { RepositoryContext } from '../repository-context.ts';
import { isDamage } from './damage.ts';
import { Marker } from './marker.ts';
import { listPacks, type PackListing } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';
import { type Live, liveOf, TableTargets } from './relocated.ts';
import { judgeTimes } from './silence.ts';

/** What a collector found: rule P7. */
export interface Marking extends Live {
  readonly listing: PackListing;
  readonly tables: TableRows;
  readonly marker: Marker;
  readonly targets: TableTargets;
}

/** Every time the log goes on meanwhile, only what is new is marked: the races get shorter and shorter. */
const MAX_ATTEMPTS = 32;
/** An entry has 8 MiB, and a name takes some 27 bytes. */
const MAX_NAMES = 50_000;
const TABLES_AT_A_TIME = 8;

/**
 * Reads the log, lists, marks, and condemns what nothing needs. Resolves with what was found, for who repacks and deletes
 * next.
 *
 * @throws what reading a live map gives, and then nothing was condemned; `OBJECT_CONFLICT` when others keep writing faster
 * than this can mark
 */
export async function collect(run: PruneRun): Promise<{ marking: Marking; state: LogState }> {
  const { context, options } = run;
  const { signal, dryRun } = options;
  let marker = new Marker(context);
  const targets = new TableTargets(context);
  for (let attempt = 1; ; ) {
    const before = await context.log.catchUp({ signal });
    let marking: Marking;
    try {
      marking = await mark(run, before, marker, targets);
    } catch (error) {
      // What was being read may have been forgotten and deleted by others meanwhile.
      signal?.throwIfAborted();
      const now = await context.log.catchUp({ signal });
      if (now.seq === before.seq || attempt++ >= MAX_ATTEMPTS) throw error;
      marker = new Marker(context);
      continue;
    }
    const plan = await planOf(run, before, marking);
    const wanted = decideCollect(before, plan);
    if (wanted === undefined || BackupError.is(wanted)) {
      if (wanted === undefined) return { marking, state: before };
      throw wanted;
    }
    if (dryRun) {
      count(run, before, wanted, marking);
      return { marking, state: before };
    }
    run.begin('condemning');
    try {
      const appended = await context.log.append((state) => shortened(decideCollect(state, plan)), {
        signal,
        lookFirst: false,
      });
      if (appended === undefined) return { marking, state: context.log.state };
      const { entry, state } = appended;
      if (entry.type === 'collect') count(run, before, entry, marking);
      if (!isLong(wanted)) return { marking, state };
    } catch (error) {
      if (!BackupError.is(error, 'OBJECT_CONFLICT') || attempt++ >= MAX_ATTEMPTS) throw error;
    }
  }
}

/** Lists, and marks what is live in a state. */
async function mark(run: PruneRun, state: LogState, marker: Marker, targets: TableTargets): Promise<Marking> {
  const { context, options } = run;
  run.begin('listing');
  const listing = await listPacks(context, { signal: options.signal, ages: run.ages }); // After the log was read: what is not there now is gone.
  run.begin('marking', listing.bytes);
  const tables = await readTables(context, state, options);
  await marker.mark(markedBackups(state), options);
  const live = await liveOf(state, marker.named, targets, options);
  run.advance(listing.bytes);
  return { ...live, listing, tables, marker, targets };
}

async function planOf(run: PruneRun, state: LogState, { live, listing, tables }: Marking): Promise<CollectPlan> {
  const times = await judgeTimes(run, state, listing);
  return { markedAt: state.seq, live, listed: listing.packs, tables, ...times, spare: listing.locked(run.now) };
}

/** Every table of packs that can be read. The packs of a session with one that is damaged are left alone. */
async function readTables(
  { records }: RepositoryContext,
  state: LogState,
  { signal }: AbortOptions,
): Promise<TableRows> {
  const read = async (table: ReturnType<typeof packTables>[number]) => {
    try {
      const raw = await records.read(RecordKind.table, table.id, table.location, { signal });
      return { key: tableKey(table), packs: decodePackTable(raw, table.packs) };
    } catch (error) {
      if (!isDamage(error)) throw error;
      return undefined;
    }
  };
  const rows = new Map<string, ReturnType<typeof decodePackTable>>();
  for await (const table of readAhead(packTables(state), read, TABLES_AT_A_TIME)) {
    if (table !== undefined) rows.set(table.key, table.packs);
  }
  return rows;
}

type Collect = LogFactOf<'collect'>;

function isLong({ packs, gonePacks }: Collect): boolean {
  return packs.length > MAX_NAMES || gonePacks.length > MAX_NAMES;
}

/** What is left out is named by the next entry. */
function shortened(decision: Decision<Collect>): Decision<Collect> {
  if (decision === undefined || BackupError.is(decision) || !isLong(decision)) return decision;
  const { packs, gonePacks, ...rest } = decision;
  return { ...rest, packs: packs.slice(0, MAX_NAMES), gonePacks: gonePacks.slice(0, MAX_NAMES) };
}

function count({ result }: PruneRun, before: LogState, fact: Collect, { listing, tables }: Marking): void {
  const names = new Set([...tables.values()].flat().map(packKey));
  for (const { session, packs } of [...before.known].map(([seq, known]) => ({ session: seq, ...known }))) {
    for (const random of packs) names.add(packKey({ session, random }));
  }
  const sessions = new Set(fact.sessions);
  const orphans = listing.packs.filter(
    (pack) => sessions.has(pack.session) && !names.has(packKey(pack)) && !before.condemned.has(packKey(pack)),
  );
  const keys = [...fact.packs, ...orphans].map(packKey).filter((key) => listing.sizeOf(key) > 0);
  result.condemnedPacks += keys.length;
  result.condemnedBytes += keys.reduce((sum, key) => sum + listing.sizeOf(key), 0);
  result.fencedSessions += fact.fence.length;
}
