import type { Anchor } from './anchors.ts';
import { type CataloguePages, idRange, mayHold, NO_PAGES, packRange, volumeRange } from './catalogue-pages.ts';
import type { BackupRecord, Floor, PackRecord, PackTable, Relocation } from './log-entry.ts';
import { packKey } from './object-keys.ts';
import type { PackName } from './record.ts';

/**
 * What is true after the log through one number: the fold of its entries. Nothing here is ever changed; `fold.ts` makes
 * the next one.
 *
 * Everything that a commit may rest on is known positively (P4, P6: "known", not "not condemned"): a session or a pack
 * that the state does not name can't be used, so names of what was deleted long ago need not be carried.
 *
 * A large state is in parts (decision 143): `pages` lists pages of backups and of known packs, which are read when they are
 * needed. Everything else of it is here. A state whose pages were all taken in is the same state: `log/pages/take-in.ts`.
 */
export interface LogState {
  /** Entries folded. */
  readonly seq: number;
  /** The hash of entry `seq`; zeroes before the first. */
  readonly hash: Uint8Array;
  /** The newest one that a collection has set. Entries up to it, and checkpoints below it, mean nothing any more (L1). */
  readonly floor: Floor | undefined;
  /** Hashes of old entries, newest first, by which a position is recognised below the floor (L7). */
  readonly anchors: readonly Anchor[];
  /** The pages that hold the rest of `backups`, `heads` and `known`. */
  readonly pages: CataloguePages;
  /** Backups that are not forgotten, by id, the oldest first: those that are in no page. */
  readonly backups: ReadonlyMap<string, StoredBackup>;
  /** Forgotten backups that an open session has pinned as its base (P3). */
  readonly pinned: ReadonlyMap<string, StoredBackup>;
  /** The newest backup of each volume, even a forgotten one, unless it is in a page. */
  readonly heads: ReadonlyMap<string, Head>;
  /** Ids of backups that were forgotten, and are in a page. */
  readonly forgotten: ReadonlySet<string>;
  /** Holds that are newer than the page that has the backup; `undefined` for one that was released. */
  readonly holds: ReadonlyMap<string, BackupHold | undefined>;
  /** The open sessions, by number. */
  readonly sessions: ReadonlyMap<number, Session>;
  /** Sessions that are fenced and not condemned: they may still be adopted (P6). */
  readonly fenced: ReadonlyMap<number, Session>;
  /** By session: its packs that a commit or a repacker's collection made known and that are not condemned. */
  readonly known: ReadonlyMap<number, KnownPacks>;
  /** Packs by key that are condemned and may still be there. */
  readonly condemned: ReadonlyMap<string, CondemnedPack>;
  /** The highest number of a collection of which anything that it condemned is gone. */
  readonly goneThrough: number;
  /** Sessions of which every pack that is not known is condemned. */
  readonly condemnedSessions: ReadonlyMap<number, Condemnation>;
  /** By the key of the condemned pack: its newest table. */
  readonly relocations: ReadonlyMap<string, Relocation>;
  /**
   * By the key of the condemned pack: tables of it that a collection replaced or ended, the newest first. They lead to what that
   * collection condemned, so they stay while any of it may be there, for readers that have a forgotten backup open.
   */
  readonly formerRelocations: ReadonlyMap<string, readonly FormerRelocation[]>;
  /** Packs by key that deduplication does not refer to (P10). */
  readonly quarantined: ReadonlyMap<string, PackName>;
  /** Key slots that an entry added and none removed. `format` names the one that the repository was made with. */
  readonly keySlots: ReadonlySet<string>;
  /** Key slots that an entry removed permanently: their objects may be there still. */
  readonly removedSlots: ReadonlySet<string>;
  /** What a program must know to write, as entries say. `format` may name more. */
  readonly features: ReadonlySet<string>;
  /** The same to read. */
  readonly readerFeatures: ReadonlySet<string>;
}

/** The newest backup of a volume. */
export interface Head {
  readonly id: string;
  /** Number of the entry that committed it. */
  readonly seq: number;
}

/** A backup and the entry that committed it. */
export interface StoredBackup extends BackupRecord {
  /** Number of that entry: the one order of backups that does not rest on clocks. */
  readonly seq: number;
  /** Milliseconds since 1970 by the clock of the host that committed it. */
  readonly committedAt: number;
  readonly session: number;
  /** There while the backup is held and can't be forgotten. */
  readonly hold?: BackupHold | undefined;
}

