import { StepCounter, type Steps } from '../../../common/yield-to-event-loop.ts';
import type { CommittedPack, PackTable, Relocation } from '../../format/log-entry.ts';
import {
  type Condemnation,
  type CondemnedPack,
  type FormerRelocation,
  isKnown,
  type KnownPacks,
  type LogState,
  type Session,
  type StoredBackup,
} from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';
import { DescriptorPacks } from './descriptor-packs.ts';
import { OpenSessions } from './open-sessions.ts';

/** Packs of one session that a draft may change. */
interface OwnKnownPacks extends KnownPacks {
  readonly packs: Set<string>;
  tables: PackTable[];
  readonly dead: Set<string>;
}

const NOTHING_KNOWN: KnownPacks = { packs: new Set(), tables: [], dead: new Set() };

type Collections = Omit<LogState, 'seq' | 'hash'>;
type Mutable<T> = T extends ReadonlyMap<infer K, infer V> ? Map<K, V> : T extends ReadonlySet<infer K> ? Set<K> : T;
type Name = keyof Collections;

/**
 * A state while entries are folded into it. Each part is copied when the first entry changes it, once however many
 * entries there are; what entries ask again and again is counted once and then kept up. So folding takes time in
 * proportion to the state and to what the entries say, and not to their product.
 */
export class FoldDraft implements LogState {
  seq: number;
  hash: Uint8Array;
  backups: Map<string, StoredBackup>;
  pinned: Map<string, StoredBackup>;
  heads: Map<string, string>;
  sessions: Map<number, Session>;
  fenced: Map<number, Session>;
  known: Map<number, KnownPacks>;
  condemned: Map<string, CondemnedPack>;
  condemnedSessions: Map<number, Condemnation>;
  relocations: Map<string, Relocation>;
  formerRelocations: Map<string, readonly FormerRelocation[]>;
  quarantined: Map<string, PackName>;
  keySlots: Set<string>;
  removedSlots: Set<string>;
  /** Of the whole fold: every loop over many things asks it. */
  readonly steps = new StepCounter();
  /** Which parts are the draft's own by now. */
  readonly #own = new Set<Name>();
  readonly #ownKnown = new Map<number, OwnKnownPacks>();
  #open: OpenSessions | undefined;
  #beginnings: DescriptorPacks | undefined;
  /** Sessions that have tables. */
  #tabled: Set<number> | undefined;
  /** Keys of moved packs, by the key of the pack that their table is in. */
  #movedBy: Map<string, Set<string>> | undefined;

  constructor(state: LogState) {
    const parts = state as LogState & { [Each in Name]: Mutable<Collections[Each]> };
    this.seq = state.seq;
    this.hash = state.hash;
    this.backups = parts.backups;
    this.pinned = parts.pinned;
    this.heads = parts.heads;
    this.sessions = parts.sessions;
    this.fenced = parts.fenced;
    this.known = parts.known;
    this.condemned = parts.condemned;
    this.condemnedSessions = parts.condemnedSessions;
    this.relocations = parts.relocations;
    this.formerRelocations = parts.formerRelocations;
    this.quarantined = parts.quarantined;
    this.keySlots = parts.keySlots;
    this.removedSlots = parts.removedSlots;
  }

  /** The state, which is never changed again. */
  result(): LogState {
    const { seq, hash, backups, pinned, heads, sessions, fenced, known } = this;
    const { condemned, condemnedSessions, relocations, formerRelocations, quarantined } = this;
    const { keySlots, removedSlots } = this;
    const condemnation = { condemned, condemnedSessions, relocations, formerRelocations, quarantined };
    return { seq, hash, backups, pinned, heads, sessions, fenced, known, ...condemnation, keySlots, removedSlots };
  }

