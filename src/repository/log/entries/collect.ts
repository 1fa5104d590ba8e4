import { StepCounter, type Steps } from '../../../common/yield-to-event-loop.ts';
import { logCorrupt } from '../../format/decode-values.ts';
import type { Floor, LogFactOf } from '../../format/log-entry.ts';
import { type Condemnation, floorSeq, type LogState, mayBeKnown, sparedSessions } from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';
import type { Decision } from './decision.ts';
import { startPacks } from './fold-counts.ts';
import type { FoldDraft } from './fold-draft.ts';
import { KnownNames, type TableRows } from './known-names.ts';
import { type CollectEntry, foldRelocations, foldRepackedPacks, goneOn } from './repack.ts';
import { fenceSessions } from './sessions.ts';

/*
 * `collect`: names packs that nobody needs any more. What it condemns is never used again, and may be deleted once the grace
 * period is over (P8).
 *
 * One entry condemns known packs by name, and sessions that have ended: that means all packs of theirs that are not known.
 * It fences open sessions that have been silent for too long; fencing a session and condemning it takes two entries (P6). It
 * notes what was deleted, so that the state need not carry it, and gives a new date to what has none that counts (P8). It is refused
 * if the log has gone on since the packs were marked (P7). A repacker's entry does more: see `repack.ts`.
 */

export interface CollectPlan {
  /** The number through which the collector had read the log when it listed and marked. */
  readonly markedAt: number;
  /**
   * Keys of packs that the maps of `markedBackups` need, each read in full, with relocations followed: the new locations
   * and the packs of their tables, not the old locations (decision 021).
   */
  readonly live: ReadonlySet<string>;
  /** What a listing of `packs/` showed that was begun after the log was read. */
  readonly listed: Iterable<PackName>;
  /** Sessions with a table that is not here are left alone. */
  readonly tables?: TableRows | undefined;
  /** Open sessions that have been silent for too long. */
  readonly fence?: readonly number[] | undefined;
  /** Sessions and collections whose times are of no use, and whose ages are to count from this entry on. */
  readonly redate?: readonly number[] | undefined;
  /** Fenced sessions that are not condemned yet, because the next backup of their volumes may adopt them. */
  readonly keepFenced?: ReadonlySet<number> | undefined;
  /**
   * The newest session that may have stored packs needed by a map that can't be read in full. All known packs of this session
   * and of those before it stay.
   */
  readonly neededThrough?: number | undefined;
  /** Keys of packs that are left alone in any case, such as locked ones. */
  readonly spare?: ReadonlySet<string> | undefined;
  /** The older of two checkpoints that the collector has read back and found equal to its own fold (L1). */
  readonly floor?: Floor | undefined;
}

/** Decides in steps, because a repository may have a million packs. Refuses with `OBJECT_CONFLICT`: mark again (P7). */
export function* decideCollect(state: LogState, plan: CollectPlan): Steps<Decision<LogFactOf<'collect'>>> {
  // @mutation marked-again
  if (state.seq !== plan.markedAt) return goneOn();
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
  // Fenced sessions without any object are named too, or the state would carry them without end.
  for (const session of state.fenced.keys()) {
    if (!spared.has(session) && !plan.keepFenced?.has(session)) sessions.add(session);
  }
  const gone = yield* findGone(state, plan.listed, names);
  const redated = yield* findRedated(state, plan.redate ?? [], fence, gone);
  const { gonePacks, goneSessions } = gone;
  const lists: readonly { readonly length: number }[] = [packs, fence, gonePacks, goneSessions, redated];
  const floor = plan.floor !== undefined && plan.floor.seq > floorSeq(state) ? plan.floor : undefined;
  if (floor === undefined && sessions.size === 0 && lists.every(({ length }) => length === 0)) return undefined;
  const repack = { session: undefined, newPacks: [], relocate: [] };
  return { type: 'collect', ...repack, packs, sessions: [...sessions], fence, gonePacks, goneSessions, redated, floor };
}

type Gone = Pick<LogFactOf<'collect'>, 'gonePacks' | 'goneSessions'>;