/** Why a backup must not be forgotten, and since when. */
export interface BackupHold {
  /** Milliseconds since 1970 by the clock of the host that held it; informational. */
  readonly at: number;
  readonly reason: string | undefined;
}

/** A session, as its `open` entry has it. */
export interface Session {
  /** Number of its `open` entry. */
  readonly seq: number;
  /** The hash of that entry: a number that was deleted is free again, so the number alone is no name (L6). */
  readonly hash: Uint8Array;
  /** Milliseconds since 1970 by its owner's clock. */
  readonly at: number;
  readonly owner: string;
  /** By volume: the pinned base. */
  readonly volumes: ReadonlyMap<string, string | undefined>;
  readonly adopted: readonly number[];
  /** The collection from which its age counts, where its own time could not be used. */
  readonly dated?: EntryTime | undefined;
  /** The entry that fenced the session, and the owner of that entry's session; a collection has no owner. */
  readonly fencedBy?: (EntryTime & { readonly owner: string | undefined }) | undefined;
}

/** An entry and its writer's time. */
export interface EntryTime {
  readonly seq: number;
  readonly at: number;
}

/** Packs of one session. */
export interface KnownPacks {
  /** Packs that an entry listed, by name, unless they are in a page. */
  readonly packs: ReadonlyMap<string, PackFacts>;
  /**
   * Tables that list more, perhaps together with other sessions' packs. They hold as long as the packs that they
   * themselves lie in are not condemned.
   */
  readonly tables: readonly PackTable[];
  /** Condemned ones that a table or a page may list. */
  readonly dead: ReadonlySet<string>;
}

/** What is known of the packs of a session that no entry has named. */
export const NOTHING_KNOWN: KnownPacks = { packs: new Map(), tables: [], dead: new Set() };

/** What the log says of a pack. */
export type PackFacts = Pick<PackRecord, 'size' | 'sha256'>;

/** The `collect` entry that condemned something, or a later one from which its age counts. Only the grace period uses it. */
export interface Condemnation extends EntryTime {}

export interface CondemnedPack extends Condemnation {
  readonly pack: PackName;
}

/** A table that is out of date. */
export interface FormerRelocation extends Relocation {
  /** The collection that replaced or ended it, as {@link Condemnation}. */
  readonly by: Condemnation;
}

/** Before the first entry. */
export const EMPTY_STATE: LogState = {
  seq: 0,
  hash: new Uint8Array(32),
  floor: undefined,
  anchors: [],
  pages: NO_PAGES,
  backups: new Map(),
  pinned: new Map(),
  heads: new Map(),
  forgotten: new Set(),
  holds: new Map(),
  sessions: new Map(),
  fenced: new Map(),
  known: new Map(),
  condemned: new Map(),
  goneThrough: 0,
  condemnedSessions: new Map(),
  relocations: new Map(),
  formerRelocations: new Map(),
  quarantined: new Map(),
  keySlots: new Set(),
  removedSlots: new Set(),
  features: new Set(),
  readerFeatures: new Set(),
};

type Packs = Pick<LogState, 'known' | 'pages'>;

/**
 * P4: whether a commit or a collection made the pack known, and none condemned it. Where its session's packs are listed
 * in tables, the name must come from a table or a committed map: any other name seems known too.
 */
export function isKnown(state: Packs, pack: PackName): boolean {
  // @mutation pages-are-taken-in
  if (mayBeKnown(state, pack) === undefined) throw notTakenIn(`pack ${packKey(pack)}`);
  return mayBeKnown(state, pack) === true;
}

/** As {@link isKnown}; `undefined` if a page has to be read to tell. What an entry says of such a pack is its author's duty. */
export function mayBeKnown({ known, pages }: Packs, { session, random }: PackName): boolean | undefined {
  const ofSession = known.get(session);
  if (ofSession?.dead.has(random)) return false;
  if (ofSession !== undefined && (ofSession.packs.has(random) || ofSession.tables.length > 0)) return true;
  return mayHold(pages.packs, packRange(session, random)) ? undefined : false;
}

type Backups = Pick<LogState, 'backups' | 'heads' | 'forgotten' | 'pages'>;

