import { BackupError } from '../../common/errors.ts';
import { type PackName, packKey } from '../records/record.ts';
import type { LogFactOf, PackTable } from './log-entry.ts';
import { type Condemnation, isKnown, type LogState, sparedSessions } from './log-state.ts';
import type { Decision } from './log-writer.ts';

/** A collection as a decision on a state: rules P6, P7, P8. */

/** What a collector has listed and marked. */
export interface CollectPlan {
  /** The number through which it had read the log when it listed and marked. */
  readonly markedAt: number;
  /**
   * Keys of packs that the maps of `markedBackups` need, each read in full, with relocations followed: the new places
   * and the packs of their tables, not the old places (decision 021).
   */
  readonly live: ReadonlySet<string>;
  /** What a listing of `packs/` showed, begun after the log was read. */
  readonly listed: Iterable<PackName>;
  /** Rows of pack tables, by {@link tableKey}. Sessions with a table that is not here are left alone. */
  readonly tables?: TableRows | undefined;
  /** Open sessions that have been silent for too long. */
  readonly fence?: readonly number[] | undefined;
  /** Sessions and collections whose times say nothing, that are to count from this entry on. */
  readonly redate?: readonly number[] | undefined;
  /** Fenced sessions that are not given up yet: their hosts may come back and adopt them. */
  readonly keepFenced?: ReadonlySet<number> | undefined;
  /** Keys of packs to leave alone whatever they are, such as locked ones. */
  readonly spare?: ReadonlySet<string> | undefined;
}

export type TableRows = ReadonlyMap<string, readonly PackName[]>;

/** The `collect` entry of what can be named now. Refuses with `OBJECT_CONFLICT` where the log went on: mark again (P7). */
export function decideCollect(state: LogState, plan: CollectPlan): Decision<LogFactOf<'collect'>> {
  if (state.seq !== plan.markedAt) {
    return new BackupError('OBJECT_CONFLICT', 'the log has gone on since the marking', { retryable: true });
  }
  const names = new KnownNames(state, plan.tables ?? new Map());
  const listed = [...plan.listed];
  const spared = sparedSessions(state);
  const fence = (plan.fence ?? []).filter((session) => state.sessions.has(session));
  const isSpared = (pack: PackName) =>
    spared.has(pack.session) || !names.isReadable(pack.session) || (plan.spare?.has(packKey(pack)) ?? false);
  const isNeeded = (pack: PackName) => plan.live.has(packKey(pack)) || isSpared(pack);
  const holders = names.neededHolders(isNeeded);
  const packs = [...names.all()].filter((pack) => !isNeeded(pack) && !holders.has(packKey(pack)));
  const sessions = new Set<number>();
  for (const pack of listed) {
    const isOrphan = !names.has(pack) && pack.session <= state.seq && !state.condemned.has(packKey(pack));
    const isWaiting = state.fenced.has(pack.session) && plan.keepFenced?.has(pack.session);
    if (isOrphan && !isWaiting && !isSpared(pack) && !state.condemnedSessions.has(pack.session)) {
      sessions.add(pack.session);
    }
  }
  // Those without an object are named too, or the fold would carry them for ever.
  for (const session of state.fenced.keys()) {
    if (!spared.has(session) && !plan.keepFenced?.has(session)) sessions.add(session);
  }
  const gone = goneOf(state, listed, names);
  const redated = stillThere(state, plan.redate ?? [], { fence, gone });
  const { length } = [...packs, ...sessions, ...fence, ...gone.gonePacks, ...gone.goneSessions, ...redated];
  if (length === 0) return undefined;
  const repack = { session: undefined, newPacks: [], relocate: [] };
  return { type: 'collect', ...repack, packs, sessions: [...sessions], fence, ...gone, redated };
}

