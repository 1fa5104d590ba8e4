import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import type { FooterRow } from '../format/pack-footer.ts';
import { type Location, type PackName, RecordKind } from '../format/record.ts';
import { IdTable } from './id-table.ts';

/** How much is remembered; tests have less. */
export interface AdoptedLimits {
  /** Contents in one table. */
  readonly tableBlocks: number;
  readonly tables: number;
  /** Blocks of a zone: what a volume has beside each other was mostly uploaded together. */
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
 * remembered, and packs whose contents were dropped are named again where the sweep comes to the blocks that they were
 * of. Forgetting costs an upload, never correctness.
 */
export class AdoptedBlocks {
  readonly #limits: AdoptedLimits;
  readonly #names: PackName[] = [];
  readonly #packs: Pack[] = [];
  /** The newest last. */
  readonly #tables: IdTable[] = [];
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
  *add(pack: number, rows: readonly FooterRow[]): Steps<void> {
    const steps = new StepCounter();
    // @mutation only-blocks-are-adopted
    const blocks = rows.filter(({ kind }) => kind === RecordKind.block);
    if (blocks.length === 0 || blocks.length > this.#limits.tableBlocks) return;
    const table = this.#tableFor(blocks.length);
    const zones = new Set<number>();
    for (const row of blocks) {
      table.add(row.id, pack, row);
      zones.add(this.#zoneOf(row.hint));
      if (steps.isDue()) yield;
    }
    (this.#packs[pack] as Pack).table = table;
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
    if (last !== undefined && last.size + blocks <= tableBlocks) return last;
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
