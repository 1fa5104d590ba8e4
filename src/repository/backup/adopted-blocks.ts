import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import type { FooterRow } from '../format/pack-footer.ts';
import { type Codec, type Location, type PackName, RecordKind } from '../format/record.ts';

/** How much is remembered; tests have less. */
export interface AdoptedLimits {
  /** Contents in one table. */
  readonly tableBlocks: number;
  readonly tables: number;
  /** Blocks of a zone: blocks that are near each other on a volume were mostly uploaded together. */
  readonly zoneBlocks: number;
}

/** A million contents, in some 60 MB at most. */
const LIMITS: AdoptedLimits = { tableBlocks: 2 ** 17, tables: 8, zoneBlocks: 2 ** 12 };
/** A pack whose blocks are further apart is read once only. */
const MAX_ZONES = 16;
/** How often a pack may be read again. */
const MAX_RELOADS = 3;

/** What is remembered of a pack whether or not its contents are. */
interface Pack {
  /** The table that has its contents; `undefined` where there is none any more. */
  table: IdTable | undefined;
  reloads: number;
}

/**
 * Which contents the packs of adopted sessions hold. A dead session may have left many millions, so only the newest are
 * remembered. A pack whose contents were dropped is named again when the sweep comes to blocks near those that it has. Forgetting
 * costs an upload, never correctness.
 */
export class AdoptedBlocks {
  readonly #limits: AdoptedLimits;
  readonly #names: PackName[] = [];
  readonly #packs: Pack[] = [];
  /** The newest last. */
  readonly #tables: IdTable[] = [];
  /** Contents that the newest table has or gets. Several packs are added at a time, in turns, and a table must never be full. */
  #promised = 0;
  /** By zone: the packs that have blocks there. */
  readonly #zones = new Map<number, Set<number>>();
  #hasDropped = false;

  constructor(limits: AdoptedLimits = LIMITS) {
    this.#limits = limits;
  }

  /** A number for a pack. */
  number(name: PackName): number {
    this.#packs.push({ table: undefined, reloads: 0 });
    return this.#names.push(name) - 1;
  }