/** What counts anew: not what this entry ends, nor a collection of which nothing is left. */
function stillThere(
  state: LogState,
  redate: readonly number[],
  { fence, gone }: { readonly fence: readonly number[]; readonly gone: ReturnType<typeof goneOf> },
): number[] {
  const fenced = new Set(fence);
  const gonePacks = new Set(gone.gonePacks.map(packKey));
  const goneSessions = new Set(gone.goneSessions);
  const left = new Set<number>();
  for (const [key, { seq }] of state.condemned) if (!gonePacks.has(key)) left.add(seq);
  for (const [session, { seq }] of state.condemnedSessions) if (!goneSessions.has(session)) left.add(seq);
  return redate.filter((seq) => {
    if (fenced.has(seq)) return false;
    return state.sessions.has(seq) || state.fenced.has(seq) || left.has(seq);
  });
}

/** Condemned earlier, and not in the listing: deleted. What lands late after that is an orphan like any other. */
function goneOf(state: LogState, listed: readonly PackName[], names: KnownNames) {
  const there = new Set(listed.map(packKey));
  const orphaned = new Set(listed.filter((pack) => !names.has(pack)).map(({ session }) => session));
  return {
    gonePacks: [...state.condemned].filter(([key]) => !there.has(key)).map(([, { pack }]) => pack),
    goneSessions: [...state.condemnedSessions.keys()].filter((session) => !orphaned.has(session)),
  };
}

/**
 * P8: what of a listing may be deleted, with the entry that condemned it: its time says when the grace is over. Packs of
 * sessions with a table that is not given are left out, unless they are condemned by name.
 */
export function* deletable(
  state: LogState,
  listed: Iterable<PackName>,
  tables: TableRows = new Map(),
): Generator<{ readonly pack: PackName; readonly by: Condemnation }> {
  const names = new KnownNames(state, tables);
  for (const pack of listed) {
    const byName = state.condemned.get(packKey(pack));
    const isUnknown = names.isReadable(pack.session) && !names.has(pack);
    const by = byName ?? (isUnknown ? state.condemnedSessions.get(pack.session) : undefined);
    if (by !== undefined) yield { pack, by };
  }
}

/** How rows are found: a table's id says what it lists. */
export function tableKey({ id }: PackTable): string {
  return Buffer.from(id).toString('hex');
}

/** Every table that the state needs, once. */
export function packTables(state: LogState): PackTable[] {
  const tables = [...state.known.values()].flatMap((known) => known.tables);
  return [...new Map(tables.map((table) => [tableKey(table), table])).values()];
}

/** The names that are known, those in tables too. */
class KnownNames {
  readonly #packs = new Map<string, PackName>();
  readonly #unreadable = new Set<number>();
  readonly #tables: readonly { readonly holder: PackName; readonly rows: readonly PackName[] }[];

  constructor(state: LogState, rows: TableRows) {
    for (const [session, { packs, tables }] of state.known) {
      for (const random of packs) this.#add({ session, random });
      if (!tables.every((table) => rows.has(tableKey(table)))) this.#unreadable.add(session);
    }
    this.#tables = packTables(state).map((table) => ({
      holder: table.location.pack,
      rows: (rows.get(tableKey(table)) ?? []).filter((pack) => isKnown(state, pack)),
    }));
    for (const table of this.#tables) for (const pack of table.rows) this.#add(pack);
  }

  has(pack: PackName): boolean {
    return this.#packs.has(packKey(pack));
  }

  all(): Iterable<PackName> {
    return this.#packs.values();
  }

  /** Whether all that is known of a session can be said by name. */
  isReadable(session: number): boolean {
    return !this.#unreadable.has(session);
  }

  /** Keys of packs with a table that lists something needed. When such a pack is condemned, so is what the table says. */
  neededHolders(isNeeded: (pack: PackName) => boolean): Set<string> {
    const needed = this.#tables.filter(({ rows }) => rows.some(isNeeded));
    return new Set(needed.map(({ holder }) => packKey(holder)));
  }

  #add(pack: PackName): void {
    this.#packs.set(packKey(pack), pack);
  }
}
