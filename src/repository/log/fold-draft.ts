import { type PackName, packKey } from '../records/record.ts';
import type { CommittedPack, PackTable, Relocation } from './log-entry.ts';
import {
  type Condemnation,
  type CondemnedPack,
  isKnown,
  type KnownPacks,
  type LogState,
  pinnedIds,
  type Session,
  type StoredBackup,
} from './log-state.ts';

const NOTHING_KNOWN: KnownPacks = { packs: new Set(), tables: [], dead: new Set() };

/** A state while entries are folded into it: copied once, however many entries there are. */
export class FoldDraft implements LogState {
  seq: number;
  hash: Uint8Array;
  readonly backups: Map<string, StoredBackup>;
  readonly pinned: Map<string, StoredBackup>;
  readonly heads: Map<string, string>;
  readonly sessions: Map<number, Session>;
  readonly fenced: Map<number, Session>;
  readonly known: Map<number, KnownPacks>;
  readonly condemned: Map<string, CondemnedPack>;
  readonly condemnedSessions: Map<number, Condemnation>;
  readonly relocations: Map<string, Relocation>;
  readonly quarantined: Map<string, PackName>;
  readonly removedSlots: Set<string>;

  constructor(state: LogState) {
    this.seq = state.seq;
    this.hash = state.hash;
    this.backups = new Map(state.backups);
    this.pinned = new Map(state.pinned);
    this.heads = new Map(state.heads);
    this.sessions = new Map(state.sessions);
    this.fenced = new Map(state.fenced);
    this.known = new Map(state.known);
    this.condemned = new Map(state.condemned);
    this.condemnedSessions = new Map(state.condemnedSessions);
    this.relocations = new Map(state.relocations);
    this.quarantined = new Map(state.quarantined);
    this.removedSlots = new Set(state.removedSlots);
  }

  /** A session ends, and with it its pins. */
  endSession(seq: number): void {
    this.sessions.delete(seq);
    if (this.pinned.size === 0) return;
    const needed = pinnedIds(this.sessions.values());
    for (const id of this.pinned.keys()) if (!needed.has(id)) this.pinned.delete(id);
  }

  forget(id: string): void {
    const backup = this.backups.get(id);
    this.backups.delete(id);
    if (backup !== undefined && pinnedIds(this.sessions.values()).has(id)) this.pinned.set(id, backup);
  }

  addKnown(packs: readonly CommittedPack[]): void {
    const bySession = Map.groupBy(packs, (pack) => pack.session);
    for (const [session, added] of bySession) {
      const known = this.known.get(session) ?? NOTHING_KNOWN;
      const names = new Set(known.packs);
      for (const { random } of added) names.add(random);
      this.known.set(session, { ...known, packs: names });
    }
  }

  /** Tables say themselves whose packs they list, so they stand with every session whose packs that may be. */
  addTables(sessions: Iterable<number>, tables: readonly PackTable[]): void {
    if (tables.length === 0) return;
    for (const session of sessions) {
      const known = this.known.get(session) ?? NOTHING_KNOWN;
      this.known.set(session, { ...known, tables: [...known.tables, ...tables] });
    }
  }

  /** For ever: nothing puts a name back (P7). */
  condemn(packs: readonly PackName[], by: Condemnation): void {
    for (const pack of packs) {
      const key = packKey(pack);
      const known = this.known.get(pack.session) ?? NOTHING_KNOWN;
      const names = new Set(known.packs);
      names.delete(pack.random);
      this.known.set(pack.session, { ...known, packs: names, dead: new Set(known.dead).add(pack.random) });
      this.condemned.set(key, { pack: { session: pack.session, random: pack.random }, ...by });
      this.quarantined.delete(key);
      // Who adopted the session now could not tell which of its packs are gone (P6).
      this.fenced.delete(pack.session);
    }
    if (packs.length > 0) this.#dropWhatLayInCondemned();
  }

  #dropWhatLayInCondemned(): void {
    for (const [session, known] of this.known) {
      const tables = known.tables.filter(({ location }) => !this.condemned.has(packKey(location.pack)));
      if (tables.length > 0) this.known.set(session, { ...known, tables });
      // Without a table the names themselves say what is known, and the dead need not be told apart.
      else if (known.packs.size > 0) this.known.set(session, { ...known, tables, dead: NOTHING_KNOWN.dead });
      else this.known.delete(session);
    }
    for (const [key, { location }] of this.relocations) {
      if (!isKnown(this, location.pack)) this.relocations.delete(key);
    }
  }
}
