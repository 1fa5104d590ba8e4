import { hostname } from 'node:os';
import { hedgedHex } from '../../common/hedged-random.ts';
import { bootId, processNamespace, startOf } from '../../common/process-start.ts';
import type { LogState, Session } from '../format/log-state.ts';

/**
 * The owner of a session: a name, a process and its incarnation. It distinguishes sessions that a dead process has left open
 * from those that a running process holds. Fencing is always safe; the owner only decides whether a session is fenced
 * without being asked for (decision 034).
 *
 * In the log an owner is the text `name/process id/incarnation/start`, followed by `/host` if the program chose the name.
 * Names are percent-encoded. `start` is the boot id, the start of the process in ticks since then, and the namespace of
 * process ids, if the system reports them. The incarnation of a session ends in a token that belongs to one attempt to open it.
 */

/** A machine that was cloned while running has a process with the same incarnation: see {@link becomeAnother}. */
let incarnation = newIncarnation(hostname());
/** All incarnations that this process has had. */
const incarnations = new Set([incarnation]);
/** Tokens of sessions that this process has opened, or may have opened if the outcome was not learned, with their numbers. */
const tried = new Map<string, { readonly repository: string; readonly seq: number }>();
/** Tokens of ended sessions, oldest first: another reader of the same log in this process may not have seen the end yet. */
const ended = new Set<string>();
/** How many of those are kept. A reader that is further behind takes the session for a running one until it looks. */
const MOST_ENDED = 1024;
/** Tokens whose `open` entry is under way: other readers may see it in the log before the job that sent it does. */
const opening = new Set<string>();
/** Sessions that jobs of this process hold now, as repository id and number. */
const held = new Set<string>();

/**
 * - `own`: a job of this process holds the session
 * - `alive`: another running process of this host holds it
 * - `dead`: its process has ended or does not hold it any more; the next backup of the volume takes it over
 * - `unknown`: it belongs to another host or another program, so this process can't know
 *
 * @public
 */
export type SessionLiveness = 'own' | 'alive' | 'dead' | 'unknown';

/** A parsed owner. */
export interface SessionOwner {
  /** The name that the program chose, or the name of its host. */
  readonly name: string;
  readonly isNamed: boolean;
  readonly host: string;
  readonly processId: number;
  readonly incarnation: string;
  /** `undefined` if the system did not report it. */
  readonly start: string | undefined;
}

/** This process as the `owner` of its sessions. @param name - a name that the program has chosen, on any host */
export function ownerName(name?: string): string {
  const host = encodeURIComponent(hostname());
  const ticks = startOf(process.pid);
  const boot = bootId();
  const start = ticks === undefined || boot === undefined ? '' : [boot, ticks, processNamespace() ?? ''].join(':');
  const process_ = `${process.pid}/${incarnation}/${start}`;
  return name === undefined ? `${host}/${process_}` : `${encodeURIComponent(name)}/${process_}/${host}`;
}

/** The owner of a session that is about to be opened. */
export class SessionClaim {
  readonly #self: string;
  readonly #repository: string;
  #token: string | undefined;

  /** @param self - this process as the owner of its sessions */
  constructor(self: string, repository: Uint8Array) {
    this.#self = self;
    this.#repository = Buffer.from(repository).toString('hex');
  }

