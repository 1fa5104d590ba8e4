import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import type { Relocation } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import { type PackName, RecordKind, type RecordReader } from '../format/record.ts';
import { decodingRelocationTable, findRelocation } from '../format/relocation-table.ts';
import type { PlacedRecord, WantedRecord } from './record-spans.ts';

/** Tables kept, in bytes as they are stored: some 200,000 records that were moved. */
const MAX_KEPT_BYTES = 8 * 1024 * 1024;

/** Tables of one pack. */
export interface RelocationTables {
  /** `undefined`: it was of no more use to anybody whose backup is kept. */
  readonly newest: Relocation | undefined;
  /** Those that are out of date, the newest first. */
  readonly former: readonly Relocation[];
}

const NO_TABLES: readonly Relocation[] = [];

/** Tables of the pack with a key, if it was moved. */
export function relocationTables(
  { relocations, formerRelocations }: Pick<LogState, 'relocations' | 'formerRelocations'>,
  key: string,
): RelocationTables | undefined {
  const newest = relocations.get(key);
  const former = formerRelocations.get(key) ?? NO_TABLES;
  return newest === undefined && former.length === 0 ? undefined : { newest, former };
}

/** Where the records of packs that were condemned are now: rule P9. */
export class Relocations {
  readonly #records: RecordReader;
  /** By id; the least recently used first. */
  readonly #tables = new Map<string, Uint8Array>();
  #keptBytes = 0;

  constructor(records: RecordReader) {
    this.#records = records;
  }

  /**
   * The places of records of one pack, after its tables. One that the newest does not name was needed by nobody when the pack
   * was moved: who has a forgotten backup open finds it where an older table leads to, as long as that is there, and
   * otherwise in its old place.
   *
   * @throws `RECORD_CORRUPT`, `PACK_MISSING` of the newest table, and what the target gives
   */
  async follow<T extends WantedRecord>(
    wanted: readonly T[],
    { newest, former }: RelocationTables,
    options: AbortOptions,
  ): Promise<PlacedRecord<T>[]> {
    const placed: PlacedRecord<T>[] = [];
    let left = wanted;
    const look = (table: Uint8Array) => {
      const missing: T[] = [];
      for (const each of left) {
        const to = findRelocation(table, each.location.offset);
        if (to === undefined) missing.push(each);
        else placed.push({ wanted: each, pack: to.pack, offset: to.offset });
      }
      left = missing;
    };
    if (newest !== undefined) look(await this.#table(newest, options));
    for (const table of former) {
      if (left.length === 0) break;
      try {
        look(await this.#table(table, options));
      } catch (error) {
        // Nothing that is kept rests on it. Where it led to may be gone as well.
        if (!BackupError.is(error, 'PACK_MISSING') && !BackupError.is(error, 'RECORD_CORRUPT')) throw error;
      }
    }
    for (const each of left) placed.push(inPlace(each));
    return placed;
  }

  async #table({ id, location }: Relocation, options: AbortOptions): Promise<Uint8Array> {
    const key = Buffer.from(id).toString('hex');
    const known = this.#tables.get(key);
    if (known !== undefined) {
      this.#tables.delete(key);
      this.#tables.set(key, known);
      return known;
    }
    const raw = await this.#records.read(RecordKind.relocation, id, location, options);
    await runInSteps(decodingRelocationTable(raw)); // Checks it.
    if (!this.#tables.has(key)) this.#keep(key, raw);
    return raw;
  }

  #keep(key: string, raw: Uint8Array): void {
    this.#tables.set(key, raw);
    this.#keptBytes += raw.length;
    for (const [oldest, { length }] of this.#tables) {
      if (this.#keptBytes <= MAX_KEPT_BYTES || oldest === key) break;
      this.#tables.delete(oldest);
      this.#keptBytes -= length;
    }
  }
}

/** As the map names them. */
export function inPlace<T extends WantedRecord>(wanted: T): PlacedRecord<T> {
  const { pack, offset }: { pack: PackName; offset: number } = wanted.location;
  return { wanted, pack, offset };
}
