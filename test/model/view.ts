/** The log folded: what anybody knows who has replayed it through one number. */
import type { BackupSpec, Entry, Move } from './log.ts';
import { MAX_SESSIONS, PACKS_A_SESSION, packOf, sessionOf } from './objects.ts';

export interface Session {
  readonly state: 'open' | 'committed' | 'aborted' | 'fenced';
  readonly who: number;
  readonly volumes: readonly number[];
  /** Per volume the pinned base, 0 for none; and the head when it was opened. */
  readonly bases: readonly number[];
  readonly parents: readonly number[];
  readonly adopted: readonly number[];
}

export interface Backup extends BackupSpec {
  readonly id: number;
  readonly session: number;
  readonly isLive: boolean;
}

export interface View {
  readonly sessions: readonly (Session | undefined)[];
  readonly backups: readonly Backup[];
  /** Per volume the newest backup, also a forgotten one; 0 for none. */
  readonly heads: readonly number[];
  readonly known: Uint8Array;
  readonly condemned: Uint8Array;
  readonly condemnedSessions: Uint8Array;
  /** What only the newest collection named: all that is left where a fold drops what is long deleted. */
  readonly lastCondemned: readonly number[];
  readonly lastCondemnedSessions: readonly number[];
  readonly moves: ReadonlyMap<number, Move>;
  /** What the log itself shows to be wrong, by invariant. */
  readonly faults: readonly string[];
}

export function genesisView(volumes: number): View {
  return {
    sessions: [],
    backups: [],
    heads: new Array<number>(volumes).fill(0),
    known: new Uint8Array(MAX_SESSIONS * PACKS_A_SESSION),
    condemned: new Uint8Array(MAX_SESSIONS * PACKS_A_SESSION),
    condemnedSessions: new Uint8Array(MAX_SESSIONS),
    lastCondemned: [],
    lastCondemnedSessions: [],
    moves: new Map(),
    faults: [],
  };
}

export const isCondemned = (view: View, pack: number): boolean =>
  view.condemned[pack] === 1 || (view.condemnedSessions[sessionOf(pack)] === 1 && view.known[pack] === 0);

/** Where a place is to be read: itself, or one look into a table. Undefined when it is not known. */
export function resolve(view: View, at: number): { at: number; table: number } | undefined {
  if (view.known[packOf(at)]) return { at, table: -1 };
  const move = view.moves.get(at);
  if (!move || !view.known[move.table] || !view.known[packOf(move.to)]) return undefined;
  return { at: move.to, table: move.table };
}

export const backupOf = (view: View, id: number): Backup | undefined => view.backups.find((b) => b.id === id);

export const placesOf = (backup: BackupSpec): number[] => [...backup.items, ...backup.closure];

export function openSessions(view: View): number[] {
  return view.sessions.flatMap((session, number) => (session?.state === 'open' ? [number] : []));
}

/** The session itself and those whose packs it may use. */
export const ownSessions = (view: View, session: number): number[] => [
  session,
  ...(view.sessions[session]?.adopted ?? []),
];

export function fold(view: View, entry: Entry, sequence: number): View {
  switch (entry.type) {
    case 'open': {
      const { who, volumes, bases, adopted } = entry;
      const parents = volumes.map((volume) => view.heads[volume]!);
      const sessions = ended(view.sessions, entry.fenced, 'fenced');
      sessions[sequence] = { state: 'open', who, volumes, bases, parents, adopted };
      return { ...view, sessions };
    }
    case 'commit':
      return foldCommit(view, entry, sequence);
    case 'abort':
      return { ...view, sessions: ended(view.sessions, [entry.session], 'aborted') };
    case 'forget': {
      const backups = view.backups.map((b) => (entry.backups.includes(b.id) ? { ...b, isLive: false } : b));
      return { ...view, backups };
    }
    case 'collect':
      return foldCollect(view, entry);
    case 'hole':
      return { ...view, faults: [...view.faults, `I2: number ${sequence} was left empty`] };
  }
}

function ended(sessions: View['sessions'], numbers: readonly number[], state: Session['state']) {
  const changed = [...sessions];
  for (const number of numbers) {
    const session = changed[number];
    if (session?.state === 'open') changed[number] = { ...session, state };
  }
  return changed;
}

function foldCommit(view: View, entry: Entry & { type: 'commit' }, sequence: number): View {
  const faults = [...view.faults];
  const session = view.sessions[entry.session];
  if (session && session.state !== 'open')
    faults.push(`I4: session ${entry.session} was ${session.state}, and commits`);
  if (session && entry.backups.length < session.volumes.length) faults.push('I7: a part of a group was committed');
  const backups = [...view.backups];
  const heads = [...view.heads];
  for (const [index, spec] of entry.backups.entries()) {
    if (backups.some((b) => b.volume === spec.volume && b.parent === spec.parent)) {
      faults.push(`I3: backup ${spec.parent} of volume ${spec.volume} has two children`);
    }
    const id = sequence * 4 + index;
    backups.push({ ...spec, id, session: entry.session, isLive: true });
    heads[spec.volume] = id;
  }
  const known = view.known.slice();
  for (const pack of entry.packs) known[pack] = 1;
  const sessions = entry.partial ? view.sessions : ended(view.sessions, [entry.session], 'committed');
  return { ...view, backups, heads, known, sessions, faults };
}

function foldCollect(view: View, entry: Entry & { type: 'collect' }): View {
  const known = view.known.slice();
  const condemned = view.condemned.slice();
  const condemnedSessions = view.condemnedSessions.slice();
  const moves = new Map(view.moves);
  for (const pack of entry.newPacks) known[pack] = 1;
  for (const move of entry.moves) moves.set(move.from, move);
  for (const pack of entry.packs) {
    known[pack] = 0;
    condemned[pack] = 1;
  }
  for (const session of entry.sessions) condemnedSessions[session] = 1;
  const sessions = ended(ended(view.sessions, entry.fenced, 'fenced'), [entry.session], 'committed');
  return {
    ...view,
    sessions,
    known,
    condemned,
    condemnedSessions,
    moves,
    lastCondemned: entry.packs,
    lastCondemnedSessions: entry.sessions,
  };
}