  /** Makes parts of the state this draft's own: only those may be changed. */
  *own(names: readonly Name[]): Steps<void> {
    for (const name of names) {
      if (this.#own.has(name)) continue;
      const part: ReadonlyMap<unknown, unknown> | ReadonlySet<string> = this[name];
      const copy = part instanceof Set ? yield* this.#copyOfSet(part) : yield* this.#copyOfMap(part as never);
      Object.assign(this, { [name]: copy });
      this.#own.add(name);
    }
  }

  /** Volumes and bases of the open sessions. */
  get open(): OpenSessions {
    this.#open ??= new OpenSessions(this.sessions.values());
    return this.#open;
  }

  addSession(session: Session): void {
    this.open.add(session);
    this.sessions.set(session.seq, session);
  }

  /** A session ends, and with it its pins. */
  endSession(seq: number): void {
    const session = this.sessions.get(seq);
    if (session === undefined) return;
    const released = this.open.remove(session);
    this.sessions.delete(seq);
    for (const id of released) {
      const backup = this.pinned.get(id);
      if (backup === undefined) continue;
      this.pinned.delete(id);
      this.#beginnings?.remove(backup);
    }
  }

  addBackup(backup: StoredBackup): void {
    this.backups.set(backup.id, backup);
    this.#beginnings?.add(backup);
  }

  forget(id: string): void {
    const backup = this.backups.get(id);
    this.backups.delete(id);
    if (backup === undefined) return;
    if (this.open.isPinned(id)) this.pinned.set(id, backup);
    else this.#beginnings?.remove(backup);
  }

  /** Where the marked backups begin. */
  *beginnings(): Steps<DescriptorPacks> {
    if (this.#beginnings !== undefined) return this.#beginnings;
    const beginnings = new DescriptorPacks();
    for (const marked of [this.backups, this.pinned]) {
      for (const backup of marked.values()) {
        if (this.steps.isDue()) yield;
        beginnings.add(backup);
      }
    }
    this.#beginnings = beginnings;
    return beginnings;
  }

  *addKnown(packs: readonly CommittedPack[]): Steps<void> {
    for (const { session, random } of packs) {
      if (this.steps.isDue()) yield;
      (yield* this.#knownOf(session)).packs.add(random);
    }
  }

  /** Tables say themselves whose packs they list, so they stand with every session whose packs that may be. */
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
   * For ever: nothing puts a name back (P7).
   *
   * @returns keys of packs that can't be reached any more, unless there is a new table for them; `undefined` for "look at
   * everything", because a table was among what was condemned
   */
  *condemn(packs: readonly PackName[], by: Condemnation): Steps<string[] | undefined> {
    const keys: string[] = [];
    const touched = new Set<number>();
    for (const { session, random } of packs) {
      if (this.steps.isDue()) yield;
      const key = packKey({ session, random });
      const known = yield* this.#knownOf(session);
      known.packs.delete(random);
      known.dead.add(random);
      this.condemned.set(key, { pack: { session, random }, ...by });
      this.quarantined.delete(key);
      // Who adopted the session now could not tell which of its packs are gone (P6).
      this.fenced.delete(session);
      touched.add(session);
      keys.push(key);
    }
    const hasLostTables = packs.length > 0 && (yield* this.#dropTables(touched));
    for (const session of touched) this.#tidy(session);
    const moved = yield* this.#dropRelocations(hasLostTables ? undefined : keys, by);
    return hasLostTables ? undefined : [...keys, ...moved];
  }

  *relocate(key: string, relocation: Relocation, by: Condemnation): Steps<void> {
    const movedBy = yield* this.#relocationsByHolder();
    const earlier = this.relocations.get(key);
    if (earlier !== undefined) {
      movedBy.get(packKey(earlier.location.pack))?.delete(key);
      this.#retire(key, by);
    }
    this.relocations.set(key, relocation);
    addTo(movedBy, packKey(relocation.location.pack), key);
  }

  /** The newest table of a pack is that no more. What it leads to is condemned by `by`, or as a whole was before. */
  #retire(key: string, by: Condemnation): void {
    const relocation = this.relocations.get(key) as Relocation;
    this.formerRelocations.set(key, [{ ...relocation, by }, ...(this.formerRelocations.get(key) ?? [])]);
    this.relocations.delete(key);
  }

  /** Tables that lay in a condemned pack list nothing any more. */
  *#dropTables(touched: Set<number>): Steps<boolean> {
    let hasLost = false;
    for (const session of yield* this.#sessionsWithTables()) {
      if (this.steps.isDue()) yield;
      const { tables } = this.known.get(session) as KnownPacks;
      const left = tables.filter(({ location }) => !this.condemned.has(packKey(location.pack)));
      if (left.length === tables.length) continue;
      (yield* this.#knownOf(session)).tables = left;
      touched.add(session);
      hasLost = true;
    }
    return hasLost;
  }

  /** Without a table the names themselves say what is known, and the dead need not be told apart. */
  #tidy(session: number): void {
    const known = this.#ownKnown.get(session);
    if (known === undefined || known.tables.length > 0) return;
    this.#tabled?.delete(session);
    known.dead.clear();
    if (known.packs.size > 0) return;
    this.known.delete(session);
    this.#ownKnown.delete(session);
  }

  /** @param holders - packs that may have held their tables; `undefined` for any */
  *#dropRelocations(holders: readonly string[] | undefined, by: Condemnation): Steps<string[]> {
    if (this.relocations.size === 0) return [];
    const movedBy = yield* this.#relocationsByHolder();
    const dropped: string[] = [];
    for (const holder of holders ?? [...movedBy.keys()]) {
      if (this.steps.isDue()) yield;
      const moved = movedBy.get(holder);
      const [first] = moved ?? [];
      if (moved === undefined || first === undefined) continue;
      if (isKnown(this, (this.relocations.get(first) as Relocation).location.pack)) continue;
      for (const key of moved) this.#retire(key, by);
      movedBy.delete(holder);
      dropped.push(...moved);
    }
    return dropped;
  }

  *#sessionsWithTables(): Steps<Set<number>> {
    if (this.#tabled !== undefined) return this.#tabled;
    const tabled = new Set<number>();
    for (const [session, { tables }] of this.known) {
      if (this.steps.isDue()) yield;
      if (tables.length > 0) tabled.add(session);
    }
    this.#tabled = tabled;
    return tabled;
  }

  *#relocationsByHolder(): Steps<Map<string, Set<string>>> {
    if (this.#movedBy !== undefined) return this.#movedBy;
    const movedBy = new Map<string, Set<string>>();
    for (const [key, { location }] of this.relocations) {
      if (this.steps.isDue()) yield;
      addTo(movedBy, packKey(location.pack), key);
    }
    this.#movedBy = movedBy;
    return movedBy;
  }

  /** The packs of a session, to be changed. */
  *#knownOf(session: number): Steps<OwnKnownPacks> {
    const own = this.#ownKnown.get(session);
    if (own !== undefined) return own;
    const { packs, tables, dead } = this.known.get(session) ?? NOTHING_KNOWN;
    const copy: OwnKnownPacks = {
      packs: yield* this.#copyOfSet(packs),
      tables: [...tables],
      dead: yield* this.#copyOfSet(dead),
    };
    this.known.set(session, copy);
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
