import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { MapDescriptor } from '../format/map-descriptor.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, RecordKind, type RecordReader } from '../format/record.ts';
import type { RelocationRow } from '../format/relocation-table.ts';
import { BlockMap } from '../map/block-map.ts';
import { StoredRecords } from '../packs/stored-records.ts';
import { readRelocation } from './relocated.ts';

const NODE_BYTES = 1024 * 1024;
const MAX_ROWS = 2 ** 18;
const MAX_RUN_BYTES = 32 * 1024 * 1024;

/**
 * Records as they stand at their very places. Nodes and runs of one id may stand in several, and name different packs there:
 * the id does not cover that. To who reads blocks any of them will do, also one that was kept from elsewhere; a collector
 * that took one for the other would condemn what a live map needs.
 */
export class PlacedRecords implements RecordReader {
  readonly #context: RepositoryContext;
  readonly #stored: StoredRecords;
  /** By id of the table; the one that was read last comes last. */
  readonly #tables = new Map<string, readonly RelocationRow[]>();
  #rows = 0;
  /** Run chunks by place, the one that was read first comes first. */
  readonly #runs = new Map<string, { readonly id: Uint8Array; readonly raw: Uint8Array }>();
  #runBytes = 0;

  constructor(context: RepositoryContext) {
    const { target, keys, format } = context;
    this.#context = context;
    this.#stored = new StoredRecords({ target, keys, fanOut: format.fanOut });
  }

  async read(kind: RecordKind, id: Uint8Array, location: Location, options: AbortOptions = {}): Promise<Uint8Array> {
    await yieldToEventLoop();
    // Backups that follow each other have most of their runs in common, and each map loads all of its own.
    if (kind !== RecordKind.runChunk) return this.#read(kind, id, location, options);
    const place = `${packKey(location.pack)}/${location.offset}`;
    const kept = this.#runs.get(place);
    // What was read there was found to be what its id says. Another id there is for the store's copy to refuse.
    if (kept !== undefined && Buffer.compare(kept.id, id) === 0) return kept.raw;
    const raw = await this.#read(kind, id, location, options);
    this.#keepRun(place, id, raw);
    return raw;
  }

  async #read(kind: RecordKind, id: Uint8Array, location: Location, options: AbortOptions): Promise<Uint8Array> {
    const { log } = this.#context;
    const { seq } = log.state;
    try {
      return await this.#stored.read(kind, id, await this.#now(location, options), options);
    } catch (error) {
      // P8: it may have been moved by others, and deleted, since the log was read.
      if (!BackupError.is(error, 'PACK_MISSING') || (await log.catchUp(options)).seq === seq) throw error;
      return this.#stored.read(kind, id, await this.#now(location, options), options);
    }
  }

  /** A map that is read through this. */
  map(descriptor: MapDescriptor): BlockMap {
    const { format, keys } = this.#context;
    return new BlockMap(descriptor, format.fanOut, this, keys, { cacheBytes: NODE_BYTES });
  }

  /** P9: where the record is now. */
  async #now(location: Location, options: AbortOptions): Promise<Location> {
    const relocation = this.#context.log.state.relocations.get(packKey(location.pack));
    if (relocation === undefined) return location;
    const key = Buffer.from(relocation.id).toString('hex');
    let rows = this.#tables.get(key);
    if (rows === undefined) {
      rows = await readRelocation(this.#context, relocation, options);
      this.#keep(key, rows);
    }
    const row = rowOf(rows, location.offset);
    if (row === undefined) {
      const place = `${packKey(location.pack)} at ${location.offset}`;
      throw new BackupError('MAP_CORRUPT', `a map names ${place}, which was left behind when the pack was moved`);
    }
    return { ...location, pack: row.to.pack, offset: row.to.offset };
  }

  #keepRun(place: string, id: Uint8Array, raw: Uint8Array): void {
    if (this.#runs.has(place)) return;
    this.#runs.set(place, { id: id.slice(), raw });
    this.#runBytes += raw.length;
    for (const [oldest, { raw: dropped }] of this.#runs) {
      if (this.#runBytes <= MAX_RUN_BYTES) break;
      this.#runs.delete(oldest);
      this.#runBytes -= dropped.length;
    }
  }

  #keep(key: string, rows: readonly RelocationRow[]): void {
    if (this.#tables.has(key)) return;
    this.#tables.set(key, rows);
    this.#rows += rows.length;
    for (const [oldest, { length }] of this.#tables) {
      if (this.#rows <= MAX_ROWS || oldest === key) break;
      this.#tables.delete(oldest);
      this.#rows -= length;
    }
  }
}

function rowOf(rows: readonly RelocationRow[], offset: number): RelocationRow | undefined {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((rows[middle] as RelocationRow).offset < offset) low = middle + 1;
    else high = middle;
  }
  return rows[low]?.offset === offset ? rows[low] : undefined;
}
