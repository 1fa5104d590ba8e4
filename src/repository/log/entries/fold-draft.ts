import { StepCounter, type Steps } from '../../../common/yield-to-event-loop.ts';
import { mayHold, packRange, sessionRange } from '../../format/catalogue-pages.ts';
import type { CommittedPack, PackTable, Relocation } from '../../format/log-entry.ts';
import {
  type Condemnation,
  type KnownPacks,
  type LogState,
  mayBeKnown,
  NOTHING_KNOWN,
  type PackFacts,
  type Session,
  type StoredBackup,
} from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';
import { MapStarts, OpenSessions } from './fold-counts.ts';

/** The packs of one session, copied so that a draft may change them. */
interface OwnKnownPacks extends KnownPacks {
  readonly packs: Map<string, PackFacts>;
  tables: PackTable[];
  readonly dead: Set<string>;
}

type Mutable<T> = T extends ReadonlyMap<infer K, infer V> ? Map<K, V> : T extends ReadonlySet<infer K> ? Set<K> : T;
type MutableState = { -readonly [Part in keyof LogState]: Mutable<LogState[Part]> };
type Part = Exclude<keyof LogState, 'seq' | 'hash' | 'floor' | 'anchors' | 'pages' | 'goneThrough'>;

/**
 * A state while entries are folded into it, and every change that more than one kind of entry makes.
 *
 * A part of the state is copied when the first entry changes it, once for all entries. What every entry asks is counted once
 * and then updated. So a fold takes time in proportion to the state plus the entries, and not to their product.
 */
export class FoldDraft {
  /** Only parts that {@link FoldDraft.own} was called for may be changed. */
  readonly state: MutableState;
  /** Of the whole fold: every loop over many things asks whether to yield. */
  readonly steps = new StepCounter();
  readonly #own = new Set<Part>();
  readonly #ownKnown = new Map<number, OwnKnownPacks>();
  #open: OpenSessions | undefined;
  #mapStarts: MapStarts | undefined;
  /** Sessions that have tables. */
  #tabled: Set<number> | undefined;
  /** By the key of the pack that holds a relocation table: keys of the packs whose records it locates. */
  #movedBy: Map<string, Set<string>> | undefined;

  constructor(state: LogState) {
    this.state = { ...(state as MutableState) };
  }

