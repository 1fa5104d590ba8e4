import { isDamage } from '../../common/errors.ts';
import { LruCache } from '../../common/lru-cache.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { readTwice } from '../../common/read-twice.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { Relocation } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import { packKey } from '../format/object-keys.ts';
import type { FooterRow, FooterRows } from '../format/pack-footer.ts';
import { decodingPackTable } from '../format/pack-table-record.ts';
import { type Location, type PackName, RecordKind } from '../format/record.ts';
import type { SortedEntries } from '../format/run-chunk.ts';
import { packTables, type TableRows, tableKey } from '../log/entries/known-names.ts';
import { eachEntry, type MapVisitor } from '../map/visit.ts';
import type { LocationSet } from '../packs/location-set.ts';
import { readPackFooter } from '../packs/pack-reader.ts';
import { PackGroups } from '../packs/record-spans.ts';
import type { RecordStore } from '../packs/record-store.ts';
import { leftBehind } from '../packs/relocations.ts';
import { type DamageReport, packCorrupt } from './damage-report.ts';
import type { LoggedPacks } from './log-audit.ts';

export interface NeededPacksParts {
  readonly target: CloudTarget;
  readonly records: RecordStore;
  readonly damages: DamageReport;
  readonly footerKey: Uint8Array | undefined;
  /** Bytes of a pack; 0 where it is not known to be there. */
  readonly sizeOf: (key: string) => number;
  readonly signal: AbortSignal;
}

interface NeededPack {
  readonly pack: PackName;
  /** Where the last record ends that something names. */
  end: number;
}

const TABLES_AT_A_TIME = 8;

/** The packs that maps and the log need, repacked ones where their records are now; and whether they agree with the maps. */
export class NeededPacks {
  /** Whether what a pack says of itself is compared with what maps say, by its key. */
  compare: (key: string) => boolean = () => false;
  readonly #parts: NeededPacksParts;
  readonly #footers: Footers;
  readonly #byKey = new Map<string, NeededPack>();

  constructor(parts: NeededPacksParts) {
    this.#parts = parts;
    this.#footers = new Footers(parts.target, parts.footerKey, parts.signal);
  }

  *packs(): Generator<PackName> {
    for (const { pack } of this.#byKey.values()) yield pack;
  }

  endOf(key: string): number {
    return this.#byKey.get(key)?.end ?? 0;
  }

  /**
   * Adds what maps need.
   *
   * @param seen - nodes and runs that were visited already: what maps share is read once
   * @param readsLeaves - without it their parents say which packs their blocks are in
   */
  visitor(seen: LocationSet, readsLeaves: boolean): MapVisitor {
    const { damages } = this.#parts;
    return {
      enter: async (at) => {
        if (!seen.add(at.ref.location)) return false;
        await this.#record(at.kind, at.ref);
        if (at.kind !== RecordKind.leaf || readsLeaves || at.ref.usage === undefined) return true;
        for (const { pack } of at.ref.usage) await this.#usage(pack);
        return false;
      },
      entries: (entries) => this.#blocks(entries),
      damaged: async (at, error) => void (await damages.addRecord(at.ref.location, error)),
    };
  }

  /**
   * Reads the tables that the log refers to: tables of packs say what was stored, and relocation tables where it is now.
   *
   * @param logged - gains the packs that tables name
   */
  async readTables(state: LogState, logged: LoggedPacks): Promise<TableRows> {
    const { records, damages, signal } = this.#parts;
    const tables = new Map<string, readonly PackName[]>();
    const attempt = async (
      kind: RecordKind,
      table: Pick<Relocation, 'id' | 'location'>,
      read: () => Promise<unknown>,
    ) => {
      await this.#record(kind, table);
      try {
        await read();
      } catch (error) {
        if (!isDamage(error)) throw error;
        await damages.addRecord(table.location, error);
      }
    };
    const readPacks = (table: ReturnType<typeof packTables>[number]) =>
      attempt(RecordKind.table, table, async () => {
        const raw = await records.read(RecordKind.table, table.id, table.location);
        const rows = await runInSteps(decodingPackTable(raw, table.packs));
        tables.set(tableKey(table), rows);
        for (const { size, sha256, ...pack } of rows) logged.set(packKey(pack), { size, sha256 });
      });
    const readMoved = (relocation: Relocation) =>
      attempt(RecordKind.relocation, relocation, () => records.relocations.table(relocation, { readsLog: true }));
    for await (const _ of mapConcurrently(packTables(state), readPacks, TABLES_AT_A_TIME)) signal.throwIfAborted();
    for await (const _ of mapConcurrently(state.relocations.values(), readMoved, TABLES_AT_A_TIME))
      signal.throwIfAborted();
    return tables;
  }

  /** Whether a pack's footer can be read at all. */
  async checkFooter(pack: PackName): Promise<void> {
    await this.#footerOf(pack);
  }

  async #record(kind: RecordKind, { id, location }: { id: Uint8Array; location: Location }): Promise<void> {
    const { records, damages } = this.#parts;
    try {
      const now = kind === RecordKind.relocation ? location : await records.relocations.locate(location);
      await this.#named(kind, [{ id, location: now }]);
    } catch (error) {
      if (!isDamage(error)) throw error;
      await damages.addRecord(location, error);
    }
  }

