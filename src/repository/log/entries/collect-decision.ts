import { BackupError } from '../../../common/errors.ts';
import { runAtOnce, StepCounter, type Steps } from '../../../common/yield-to-event-loop.ts';
import type { LogFactOf, PackTable } from '../../format/log-entry.ts';
import { type Condemnation, isKnown, type LogState, sparedSessions } from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';
import type { Decision } from './decision.ts';

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
  /**
   * The newest session of which a map that can't be read in full may need packs: all that is known of it and of those
   * before it stays.
   */
  readonly neededThrough?: number | undefined;
  /** Keys of packs to leave alone whatever they are, such as locked ones. */
  readonly spare?: ReadonlySet<string> | undefined;
}

export type TableRows = ReadonlyMap<string, readonly PackName[]>;

/** The `collect` entry of what can be named now. Refuses with `OBJECT_CONFLICT` where the log went on: mark again (P7). */
export function decideCollect(state: LogState, plan: CollectPlan): Decision<LogFactOf<'collect'>> {
  return runAtOnce(collecting(state, plan));
}

/** As {@link decideCollect}, in steps: a repository may have a million packs. */
export function* collecting(state: LogState, plan: CollectPlan): Steps<Decision<LogFactOf<'collect'>>> {
  // @mutation marked-again
  if (state.seq !== plan.markedAt) {
    return new BackupError('OBJECT_CONFLICT', 'the log has gone on since the marking', { retryable: true });
  }
  const steps = new StepCounter();
  const names = yield* KnownNames.of(state, plan.tables ?? new Map());
  const spared = sparedSessions(state);
  const fence = (plan.fence ?? []).filter((session) => state.sessions.has(session));
  const { neededThrough = 0 } = plan;
  const isSpared = (pack: PackName) =>
    spared.has(pack.session) || !names.isReadable(pack.session) || (plan.spare?.has(packKey(pack)) ?? false);
  const isNeeded = (pack: PackName) => pack.session <= neededThrough || plan.live.has(packKey(pack)) || isSpared(pack);
  const holders = yield* names.neededHolders(isNeeded);
  const packs: PackName[] = [];
  for (const pack of names.all()) {
    if (steps.isDue()) yield;
    if (!isNeeded(pack) && !holders.has(packKey(pack))) packs.push(pack);
  }
  const sessions = new Set<number>();
  for (const pack of plan.listed) {
    if (steps.isDue()) yield;
    const isOrphan = !names.has(pack) && pack.session <= state.seq && !state.condemned.has(packKey(pack));
    const isWaiting = state.fenced.has(pack.session) && plan.keepFenced?.has(pack.session);
    if (isOrphan && !isWaiting && !isSpared(pack) && !state.condemnedSessions.has(pack.session)) {
      sessions.add(pack.session);
    }
  }
  // Those without an object are named too, or the fold would carry them forever.
  for (const session of state.fenced.keys()) {
    if (!spared.has(session) && !plan.keepFenced?.has(session)) sessions.add(session);
  }
  const gone = yield* goneOf(state, plan.listed, names);
  const redated = yield* stillThere(state, plan.redate ?? [], { fence, gone });
  const { gonePacks, goneSessions } = gone;
  const lists: readonly { readonly length: number }[] = [packs, fence, gonePacks, goneSessions, redated];
  if (sessions.size === 0 && lists.every(({ length }) => length === 0)) return undefined;
  const repack = { session: undefined, newPacks: [], relocate: [] };
  return { type: 'collect', ...repack, packs, sessions: [...sessions], fence, gonePacks, goneSessions, redated };
}

/** What counts anew: not what this entry ends, nor a collection of which nothing is left. */
function* stillThere(
  state: LogState,
  redate: readonly number[],
  { fence, gone }: { readonly fence: readonly number[]; readonly gone: Gone },
): Steps<number[]> {
  if (redate.length === 0) return [];
  const steps = new StepCounter();
  const fenced = new Set(fence);
  const gonePacks = new Set<string>();
  for (const pack of gone.gonePacks) {
    if (steps.isDue()) yield;
    gonePacks.add(packKey(pack));
  }
  const goneSessions = new Set(gone.goneSessions);
  const left = new Set<number>();
  for (const [key, { seq }] of state.condemned) {
    if (steps.isDue()) yield;
    if (!gonePacks.has(key)) left.add(seq);
  }
  for (const [session, { seq }] of state.condemnedSessions) if (!goneSessions.has(session)) left.add(seq);
  return redate.filter((seq) => {
    if (fenced.has(seq)) return false;
    return state.sessions.has(seq) || state.fenced.has(seq) || left.has(seq);
  });
}

interface Gone {
  readonly gonePacks: PackName[];
  readonly goneSessions: number[];
}

/** Condemned earlier, and not in the listing: deleted. What lands late after that is an orphan like any other. */
function* goneOf(state: LogState, listed: Iterable<PackName>, names: KnownNames): Steps<Gone> {
  const steps = new StepCounter();
  const there = new Set<string>();
  const orphaned = new Set<number>();
  for (const pack of listed) {
    if (steps.isDue()) yield;
    const key = packKey(pack);
    if (state.condemned.has(key)) there.add(key);
    if (!names.has(pack)) orphaned.add(pack.session);
  }
  const gonePacks: PackName[] = [];
  for (const [key, { pack }] of state.condemned) {
    if (steps.isDue()) yield;
    if (!there.has(key)) gonePacks.push(pack);
  }
  return { gonePacks, goneSessions: [...state.condemnedSessions.keys()].filter((session) => !orphaned.has(session)) };
}

/** A pack that may be deleted, and the entry that condemned it: its time says when the grace is over. */
export interface Deletable<Pack extends PackName = PackName> {
  readonly pack: Pack;
  readonly by: Condemnation;
}

/**
 * P8: what of a listing may be deleted. Packs of sessions with a table that is not given are left out, unless they are
 * condemned by name.
 */
export function deletable(state: LogState, listed: Iterable<PackName>, tables: TableRows = new Map()): Deletable[] {
  return runAtOnce(findingDeletable(state, listed, tables));
}

/** As {@link deletable}, in steps. */
export function* findingDeletable<Pack extends PackName>(
  state: LogState,
  listed: Iterable<Pack>,
  tables: TableRows,
): Steps<Deletable<Pack>[]> {
  if (state.condemned.size + state.condemnedSessions.size === 0) return [];
  const steps = new StepCounter();
  const names = yield* KnownNames.of(state, tables);
  const found: Deletable<Pack>[] = [];
  for (const pack of listed) {
    if (steps.isDue()) yield;
    const byName = state.condemned.get(packKey(pack));
    const isUnknown = names.isReadable(pack.session) && !names.has(pack);
    const by = byName ?? (isUnknown ? state.condemnedSessions.get(pack.session) : undefined);
    if (by !== undefined) found.push({ pack, by });
  }
  return found;
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
export class KnownNames {
  readonly #state: LogState;
  /** Keys of packs that only tables list. */
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
    for (const [session, { packs }] of this.#state.known) for (const random of packs) yield { session, random };
    yield* this.#tabled.values();
  }

  /** Whether all that is known of a session can be said by name. */
  isReadable(session: number): boolean {
    return !this.#unreadable.has(session);
  }

  /** Keys of packs with a table that lists something needed. When such a pack is condemned, so is what the table says. */
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