  /** The owner for an `open` entry that is decided on a state. A repeated call means that the number before was lost. */
  ownerOn(state: Pick<LogState, 'seq' | 'hash' | 'sessions'>): string {
    const { seq, hash } = state;
    if (this.#token !== undefined) tried.delete(this.#token);
    this.settle();
    forgetEnded(this.#repository, state);
    this.#token = hedgedHex(8, undefined, 'session', seq, hash);
    tried.set(this.#token, { repository: this.#repository, seq: seq + 1 });
    opening.add(this.#token);
    const [name, pid, , ...rest] = this.#self.split('/');
    return [name, pid, `${incarnation}.${this.#token}`, ...rest].join('/');
  }

  /** The session is held now, or the attempt has failed. If its entry arrives all the same, no job holds that session. */
  settle(): void {
    if (this.#token !== undefined) opening.delete(this.#token);
  }
}

/** Forgets tokens whose number the log has passed without an open session of them: they will never have one. */
function forgetEnded(repository: string, { seq, sessions }: Pick<LogState, 'seq' | 'sessions'>): void {
  const open = new Set([...sessions.values()].map(({ owner }) => tokenOf(owner)));
  for (const [token, of] of tried) {
    if (of.repository !== repository || of.seq > seq || open.has(token) || opening.has(token)) continue;
    tried.delete(token);
    ended.add(token);
  }
  for (const oldest of ended) {
    if (ended.size <= MOST_ENDED) break;
    ended.delete(oldest);
  }
}

function wasTried(token: string): boolean {
  return tried.has(token) || ended.has(token);
}

function tokenOf(owner: string): string {
  return parseOwner(owner)?.incarnation.split('.')[1] ?? '';
}

/** `undefined` for an owner that another program has written in another form. */
export function parseOwner(owner: string): SessionOwner | undefined {
  const [name = '', pid = '', incarnation = '', start = '', host] = owner.split('/');
  const processId = Number(pid);
  if (!Number.isSafeInteger(processId) || processId <= 0 || incarnation === '') return undefined;
  try {
    return {
      name: decodeURIComponent(name),
      isNamed: host !== undefined,
      host: decodeURIComponent(host ?? name),
      processId,
      incarnation,
      start: start === '' ? undefined : start,
    };
  } catch {
    return undefined;
  }
}

export function holdSession(repository: Uint8Array, session: number): void {
  held.add(heldKey(repository, session));
}

export function dropSession(repository: Uint8Array, session: number): void {
  held.delete(heldKey(repository, session));
}

/** Open sessions that are known not to be held by any process any more. */
export function deadSessions(state: LogState, repository: Uint8Array, self: string): number[] {
  const isDead = (session: Session) => livenessOf(session, repository, self) === 'dead';
  return [...state.sessions.values()].filter(isDead).map(({ seq }) => seq);
}

/** Whether this process opened the session and none of its jobs holds it any more. */
export function isForsaken({ seq, owner }: Session, repository: Uint8Array): boolean {
  const token = tokenOf(owner);
  return wasTried(token) && !opening.has(token) && !held.has(heldKey(repository, seq));
}

export function livenessOf(session: Session, repository: Uint8Array, self: string): SessionLiveness {
  const { owner } = session;
  const [they, we] = [parseOwner(owner), parseOwner(self)];
  if (they === undefined) return 'unknown';
  const [incarnationOf] = they.incarnation.split('.') as [string, string?];
  if (wasTried(tokenOf(owner))) return isForsaken(session, repository) ? 'dead' : 'own';
  if (incarnations.has(incarnationOf)) becomeAnother(owner);
  // A program that chooses a name promises that only one process uses it at a time.
  if (they.isNamed && we?.isNamed === true && they.name === we.name) return 'dead';
  if (they.host !== hostname()) return 'unknown';
  // Containers may share a host name without seeing each other's processes. Different names mean different programs.
  const isAnother = they.name !== we?.name && !isVisible(they);
  return isAnother ? 'unknown' : isRunning(they) ? 'alive' : 'dead';
}

/** Whether this process could see the owner if it ran: both have the same boot id and namespace of process ids. */
function isVisible({ start }: SessionOwner): boolean {
  const [boot, , namespace] = start?.split(':') ?? [];
  return boot === bootId() && (namespace || undefined) === processNamespace();
}

/**
 * Takes a new incarnation, because a session has that of this process although this process did not open it: there is, or was, a
 * clone of this process. The clone's session must not be taken for one that this process has left open.
 */
function becomeAnother(owner: string): void {
  incarnation = newIncarnation(owner);
  incarnations.add(incarnation);
}

function newIncarnation(...what: string[]): string {
  return hedgedHex(8, undefined, ...what, process.pid, Date.now(), String(process.hrtime.bigint()));
}

/** Whether the process that a session names is running on this host, and not a later one with the same process id. */
function isRunning({ processId, start }: SessionOwner): boolean {
  const boot = bootId();
  if (start !== undefined && boot !== undefined) {
    if (!start.startsWith(`${boot}:`)) return false; // The machine has been restarted.
    const ticks = startOf(processId);
    if (ticks !== undefined) return start.split(':')[1] === ticks;
  } else if (processId === process.pid) return false; // This process has its process id now.
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function heldKey(repository: Uint8Array, session: number): string {
  return `${Buffer.from(repository).toString('hex')}/${session}`;
}