  async #blocks(entries: SortedEntries): Promise<void> {
    const byPack = new PackGroups<BlockEntry>();
    await eachEntry(entries, (_block, entry) => {
      if (entry !== undefined) byPack.add(entry.location.pack, entry);
    });
    for (const named of byPack.groups.values()) await this.#blocksOf(named);
  }

  async #usage(pack: PackName): Promise<void> {
    const table = await readTwice(() => this.#parts.records.relocations.newestTable(pack));
    if ('error' in table) return; // The damage of the table is reported where the log names it.
    if (table.value === undefined) this.#need(pack);
    else for (const target of table.value.targets) this.#need(target.pack);
  }

  /** @param named - all in one pack, as maps name it */
  async #blocksOf(named: readonly BlockEntry[]): Promise<void> {
    const { records, damages } = this.#parts;
    const { location } = named[0] as BlockEntry;
    const table = await readTwice(() => records.relocations.newestTable(location.pack));
    if ('error' in table) {
      await damages.addRecord(location, table.error);
      return;
    }
    if (table.value === undefined) return this.#named(RecordKind.block, named);
    const moved = new PackGroups<BlockEntry>();
    for (const entry of named) {
      const now = table.value.locate(entry.location);
      if (now === undefined) await damages.addRecord(entry.location, leftBehind(entry.location));
      else moved.add(now.pack, { ...entry, location: now });
    }
    for (const each of moved.groups.values()) await this.#named(RecordKind.block, each);
  }

  /** @param named - all in one pack, where they are now */
  async #named(kind: RecordKind, named: readonly { id: Uint8Array; location: Location }[]): Promise<void> {
    const { pack } = (named[0] as { location: Location }).location;
    const needed = this.#need(pack);
    for (const { location } of named) needed.end = Math.max(needed.end, location.offset + location.storedLength);
    if (!this.compare(packKey(pack))) return;
    const rows = await this.#footerOf(pack);
    if (rows === undefined) return;
    const differs = named.find(({ id, location }) => !agrees(rows.at(location.offset), kind, id, location));
    if (differs === undefined) return;
    const error = packCorrupt(pack, `its footer does not say of ${differs.location.offset} what a map says`);
    this.#parts.damages.add({ pack, error, areUnsure: true });
  }

  async #footerOf(pack: PackName) {
    const bytes = this.#parts.sizeOf(packKey(pack));
    if (bytes === 0) return undefined; // That it is missing is found elsewhere.
    const rows = await readTwice(() => this.#footers.of(pack, bytes));
    if ('value' in rows) return rows.value;
    this.#parts.damages.add({ pack, error: rows.error, areUnsure: true });
    return undefined;
  }

  #need(pack: PackName): NeededPack {
    const key = packKey(pack);
    const needed = this.#byKey.get(key) ?? { pack, end: 0 };
    this.#byKey.set(key, needed);
    return needed;
  }
}

/** Rows kept, 52 bytes each. */
const MAX_ROWS_KEPT = 400_000;

/** Footers of packs, for comparing with what maps say. Those used last are kept. */
class Footers {
  readonly #target: CloudTarget;
  readonly #footerKey: Uint8Array | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #kept = new LruCache<string, FooterRows>(MAX_ROWS_KEPT, { keepsNewest: true });
  readonly #underWay = new Map<string, Promise<FooterRows>>();

  constructor(target: CloudTarget, footerKey: Uint8Array | undefined, signal: AbortSignal | undefined) {
    this.#target = target;
    this.#footerKey = footerKey;
    this.#signal = signal;
  }

  /** @throws `PACK_CORRUPT`, `PACK_MISSING`, and what the target throws */
  async of(pack: PackName, packBytes: number): Promise<FooterRows> {
    const key = packKey(pack);
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const reading = this.#underWay.get(key) ?? this.#read(pack, key, packBytes);
    this.#underWay.set(key, reading);
    return reading;
  }

  async #read(pack: PackName, key: string, packBytes: number): Promise<FooterRows> {
    try {
      const { rows } = await readPackFooter(this.#target, pack, packBytes, this.#footerKey, this.#signal);
      this.#kept.set(key, rows, rows.length);
      return rows;
    } finally {
      this.#underWay.delete(key);
    }
  }
}

/** Whether a pack's footer and a map say the same of a record. */
function agrees(row: FooterRow | undefined, kind: RecordKind, id: Uint8Array, location: Location): boolean {
  return (
    row !== undefined &&
    row.kind === kind &&
    row.storedLength === location.storedLength &&
    row.rawLength === location.rawLength &&
    row.codec === location.codec &&
    Buffer.compare(row.id, id) === 0
  );
}
