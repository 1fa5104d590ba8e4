import type { AbortOptions } from '../../common/abort.ts';
import { BackupError, isDamage } from '../../common/errors.ts';
import { LruCache } from '../../common/lru-cache.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import {
  ENTRIES_AT_ONCE,
  runInSteps,
  StepCounter,
  type Steps,
  yieldToEventLoop,
} from '../../common/yield-to-event-loop.ts';
import type { PackBytes } from '../format/inner-node.ts';
import type { Relocation } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, type PackName, RecordKind, type RecordReader } from '../format/record.ts';
import { decodingRelocationTable, findRelocation, type RelocationRow } from '../format/relocation-table.ts';
import { byPack, type WantedRecord } from './record-spans.ts';

/**
 * Where the records of packs that were repacked are now: rule P9. When a pack is repacked, the log names a relocation table
 * for it, which says for each record that was live then where its copy is. A later table of the same pack replaces it.
 *
 * - Readers are `lenient`. A record that the newest table does not name was needed by no backup when the pack was repacked.
 *   A host that still has a forgotten backup open finds it through an older table, and otherwise where it was.
 * - The collector and a verification are `strict`. A live map that names a record which the newest table left out is damaged.
 */
export type RelocationPolicy = 'lenient' | 'strict';

/** Tables kept, in bytes as they are stored: some 200,000 rows. */
const MAX_KEPT_BYTES = 8 * 1024 * 1024;

const TABLES_AT_A_TIME = 16;
/** A pack may be repacked, and deleted, while its records are being read from where they were a moment ago. */
export const MAX_LOOKS = 3;

/** The tables of one pack: the newest, if a backup that is kept needs something of the pack, and replaced ones, newest first. */
interface RelocationTables {
  readonly newest: Relocation | undefined;
  readonly former: readonly Relocation[];
}

/** A record and where it is now. */
export interface LocatedRecord<T extends WantedRecord> {
  readonly wanted: T;
  readonly pack: PackName;
  readonly offset: number;
  readonly storedLength: number;
}

export interface LocatedRecords<T extends WantedRecord> {
  readonly located: LocatedRecord<T>[];
  /** Records of which that can't be said, and why. */
  readonly failed: (readonly [record: T, error: unknown])[];
}

export interface RelocationsParts {
  readonly policy: RelocationPolicy;
  /** Reads the tables. */
  readonly records: RecordReader;
  /** The log as it is known now. */
  state(): LogState;
  /** Replays the entries that other hosts have appended. */
  catchUp(options: AbortOptions): Promise<LogState>;
}

/** A relocation table in memory. It may have 116,000 rows, so it is kept as its bytes. */
export class RelocationTable {
  /** The packs that it leads to, each once. */
  readonly targets: readonly PackBytes[];
  readonly #pack: PackName;
  readonly #raw: Uint8Array;

  /** @param raw - bytes that `decodingRelocationTable` has accepted */
  constructor(pack: PackName, raw: Uint8Array, targets: readonly PackBytes[]) {
    this.#pack = pack;
    this.#raw = raw;
    this.targets = targets;
  }