  /** Copies parts of the state, unless that was done, so that they may be changed. */
  *own(parts: readonly Part[]): Steps<void> {
    for (const name of parts) {
      if (this.#own.has(name)) continue;
      const part: ReadonlyMap<unknown, unknown> | ReadonlySet<string> = this.state[name];
      const copy = part instanceof Set ? yield* this.#copyOfSet(part) : yield* this.#copyOfMap(part as never);
      Object.assign(this.state, { [name]: copy });
      this.#own.add(name);
    }
  }

  get open(): OpenSessions {
    this.#open ??= new OpenSessions(this.state.sessions.values());
    return this.#open;
  }

  addSession(session: Session): void {
    this.open.add(session);
    this.state.sessions.set(session.seq, session);
  }

  /** Ends a session, and its pins with it. */
  endSession(seq: number): void {
    const { sessions, pinned } = this.state;
    const session = sessions.get(seq);
    if (session === undefined) return;
    const released = this.open.remove(session);
    sessions.delete(seq);
    for (const id of released) {
      const backup = pinned.get(id);
      if (backup === undefined) continue;
      pinned.delete(id);
      this.#mapStarts?.remove(backup);
    }
  }

  /** Takes volumes from a fenced session: the next backup of them need not adopt it any more. */
  endAdopted(seq: number, volumes: ReadonlyMap<string, unknown>): void {
    const { fenced } = this.state;
    const session = fenced.get(seq);
    if (session === undefined) return;
    // @mutation adopted-end-with-the-commit
    const left = [...session.volumes].filter(([name]) => !volumes.has(name));
    fenced.set(seq, { ...session, volumes: new Map(left) });
  }

  addBackup(backup: StoredBackup): void {
    this.state.backups.set(backup.id, backup);
    this.state.heads.set(backup.volume, { id: backup.id, seq: backup.seq });
    this.#mapStarts?.add(backup);
  }

  forget(id: string): void {
    const { backups, pinned } = this.state;
    const backup = backups.get(id);
    if (backup === undefined) {
      // Its page still has it, for sessions that have pinned it too.
      this.state.forgotten.add(id);
      this.state.holds.delete(id);
      return;
    }
    backups.delete(id);
    if (this.open.isPinned(id)) pinned.set(id, backup);
    else this.#mapStarts?.remove(backup);
  }

  /** The packs in which the maps of live and pinned backups begin that are in no page. */
  *mapStarts(): Steps<MapStarts> {
    if (this.#mapStarts !== undefined) return this.#mapStarts;
    const starts = new MapStarts();
    for (const marked of [this.state.backups, this.state.pinned]) {
      for (const backup of marked.values()) {
        if (this.steps.isDue()) yield;
        starts.add(backup);
      }
    }
    this.#mapStarts = starts;
    return starts;
  }

  *addKnown(packs: readonly CommittedPack[]): Steps<void> {
    for (const { session, random, size, sha256 } of packs) {
      if (this.steps.isDue()) yield;
      (yield* this.#knownOf(session)).packs.set(random, { size, sha256 });
    }
  }

  /** Only a table's content says whose packs it lists, so it is noted for every session whose packs that may be. */
  *addTables(sessions: Iterable<number>, tables: readonly PackTable[]): Steps<void> {
    if (tables.length === 0) return;
    const tabled = yield* this.#sessionsWithTables();
    for (const session of sessions) {
      const known = yield* this.#knownOf(session);
      known.tables = [...known.tables, ...tables];
      tabled.add(session);
    }
  }

  /**
   * Condemns packs permanently: nothing makes a condemned name known again (P7).
   *
   * @returns keys of the packs that can no longer be reached, unless the entry has a new table for them; `undefined` if it
   * may be any pack, because a pack that held a table of packs was condemned
   */
  *condemn(packs: readonly PackName[], by: Condemnation): Steps<string[] | undefined> {
    const { condemned, quarantined, fenced } = this.state;
    const keys: string[] = [];
    const touched = new Set<number>();
    for (const { session, random } of packs) {
      if (this.steps.isDue()) yield;
      const key = packKey({ session, random });
      const known = yield* this.#knownOf(session);
      // A page or a table may list it, and a page also what a later commit has named again.
      const isOnlyHere = known.packs.delete(random) && known.tables.length === 0;
      // @mutation condemned-rows-stay-dead
      if (!isOnlyHere || mayHold(this.state.pages.packs, packRange(session, random))) known.dead.add(random);
      condemned.set(key, { pack: { session, random }, ...by });
      quarantined.delete(key);
      // A session that adopted this one could not know which of its packs are gone (P6).
      fenced.delete(session);
      touched.add(session);
      keys.push(key);
    }
    const hasLostTables = packs.length > 0 && (yield* this.#dropTables(touched));
    for (const session of touched) this.#tidy(session);
    const moved = yield* this.#dropRelocations(hasLostTables ? undefined : keys, by);
    return hasLostTables ? undefined : [...keys, ...moved];
  }

  /** Makes a table the newest one of a condemned pack. */
  *relocate(key: string, relocation: Relocation, by: Condemnation): Steps<void> {
    const { relocations } = this.state;
    const movedBy = yield* this.#relocationsByHolder();
    const earlier = relocations.get(key);
    if (earlier !== undefined) {
      movedBy.get(packKey(earlier.location.pack))?.delete(key);
      this.#retire(key, by);
    }
    relocations.set(key, relocation);
    addTo(movedBy, packKey(relocation.location.pack), key);
  }

  /**
   * Drops former relocation tables that lead nowhere: everything that their collection condemned is gone, or the pack that
   * holds the table is. That follows from entries alone: whether a pack is known may take a page to tell.
   *
   * @param gone - keys of the packs that the entry names as gone
   */
  *dropFormerRelocations(gone: ReadonlySet<string>): Steps<void> {
    const { condemned, formerRelocations } = this.state;
    if (formerRelocations.size === 0) return;
    const left = new Set<number>();
    for (const { seq } of condemned.values()) {
      if (this.steps.isDue()) yield;
      left.add(seq);
    }
    for (const [key, tables] of formerRelocations) {
      if (this.steps.isDue()) yield;
      const kept = tables.filter(({ by, location }) => left.has(by.seq) && !gone.has(packKey(location.pack)));
      if (kept.length === 0) formerRelocations.delete(key);
      else if (kept.length < tables.length) formerRelocations.set(key, kept);
    }
  }

  /** Keeps the newest table of a pack as a former one. `by` is the collection that ends it. */
  #retire(key: string, by: Condemnation): void {
    const { relocations, formerRelocations } = this.state;
    const relocation = relocations.get(key) as Relocation;
    formerRelocations.set(key, [{ ...relocation, by }, ...(formerRelocations.get(key) ?? [])]);
    relocations.delete(key);
  }

  /** Drops tables of packs that lie in condemned packs. */
  *#dropTables(touched: Set<number>): Steps<boolean> {
    let hasLost = false;
    for (const session of yield* this.#sessionsWithTables()) {
      if (this.steps.isDue()) yield;
      const { tables } = this.state.known.get(session) as KnownPacks;
      const left = tables.filter(({ location }) => !this.state.condemned.has(packKey(location.pack)));
      if (left.length === tables.length) continue;
      (yield* this.#knownOf(session)).tables = left;
      touched.add(session);
      hasLost = true;
    }
    return hasLost;
  }

  /** In a session without tables the names themselves say what is known, so the dead need not be listed. */
  #tidy(session: number): void {
    const known = this.#ownKnown.get(session);
    if (known === undefined || known.tables.length > 0) return;
    this.#tabled?.delete(session);
    if (!mayHold(this.state.pages.packs, sessionRange(session))) known.dead.clear();
    if (known.packs.size + known.dead.size > 0) return;
    this.state.known.delete(session);
    this.#ownKnown.delete(session);
  }

  /** @param holders - keys of the packs that may have held the tables; `undefined` if it may be any */
  *#dropRelocations(holders: readonly string[] | undefined, by: Condemnation): Steps<string[]> {
    const { relocations } = this.state;
    if (relocations.size === 0) return [];
    const movedBy = yield* this.#relocationsByHolder();
    const dropped: string[] = [];
    for (const holder of holders ?? [...movedBy.keys()]) {
      if (this.steps.isDue()) yield;
      const moved = movedBy.get(holder);
      const [first] = moved ?? [];
      if (moved === undefined || first === undefined) continue;
      if (mayBeKnown(this.state, (relocations.get(first) as Relocation).location.pack) !== false) continue;
      for (const key of moved) this.#retire(key, by);
      movedBy.delete(holder);
      dropped.push(...moved);
    }
    return dropped;
  }

  *#sessionsWithTables(): Steps<Set<number>> {
    if (this.#tabled !== undefined) return this.#tabled;
    const tabled = new Set<number>();
    for (const [session, { tables }] of this.state.known) {
      if (this.steps.isDue()) yield;
      if (tables.length > 0) tabled.add(session);
    }
    this.#tabled = tabled;
    return tabled;
  }

  *#relocationsByHolder(): Steps<Map<string, Set<string>>> {
    if (this.#movedBy !== undefined) return this.#movedBy;
    const movedBy = new Map<string, Set<string>>();
    for (const [key, { location }] of this.state.relocations) {
      if (this.steps.isDue()) yield;
      addTo(movedBy, packKey(location.pack), key);
    }
    this.#movedBy = movedBy;
    return movedBy;
  }

  /** The known packs of a session, copied so that they may be changed. */
  *#knownOf(session: number): Steps<OwnKnownPacks> {
    const own = this.#ownKnown.get(session);
    if (own !== undefined) return own;
    const { packs, tables, dead } = this.state.known.get(session) ?? NOTHING_KNOWN;
    const copiedPacks = (yield* this.#copyOfMap(packs)) as Map<string, PackFacts>;
    const copy: OwnKnownPacks = { packs: copiedPacks, tables: [...tables], dead: yield* this.#copyOfSet(dead) };
    this.state.known.set(session, copy);
    this.#ownKnown.set(session, copy);
    return copy;
  }

  *#copyOfSet(set: ReadonlySet<string>): Steps<Set<string>> {
    const copy = new Set<string>();
    for (const item of set) {
      if (this.steps.isDue()) yield;
      copy.add(item);
    }
    return copy;
  }

  *#copyOfMap(map: ReadonlyMap<unknown, unknown>): Steps<Map<unknown, unknown>> {
    const copy = new Map();
    for (const [key, value] of map) {
      if (this.steps.isDue()) yield;
      copy.set(key, value);
    }
    return copy;
  }
}

function addTo(map: Map<string, Set<string>>, key: string, item: string): void {
  const found = map.get(key);
  if (found === undefined) map.set(key, new Set([item]));
  else found.add(item);
}