/** Condemned earlier and not in the listing: deleted. A pack that arrives after that is an orphan like any other. */
function* findGone(state: LogState, listed: Iterable<PackName>, names: KnownNames): Steps<Gone> {
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

/** Leaves out sessions that this entry fences, and collections of which nothing remains. */
function* findRedated(state: LogState, redate: readonly number[], fence: number[], gone: Gone): Steps<number[]> {
  if (redate.length === 0) return [];
  const steps = new StepCounter();
  const gonePacks = new Set<string>();
  for (const pack of gone.gonePacks) {
    if (steps.isDue()) yield;
    gonePacks.add(packKey(pack));
  }
  const goneSessions = new Set(gone.goneSessions);
  const left = new Set<number>([...state.sessions.keys(), ...state.fenced.keys()]);
  for (const [key, { seq }] of state.condemned) {
    if (steps.isDue()) yield;
    if (!gonePacks.has(key)) left.add(seq);
  }
  for (const [session, { seq }] of state.condemnedSessions) if (!goneSessions.has(session)) left.add(seq);
  for (const session of fence) left.delete(session);
  return redate.filter((seq) => left.has(seq));
}

/** A pack that may be deleted after the grace period, and the entry that condemned it, whose time says when that is over. */
export interface DeletablePack<Pack extends PackName> {
  readonly pack: Pack;
  readonly by: Condemnation;
}

/** P8: which listed packs are condemned. Those of sessions with a table that is not here must be condemned by name. */
export function* findDeletable<Pack extends PackName>(
  state: LogState,
  listed: Iterable<Pack>,
  tables: TableRows,
): Steps<DeletablePack<Pack>[]> {
  if (state.condemned.size + state.condemnedSessions.size === 0) return [];
  const steps = new StepCounter();
  const names = yield* KnownNames.of(state, tables);
  const found: DeletablePack<Pack>[] = [];
  for (const pack of listed) {
    if (steps.isDue()) yield;
    const byName = state.condemned.get(packKey(pack));
    const isUnknown = names.isReadable(pack.session) && !names.has(pack);
    const by = byName ?? (isUnknown ? state.condemnedSessions.get(pack.session) : undefined);
    if (by !== undefined) found.push({ pack, by });
  }
  return found;
}

export function* foldCollect(draft: FoldDraft, entry: CollectEntry): Steps<void> {
  yield* draft.own(['known', 'condemned', 'condemnedSessions', 'relocations', 'formerRelocations']);
  yield* draft.own(['quarantined', 'sessions', 'pinned', 'fenced']);
  const { state } = draft;
  // As they were before this entry: a session is fenced by one collection and condemned by a later one (P6).
  const spared = sparedSessions(state);
  foldFloor(draft, entry);
  yield* foldRedated(draft, entry);
  yield* foldGone(draft, entry);
  yield* foldRepackedPacks(draft, entry);
  fenceSessions(draft, entry.fence, { seq: entry.seq, at: entry.at, owner: undefined });
  const condemned = new Set<string>();
  for (const pack of entry.packs) {
    if (draft.steps.isDue()) yield;
    condemned.add(packKey(pack));
    if (spared.has(pack.session)) throw logCorrupt(`collect entry ${entry.seq} condemns a pack of an open session`);
    if (mayBeKnown(state, pack) === false) {
      throw logCorrupt(`collect entry ${entry.seq} condemns ${packKey(pack)}, which is not known`);
    }
  }
  if (condemned.size !== entry.packs.length) throw logCorrupt(`collect entry ${entry.seq} condemns a pack twice`);
  const moved = entry.relocate.map(({ pack }) => packKey(pack)).filter((key) => state.relocations.has(key));
  const by: Condemnation = { seq: entry.seq, at: entry.at };
  const lost = yield* draft.condemn(entry.packs, by);
  for (const session of entry.sessions) {
    if (draft.steps.isDue()) yield;
    // A session that was opened after the collector read the log has a number above this entry's (P7).
    if (session >= entry.seq || spared.has(session)) {
      throw logCorrupt(`collect entry ${entry.seq} condemns session ${session}, which is open`);
    }
    state.fenced.delete(session);
    if (!state.condemnedSessions.has(session)) state.condemnedSessions.set(session, by);
  }
  for (const key of moved) condemned.add(key);
  yield* foldRelocations(draft, entry, condemned, by);
  yield* checkMapStarts(draft, entry, lost);
}

/** L1: the floor only rises, and is an earlier entry's checkpoint. */
function foldFloor({ state }: FoldDraft, { seq, floor }: CollectEntry): void {
  if (floor === undefined) return;
  if (floor.seq <= floorSeq(state) || floor.seq >= seq) {
    throw logCorrupt(
      `collect entry ${seq} sets the floor of the log to ${floor.seq}, which is not above ${floorSeq(state)} and below ${seq}`,
    );
  }
  state.floor = floor;
}

/** P8: the ages of what is named count from this entry on. */
function* foldRedated({ state, steps }: FoldDraft, { seq, at, redated }: CollectEntry): Steps<void> {
  if (redated.length === 0) return;
  const dated = { seq, at };
  const left = new Set(redated);
  for (const sessions of [state.sessions, state.fenced]) {
    for (const [session, each] of sessions) if (left.delete(session)) sessions.set(session, { ...each, dated });
  }
  const found = new Set<number>();
  for (const [key, condemned] of state.condemned) {
    if (steps.isDue()) yield;
    if (!left.has(condemned.seq)) continue;
    found.add(condemned.seq);
    state.condemned.set(key, { ...condemned, ...dated });
  }
  for (const [session, by] of state.condemnedSessions) {
    if (!left.has(by.seq)) continue;
    found.add(by.seq);
    state.condemnedSessions.set(session, dated);
  }
  for (const [key, tables] of state.formerRelocations) {
    if (steps.isDue()) yield;
    if (!tables.some(({ by }) => left.has(by.seq))) continue;
    const redatedTables = tables.map((table) => (left.has(table.by.seq) ? { ...table, by: dated } : table));
    state.formerRelocations.set(key, redatedTables);
  }
  if (found.size !== left.size) {
    throw logCorrupt(`collect entry ${seq} dates anew what is neither a session nor condemned`);
  }
}

function* foldGone(draft: FoldDraft, entry: CollectEntry): Steps<void> {
  const { state, steps } = draft;
  const isMissing = (what: string) =>
    logCorrupt(`collect entry ${entry.seq} reports ${what} as deleted that no earlier entry condemned`);
  const gone = new Set<string>();
  for (const pack of entry.gonePacks) {
    if (steps.isDue()) yield;
    const key = packKey(pack);
    const by = state.condemned.get(key);
    if (by === undefined) throw isMissing('a pack');
    state.condemned.delete(key);
    gone.add(key);
    state.goneThrough = Math.max(state.goneThrough, by.seq);
  }
  for (const session of entry.goneSessions) {
    if (steps.isDue()) yield;
    const by = state.condemnedSessions.get(session);
    if (by === undefined) throw isMissing('a session');
    state.condemnedSessions.delete(session);
    state.goneThrough = Math.max(state.goneThrough, by.seq);
  }
  if (entry.gonePacks.length > 0) yield* draft.dropFormerRelocations(gone);
}

/**
 * What the maps of live backups begin with must stay known, or must have been moved. Only a reader of a whole map sees the
 * rest of it.
 *
 * @param lost - keys of packs that this entry made unreachable; `undefined` if it may be any
 */
function* checkMapStarts(draft: FoldDraft, entry: CollectEntry, lost: readonly string[] | undefined): Steps<void> {
  const { state } = draft;
  if (lost !== undefined) {
    const unmoved = lost.filter((key) => !state.relocations.has(key));
    if (unmoved.length === 0) return;
    const starts = yield* draft.mapStarts();
    if (!unmoved.some((key) => starts.has(key))) return;
  }
  for (const marked of [state.backups, state.pinned]) {
    for (const backup of marked.values()) {
      if (draft.steps.isDue()) yield;
      for (const pack of startPacks(backup)) {
        if (mayBeKnown(state, pack) === false && !state.relocations.has(packKey(pack))) {
          throw logCorrupt(
            `collect entry ${entry.seq} condemns a pack in which the map of live backup ${backup.id} begins`,
          );
        }
      }
    }
  }
}
