import type { AbortOptions } from '../../common/abort.ts';
import type { Relocation } from '../log/log-entry.ts';
import { type PackName, RecordKind, type RecordReader } from './record.ts';
import type { PlacedRecord, WantedRecord } from './record-spans.ts';
import { decodeRelocationTable, findRelocation } from './relocation-table.ts';

/** Tables kept, in bytes as they are stored: some 200,000 records that were moved. */
const MAX_KEPT_BYTES = 8 * 1024 * 1024;

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
   * The places of records of one pack, after a table of its. One that the table does not name was needed by nobody when the
   * pack was moved; whoever has a forgotten backup open finds it in its old place, as long as that is there.
   *
   * @throws `RECORD_CORRUPT`, `PACK_MISSING` of the table, and what the target gives
   */
  async follow<T extends WantedRecord>(
    wanted: readonly T[],
    relocation: Relocation,
    options: AbortOptions,
  ): Promise<PlacedRecord<T>[]> {
    const table = await this.#table(relocation, options);
    return wanted.map((each) => {
      const { pack, offset } = each.location;
      const to = findRelocation(table, offset);
      if (to === undefined) return { wanted: each, pack, offset };
      return { wanted: each, pack: to.pack, offset: to.offset };
    });
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
    decodeRelocationTable(raw); // Checks it.
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
