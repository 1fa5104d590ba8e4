import { type BackupError, isDamage } from '../../common/errors.ts';
import { ENTRIES_AT_ONCE, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { type FreshRecords, movedPlace } from '../context/fresh-records.ts';
import { type MapSink, readTwice } from '../context/map-walk.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, type PackName, RecordKind } from '../format/record.ts';
import type { Damages } from './damages.ts';
import { agrees, Footers } from './footers.ts';
import { corrupt } from './pack-check.ts';

export interface NeededPacksParts {
  readonly records: FreshRecords;
  readonly damages: Damages;
  readonly footerKey: Uint8Array | undefined;
  /** Bytes of a pack; 0 where it is not known to be there. */
  readonly sizeOf: (key: string) => number;
  readonly signal: AbortSignal;
}

interface Needed {
  readonly pack: PackName;
  /** Where the last record ends that something names. */
  end: number;
}

/** The packs that maps need, as a walk comes to them, moved ones where they are now; and whether they agree with the maps. */
export class NeededPacks implements MapSink {
  /** Whether what a pack says of itself is compared with what maps say, by its key. */
  compare: (key: string) => boolean = () => false;
  readonly #parts: NeededPacksParts;
  readonly #footers: Footers;
  readonly #byKey = new Map<string, Needed>();

  constructor(parts: NeededPacksParts) {
    this.#parts = parts;
    this.#footers = new Footers(parts.records.target, parts.footerKey, parts.signal);
  }

  *packs(): Generator<PackName> {
    for (const { pack } of this.#byKey.values()) yield pack;
  }

  endOf(key: string): number {
    return this.#byKey.get(key)?.end ?? 0;
  }

  async record(kind: RecordKind, id: Uint8Array, location: Location): Promise<void> {
    try {
      const place = kind === RecordKind.relocation ? location : await this.#parts.records.locate(location);
      await this.#named(kind, [{ id, location: place }]);
    } catch (error) {
      if (!isDamage(error)) throw error;
      await this.#parts.damages.addRecord(location, error);
    }
  }

  async blocks(entries: readonly BlockEntry[]): Promise<void> {
    for (const [, named] of await groupedByPack(entries)) await this.#blocksOf(named);
  }

  async usage(packs: readonly PackName[]): Promise<void> {
    for (const pack of packs) {
      const moved = await readTwice(() => this.#parts.records.movedFrom(pack));
      if ('error' in moved) continue; // The table is told of where it is read.
      if (moved.value === undefined) this.#need(pack);
      else for (const to of moved.value.packs) this.#need(to);
    }
  }

  async failed(location: Location, error: BackupError): Promise<void> {
    await this.#parts.damages.addRecord(location, error);
  }

  /** Whether a pack's table of contents can be read at all. */
  async checkFooter(pack: PackName): Promise<void> {
    await this.#footerOf(pack);
  }

  /** @param named - all in one pack, as maps name it */
  async #blocksOf(named: readonly BlockEntry[]): Promise<void> {
    const { records, damages } = this.#parts;
    const { location } = named[0] as BlockEntry;
    const moved = await readTwice(() => records.movedFrom(location.pack));
    if ('error' in moved) {
      await damages.addRecord(location, moved.error);
      return;
    }
    const table = moved.value;
    if (table === undefined) return this.#named(RecordKind.block, named);
    const places: BlockEntry[] = [];
    for (const entry of named) {
      try {
        places.push({ ...entry, location: movedPlace(entry.location, table) });
      } catch (error) {
        if (!isDamage(error)) throw error;
        await damages.addRecord(entry.location, error);
      }
    }
    for (const [, each] of await groupedByPack(places)) await this.#named(RecordKind.block, each);
  }

  /** @param named - all in one pack, where they are now */
  async #named(
    kind: RecordKind,
    named: readonly { readonly id: Uint8Array; readonly location: Location }[],
  ): Promise<void> {
    const { pack } = (named[0] as { location: Location }).location;
    const needed = this.#need(pack);
    for (const { location } of named) needed.end = Math.max(needed.end, location.offset + location.storedLength);
    if (!this.compare(packKey(pack))) return;
    const rows = await this.#footerOf(pack);
    if (rows === undefined) return;
    const differs = named.find(({ id, location }) => !agrees(rows.get(location.offset), kind, id, location));
    if (differs === undefined) return;
    const error = corrupt(pack, `it does not say of ${differs.location.offset} what a map says`);
    this.#parts.damages.add({ pack, error, areUnsure: true });
  }

  async #footerOf(pack: PackName) {
    const bytes = this.#parts.sizeOf(packKey(pack));
    if (bytes === 0) return undefined; // That it is missing shows elsewhere.
    const rows = await readTwice(() => this.#footers.of(pack, bytes));
    if ('value' in rows) return rows.value;
    this.#parts.damages.add({ pack, error: rows.error, areUnsure: true });
    return undefined;
  }

  #need(pack: PackName): Needed {
    const key = packKey(pack);
    let needed = this.#byKey.get(key);
    if (needed === undefined) {
      needed = { pack, end: 0 };
      this.#byKey.set(key, needed);
    }
    return needed;
  }
}

/** There may be 65,536 of them: others run in between. */
async function groupedByPack(entries: readonly BlockEntry[]): Promise<Map<string, BlockEntry[]>> {
  const groups = new Map<string, BlockEntry[]>();
  let last: PackName | undefined;
  let group: BlockEntry[] = [];
  for (const [index, entry] of entries.entries()) {
    if (index % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
    const { pack } = entry.location;
    // Entries that follow each other mostly name one pack, by one object.
    if (pack !== last) {
      last = pack;
      const key = packKey(pack);
      group = groups.get(key) ?? [];
      groups.set(key, group);
    }
    group.push(entry);
  }
  return groups;
}