  /** Remembers the blocks of a pack, and nothing else of it: nodes and runs may refer to what is condemned by now. */
  *add(pack: number, rows: Iterable<FooterRow>): Steps<void> {
    const steps = new StepCounter();
    let count = 0;
    for (const { kind } of rows) {
      if (steps.isDue()) yield;
      if (kind === RecordKind.block) count++;
    }
    if (count === 0 || count > this.#limits.tableBlocks) return;
    const table = this.#tableFor(count);
    const zones = new Set<number>();
    for (const row of rows) {
      if (steps.isDue()) yield;
      // @mutation only-blocks-are-adopted
      if (row.kind !== RecordKind.block) continue;
      table.add(row.id, pack, row);
      zones.add(this.#zoneOf(row.hint));
    }
    // Meanwhile so many others may have been added that this table is gone.
    (this.#packs[pack] as Pack).table = this.#tables.includes(table) ? table : undefined;
    if (zones.size > MAX_ZONES) return;
    for (const zone of zones) {
      const packs = this.#zones.get(zone);
      if (packs === undefined) this.#zones.set(zone, new Set([pack]));
      else packs.add(pack);
    }
  }

  find(id: Uint8Array): { readonly pack: number; readonly location: Location } | undefined {
    for (let at = this.#tables.length - 1; at >= 0; at--) {
      const found = this.#tables[at]?.find(id);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** The packs that should be read again before these blocks are looked for. Each call counts as a reading. */
  forgotten(blocks: Iterable<number>): number[] {
    if (!this.#hasDropped) return [];
    const found: number[] = [];
    const zones = new Set([...blocks].map((block) => this.#zoneOf(block)));
    for (const pack of new Set([...zones].flatMap((zone) => [...(this.#zones.get(zone) ?? [])]))) {
      const known = this.#packs[pack] as Pack;
      if (known.table !== undefined || known.reloads >= MAX_RELOADS) continue;
      known.reloads++;
      found.push(pack);
    }
    return found;
  }

  #zoneOf(block: number): number {
    return Math.floor(block / this.#limits.zoneBlocks);
  }

  /** A table that has room for so many. Where that takes another one, the oldest goes. */
  #tableFor(blocks: number): IdTable {
    const { tableBlocks, tables } = this.#limits;
    const last = this.#tables.at(-1);
    this.#promised += blocks;
    if (last !== undefined && this.#promised <= tableBlocks) return last;
    this.#promised = blocks;
    const table = new IdTable(this.#names, tableBlocks);
    this.#tables.push(table);
    if (this.#tables.length > tables) {
      const dropped = this.#tables.shift();
      this.#hasDropped = true;
      for (const pack of this.#packs) if (pack.table === dropped) pack.table = undefined;
    }
    return table;
  }
}

const ID_BYTES = 32;
const FIRST_CAPACITY = 1024;
/** For each entry: number of the pack, offset, stored length | codec << 24, raw length. */
const WORDS = 4;

/** What a row of a pack's footer says of a block, without its place in a list. */
export type StoredBlock = Omit<Location, 'pack'>;

/**
 * Where contents are, by their ids, in flat arrays: 56 bytes for each when it is full. Nothing is ever taken out. Content ids
 * are hashes, so that their first bytes say where to look.
 */
export class IdTable {
  readonly #packs: readonly PackName[];
  #ids = Buffer.alloc(FIRST_CAPACITY * ID_BYTES);
  #locations = new Uint32Array(FIRST_CAPACITY * WORDS);
  /** Number of an entry + 1, or 0. There are twice as many from the start: moving all entries to new slots would take too long for one step. */
  readonly #slots: Uint32Array;
  #size = 0;

  /**
   * @param packs - entries name packs by their numbers in this list, which may grow
   * @param mostEntries - what its owner puts into it at most
   */
  constructor(packs: readonly PackName[], mostEntries: number) {
    this.#packs = packs;
    this.#slots = new Uint32Array(mostEntries * 2);
  }

  get size(): number {
    return this.#size;
  }

  /** Adds a content, unless it is there. */
  add(id: Uint8Array, pack: number, { offset, storedLength, codec, rawLength }: StoredBlock): void {
    if (this.#size * WORDS === this.#locations.length) this.#grow();
    const slot = this.#slotOf(id);
    if (this.#slots[slot] !== 0) return;
    const entry = this.#size++;
    this.#slots[slot] = entry + 1;
    this.#ids.set(id, entry * ID_BYTES);
    this.#locations.set([pack, offset, storedLength | (codec << 24), rawLength], entry * WORDS);
  }

  find(id: Uint8Array): { readonly pack: number; readonly location: Location } | undefined {
    const entry = (this.#slots[this.#slotOf(id)] as number) - 1;
    if (entry < 0) return undefined;
    const [pack, offset, lengthAndCodec, rawLength] = this.#locations.subarray(entry * WORDS) as unknown as number[];
    const storedLength = (lengthAndCodec as number) & 0xffffff;
    const codec = ((lengthAndCodec as number) >>> 24) as Codec;
    const name = this.#packs[pack as number] as PackName;
    return {
      pack: pack as number,
      location: { pack: name, offset: offset as number, storedLength, codec, rawLength: rawLength as number },
    };
  }

  /** The slot of an id, or the free one where it belongs. Half of all slots at least are free. */
  #slotOf(id: Uint8Array): number {
    const slots = this.#slots;
    const first = id[0] as number;
    let slot = ((first << 24) | ((id[1] as number) << 16) | ((id[2] as number) << 8) | (id[3] as number)) >>> 0;
    for (slot %= slots.length; ; slot = (slot + 1) % slots.length) {
      const entry = (slots[slot] as number) - 1;
      if (entry < 0 || this.#ids.compare(id, 0, ID_BYTES, entry * ID_BYTES, (entry + 1) * ID_BYTES) === 0) return slot;
    }
  }

  #grow(): void {
    const capacity = this.#size * 2;
    const [ids, locations] = [this.#ids, this.#locations];
    this.#ids = Buffer.alloc(capacity * ID_BYTES);
    this.#ids.set(ids);
    this.#locations = new Uint32Array(capacity * WORDS);
    this.#locations.set(locations);
  }
}
