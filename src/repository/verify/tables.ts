import { isDamage } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import type { FreshRecords } from '../context/fresh-records.ts';
import type { LogState } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { decodingPackTable } from '../format/pack-table-record.ts';
import { type PackName, RecordKind } from '../format/record.ts';
import { packTables, type TableRows, tableKey } from '../log/entries/known-names.ts';
import type { Damages } from './damages.ts';
import type { NeededPacks } from './needed-packs.ts';
import type { LoggedPacks } from './whole-log.ts';

const TABLES_AT_A_TIME = 8;

/** What reading the tables works with, and adds to. */
export interface TableReading {
  readonly records: FreshRecords;
  readonly damages: Damages;
  /** Gains the packs that tables name. */
  readonly logged: LoggedPacks;
  /** Gains the packs that tables lie in. */
  readonly needed: NeededPacks;
  readonly signal: AbortSignal;
}

/** Reads the tables that the log refers to: tables of packs say what was stored; tables of what was moved say where it is. */
export async function readTables(
  state: LogState,
  { records, damages, logged, needed, signal }: TableReading,
): Promise<TableRows> {
  const tables = new Map<string, readonly PackName[]>();
  const readPacks = async (table: ReturnType<typeof packTables>[number]) => {
    const { id, location } = table;
    await needed.record(RecordKind.table, id, location);
    try {
      const raw = await records.read(RecordKind.table, id, location);
      const rows = await runInSteps(decodingPackTable(raw, table.packs));
      tables.set(tableKey(table), rows);
      for (const { size, sha256, ...pack } of rows) logged.set(packKey(pack), { size, sha256 });
    } catch (error) {
      if (!isDamage(error)) throw error;
      await damages.addRecord(location, error);
    }
  };
  for await (const _ of mapConcurrently(packTables(state), readPacks, TABLES_AT_A_TIME)) signal.throwIfAborted();
  const readMoved = async (relocation: Parameters<FreshRecords['readTable']>[0]) => {
    await needed.record(RecordKind.relocation, relocation.id, relocation.location);
    try {
      await records.readTable(relocation);
    } catch (error) {
      if (!isDamage(error)) throw error;
      await damages.addRecord(relocation.location, error);
    }
  };
  for await (const _ of mapConcurrently([...state.relocations.values()], readMoved, TABLES_AT_A_TIME)) {
    signal.throwIfAborted();
  }
  return tables;
}
