import { StepCounter, type Steps } from '../../../common/yield-to-event-loop.ts';
import type { PackTable } from '../../format/log-entry.ts';
import { isKnown, type LogState } from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';

/*
 * The names of all packs that are known. The state holds most of them itself; a commit of very many packs puts them into
 * tables, which are records in packs and have to be read. A collector may not judge the packs of a session if one of its
 * tables could not be read.
 */

/** The rows of pack tables, by {@link tableKey}. */
export type TableRows = ReadonlyMap<string, readonly PackName[]>;

/** The key of a table's rows. A table's id is the hash of its content. */
export function tableKey({ id }: PackTable): string {
  return Buffer.from(id).toString('hex');
}

/** Every table that the state refers to, once. */
export function packTables(state: LogState): PackTable[] {
  const tables = [...state.known.values()].flatMap((known) => known.tables);
  return [...new Map(tables.map((table) => [tableKey(table), table])).values()];
}

/** The names of known packs, including those that tables list. */
export class KnownNames {
  readonly #state: LogState;
  /** By key: packs that only tables list. */
  readonly #tabled = new Map<string, PackName>();
  readonly #unreadable = new Set<number>();
  readonly #tables: { readonly holder: PackName; readonly rows: readonly PackName[] }[] = [];

  private constructor(state: LogState) {
    this.#state = state;
  }

  static *of(state: LogState, rows: TableRows): Steps<KnownNames> {
    const names = new KnownNames(state);
    const steps = new StepCounter();
    for (const [session, { tables }] of state.known) {
      if (steps.isDue()) yield;
      if (!tables.every((table) => rows.has(tableKey(table)))) names.#unreadable.add(session);
    }
    for (const table of packTables(state)) {
      const known: PackName[] = [];
      for (const pack of rows.get(tableKey(table)) ?? []) {
        if (steps.isDue()) yield;
        if (!isKnown(state, pack)) continue;
        known.push(pack);
        if (!state.known.get(pack.session)?.packs.has(pack.random)) names.#tabled.set(packKey(pack), pack);
      }
      names.#tables.push({ holder: table.location.pack, rows: known });
    }
    return names;
  }

  has(pack: PackName): boolean {
    if (this.#state.known.get(pack.session)?.packs.has(pack.random) === true) return true;
    return this.#tabled.size > 0 && this.#tabled.has(packKey(pack));
  }

  *all(): Generator<PackName> {
    for (const [session, { packs }] of this.#state.known) for (const random of packs.keys()) yield { session, random };
    yield* this.#tabled.values();
  }

  /** Whether the names of all known packs of a session are here. */
  isReadable(session: number): boolean {
    return !this.#unreadable.has(session);
  }

  /** Keys of packs with a table that lists a needed pack. If such a pack were condemned, so would be what the table lists. */
  *neededHolders(isNeeded: (pack: PackName) => boolean): Steps<Set<string>> {
    const steps = new StepCounter();
    const holders = new Set<string>();
    for (const { holder, rows } of this.#tables) {
      for (const pack of rows) {
        if (steps.isDue()) yield;
        if (!isNeeded(pack)) continue;
        holders.add(packKey(holder));
        break;
      }
    }
    return holders;
  }
}