  /** Where the record is now that was at an offset of the old pack; `undefined` if it was left behind. */
  find(offset: number): RelocationRow['to'] | undefined {
    return findRelocation(this.#raw, offset);
  }

  /** Where a record that a live map names is now; `undefined` if it was left behind. */
  locate(location: Location): Location | undefined {
    const to = this.find(location.offset);
    if (to?.storedLength !== location.storedLength) return undefined;
    return { ...location, pack: to.pack, offset: to.offset };
  }

  /** The rows of offsets that live maps name, ascending. @throws `MAP_CORRUPT` if one of them was left behind */
  async rowsOf(offsets: Iterable<number>): Promise<RelocationRow[]> {
    const rows: RelocationRow[] = [];
    for (const offset of Uint32Array.from(offsets).sort()) {
      const to = this.find(offset);
      if (to === undefined) throw leftBehind({ pack: this.#pack, offset });
      rows.push({ offset, to });
      if (rows.length % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
    }
    return rows;
  }
}

interface TableOptions extends AbortOptions {
  /**
   * Whether the newest entries of the log are read before a table is called missing. Not while an entry is decided on: the
   * decision has the turn at the log, for which the reading would wait.
   */
  readonly readsLog?: boolean;
}

/** Follows relocations, and keeps the tables that were used last. */
export class Relocations {
  readonly #parts: RelocationsParts;
  readonly #isStrict: boolean;
  /** By the ids of tables, which cover all of their bytes. */
  readonly #tables = new LruCache<string, RelocationTable>(MAX_KEPT_BYTES, { keepsNewest: true });
  /** By the ids of tables: a few packs each, so all that were asked for are kept. */
  readonly #targets = new Map<string, readonly PackBytes[]>();

  constructor(parts: RelocationsParts) {
    this.#parts = parts;
    this.#isStrict = parts.policy === 'strict';
  }

  isRelocated(key: string): boolean {
    return this.#tablesOf(key) !== undefined;
  }

  /**
   * Where records are, as of the newest state that is known.
   *
   * @param options - `looks`: how often the log was read for these records because something was missing
   */
  async locateAll<T extends WantedRecord>(
    wanted: readonly T[],
    options: AbortOptions & { readonly looks: number },
  ): Promise<LocatedRecords<T>> {
    const { relocations, formerRelocations } = this.#parts.state();
    if (relocations.size + formerRelocations.size === 0) return { located: wanted.map(asNamed), failed: [] };
    const all: LocatedRecords<T> = { located: [], failed: [] };
    const moved: { readonly key: string; readonly records: readonly T[]; readonly tables: RelocationTables }[] = [];
    for (const [key, records] of byPack(wanted, ({ location }) => location.pack)) {
      const tables = this.#tablesOf(key);
      // The log says where tables are, so there is never a second step.
      const isMoved = ({ kind }: T) => tables !== undefined && kind !== RecordKind.relocation;
      for (const record of records) if (!isMoved(record)) all.located.push(asNamed(record));
      const others = records.filter(isMoved);
      if (tables !== undefined && others.length > 0) moved.push({ key, records: others, tables });
    }
    const follow = ({ key, records, tables }: (typeof moved)[number]) => this.#follow(key, records, tables, options);
    for await (const { located, failed } of mapConcurrently(moved, follow, TABLES_AT_A_TIME)) {
      for (const record of located) all.located.push(record);
      for (const each of failed) all.failed.push(each);
    }
    return all;
  }

  /** The newest table of a pack, `undefined` if it was not repacked. @throws as {@link Relocations.table} */
  async newestTable(pack: PackName, options: AbortOptions = {}): Promise<RelocationTable | undefined> {
    for (let looks = 1; ; looks++) {
      const relocation = this.#parts.state().relocations.get(packKey(pack));
      if (relocation === undefined) return undefined;
      try {
        return await this.table(relocation, { ...options, readsLog: true });
      } catch (error) {
        const isReplaced = !isSame(this.#parts.state().relocations.get(packKey(pack)), relocation);
        if (!BackupError.is(error, 'PACK_MISSING') || !isReplaced || looks >= MAX_LOOKS) throw error;
      }
    }
  }

  /** Where the record of a live map is now. @throws `MAP_CORRUPT` if it was left behind, and as {@link Relocations.table} */
  async locate(location: Location, options: AbortOptions = {}): Promise<Location> {
    const table = await this.newestTable(location.pack, options);
    const now = table === undefined ? location : table.locate(location);
    if (now === undefined) throw leftBehind(location);
    return now;
  }

  /** Which record is at fault when one can't be read: itself, where it is now, or the table that would say where. */
  async culprit(location: Location): Promise<Location> {
    const relocation = this.#parts.state().relocations.get(packKey(location.pack));
    if (relocation === undefined) return location;
    try {
      return (await this.table(relocation)).locate(location) ?? location;
    } catch (error) {
      if (!isDamage(error)) throw error;
      return relocation.location;
    }
  }

  /** The packs that a table leads to. @throws as {@link Relocations.table} */
  async targets(relocation: Relocation, options: TableOptions = {}): Promise<readonly PackBytes[]> {
    const key = Buffer.from(relocation.id).toString('hex');
    const targets = this.#targets.get(key) ?? (await this.table(relocation, options)).targets;
    this.#targets.set(key, targets);
    return targets;
  }

  /** @throws `RECORD_CORRUPT`, `PACK_MISSING`, and what the target throws */
  async table({ pack, id, location }: Relocation, options: TableOptions = {}): Promise<RelocationTable> {
    const key = Buffer.from(id).toString('hex');
    const known = this.#tables.get(key);
    if (known !== undefined) return known;
    const raw = await this.#read(id, location, options);
    const rows = await runInSteps(decodingRelocationTable(raw));
    const table = new RelocationTable(pack, raw, await runInSteps(targetsOf(rows)));
    if (this.#tables.get(key) === undefined) this.#tables.set(key, table, raw.length);
    return table;
  }

  /** P8: a table that is missing may have been replaced, and the pack that it was in deleted. The log says so. */
  async #read(id: Uint8Array, location: Location, { signal, readsLog }: TableOptions): Promise<Uint8Array> {
    try {
      return await this.#parts.records.read(RecordKind.relocation, id, location, { signal });
    } catch (error) {
      if (readsLog === true && BackupError.is(error, 'PACK_MISSING')) await this.#parts.catchUp({ signal });
      throw error;
    }
  }

  #tablesOf(key: string): RelocationTables | undefined {
    const { relocations, formerRelocations } = this.#parts.state();
    const newest = relocations.get(key);
    const former = this.#isStrict ? [] : (formerRelocations.get(key) ?? []);
    return newest === undefined && former.length === 0 ? undefined : { newest, former };
  }

  /** Where records of one pack are. */
  async #follow<T extends WantedRecord>(
    key: string,
    records: readonly T[],
    tables: RelocationTables,
    options: AbortOptions & { readonly looks: number },
  ): Promise<LocatedRecords<T>> {
    const { signal } = options;
    const looks = options.looks + 1;
    try {
      return await this.#lookUp(records, tables, { signal });
    } catch (error) {
      signal?.throwIfAborted();
      if (BackupError.is(error, 'PACK_MISSING') && looks < MAX_LOOKS) {
        const now = this.#tablesOf(key);
        if (now === undefined) return { located: records.map(asNamed), failed: [] };
        if (!isSame(now.newest, tables.newest)) return this.#follow(key, records, now, { signal, looks });
      }
      return { located: [], failed: records.map((record) => [record, error] as const) };
    }
  }

  /** @throws as {@link Relocations.table}, of the newest table */
  async #lookUp<T extends WantedRecord>(
    wanted: readonly T[],
    { newest, former }: RelocationTables,
    options: AbortOptions,
  ): Promise<LocatedRecords<T>> {
    const located: LocatedRecord<T>[] = [];
    let left = wanted;
    const look = (table: RelocationTable) => {
      const missing: T[] = [];
      for (const each of left) {
        const to = table.locate(each.location);
        if (to === undefined) missing.push(each);
        else located.push({ wanted: each, pack: to.pack, offset: to.offset, storedLength: to.storedLength });
      }
      left = missing;
    };
    if (newest !== undefined) look(await this.table(newest, { ...options, readsLog: true }));
    if (this.#isStrict) return { located, failed: left.map((each) => [each, leftBehind(each.location)] as const) };
    for (const table of former) {
      if (left.length === 0) break;
      try {
        look(await this.table(table, options));
      } catch (error) {
        // No backup that is kept depends on a former table. The packs that it led to may be gone as well.
        if (!BackupError.is(error, 'PACK_MISSING') && !BackupError.is(error, 'RECORD_CORRUPT')) throw error;
      }
    }
    for (const each of left) located.push(asNamed(each));
    return { located, failed: [] };
  }
}

function asNamed<T extends WantedRecord>(wanted: T): LocatedRecord<T> {
  const { pack, offset, storedLength } = wanted.location;
  return { wanted, pack, offset, storedLength };
}

export function leftBehind({ pack, offset }: Pick<Location, 'pack' | 'offset'>): BackupError {
  const what = `a record (${packKey(pack)}, offset ${offset}) that was not copied when its pack was repacked`;
  return new BackupError('MAP_CORRUPT', `a block map names ${what}: run verify to find the damaged backups`);
}

function* targetsOf(rows: readonly RelocationRow[]): Steps<PackBytes[]> {
  const targets = new Map<string, { pack: PackName; bytes: number }>();
  const steps = new StepCounter();
  for (const { to } of rows) {
    const key = packKey(to.pack);
    const target = targets.get(key);
    if (target === undefined) targets.set(key, { pack: to.pack, bytes: to.storedLength });
    else target.bytes += to.storedLength;
    if (steps.isDue()) yield;
  }
  return [...targets.values()];
}

function isSame(a: Relocation | undefined, b: Relocation | undefined): boolean {
  const nameOf = (each: Relocation | undefined) =>
    each && `${Buffer.from(each.id).toString('hex')} ${packKey(each.location.pack)}`;
  return nameOf(a) === nameOf(b);
}