/** A backup that is not forgotten. */
export function backupOf(state: Omit<Backups, 'heads'>, id: string): StoredBackup | undefined {
  if (mayHave(state, id) === undefined) throw notTakenIn(`backup ${id}`);
  return state.backups.get(id);
}

/** Whether a backup is there that is not forgotten; `undefined` if a page has to be read to tell. */
export function mayHave({ backups, forgotten, pages }: Omit<Backups, 'heads'>, id: string): boolean | undefined {
  if (backups.has(id)) return true;
  return !forgotten.has(id) && mayHold(pages.backups, idRange(id)) ? undefined : false;
}

/** The newest backup of a volume, even a forgotten one. */
export function headOf(state: Pick<Backups, 'heads' | 'pages'>, volume: string): Head | undefined {
  const head = state.heads.get(volume);
  if (head === undefined && mayHold(state.pages.backups, volumeRange(volume))) throw notTakenIn(`volume ${volume}`);
  return head;
}

/** Whether pages that were not read may have backups of the volume. */
export function hasPagesOf({ pages }: Pick<LogState, 'pages'>, volume: string): boolean {
  return mayHold(pages.backups, volumeRange(volume));
}

/** This is a fault of this program and not of the log: it has to take in the pages that it asks about. */
function notTakenIn(what: string): Error {
  return new Error(`the page of the catalogue that may have ${what} was not taken in`);
}

/** What condemned the pack, if anything did: by its name, or as one of its session that is not known. */
export function condemnationOf(
  state: Pick<LogState, 'known' | 'pages' | 'condemned' | 'condemnedSessions'>,
  pack: PackName,
): Condemnation | undefined {
  const byName = state.condemned.get(packKey(pack));
  if (byName !== undefined) return byName;
  const bySession = state.condemnedSessions.get(pack.session);
  return bySession === undefined || isKnown(state, pack) ? undefined : bySession;
}

/** As {@link condemnationOf}, without reading pages: a pack that may be condemned counts as one that is. */
export function mayBeCondemned(
  state: Pick<LogState, 'known' | 'pages' | 'condemned' | 'condemnedSessions'>,
  pack: PackName,
): boolean {
  if (state.condemned.has(packKey(pack))) return true;
  return state.condemnedSessions.has(pack.session) && mayBeKnown(state, pack) !== true;
}

/** P10: whether dedup may refer to a pack that was known earlier. The commit makes sure that it still is. */
export function mayDedup(state: LogState, pack: PackName): boolean {
  // @mutation dedup-knows-the-pack
  return mayBeKnown(state, pack) !== false && !state.quarantined.has(packKey(pack));
}

/** The number of the floor, up to which entries mean nothing any more; 0 if there is none, because nothing was ever deleted. */
export function floorSeq({ floor }: Pick<LogState, 'floor'>): number {
  return floor?.seq ?? 0;
}

/** How the process that opened a session names it. */
export type SessionName = Pick<Session, 'seq' | 'hash'>;

/** The session among open or fenced ones; another session of the same number is not it (L6). */
export function sessionIn(sessions: ReadonlyMap<number, Session>, { seq, hash }: SessionName): Session | undefined {
  const session = sessions.get(seq);
  // @mutation session-has-its-hash
  return session !== undefined && Buffer.compare(session.hash, hash) === 0 ? session : undefined;
}

/** The session itself and those whose packs it may use. */
export function ownSessions(session: Session): ReadonlySet<number> {
  return new Set([session.seq, ...session.adopted]);
}

/** P7: sessions whose packs collectors leave alone: open ones and those that they adopted. */
export function sparedSessions(state: Pick<LogState, 'sessions'>): Set<number> {
  // @mutation open-sessions-are-spared
  return new Set([...state.sessions.values()].flatMap((session) => [session.seq, ...session.adopted]));
}

/** Ids of the bases that open sessions have pinned. */
export function pinnedIds(sessions: Iterable<Session>): Set<string> {
  const ids = new Set<string>();
  for (const { volumes } of sessions) for (const base of volumes.values()) if (base !== undefined) ids.add(base);
  return ids;
}

/** P3, P7: every backup whose map a collector marks: those that are not forgotten, and the bases of open sessions. */
export function markedBackups(state: LogState): StoredBackup[] {
  // @mutation pinned-bases-are-marked
  return [...state.backups.values(), ...state.pinned.values()];
}
