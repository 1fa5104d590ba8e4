import { hostname } from 'node:os';
import { hedgedHex } from '../../common/hedged-random.ts';
import { bootId, processNamespace, startOf } from '../../common/process-start.ts';
import type { LogState, Session } from '../format/log-state.ts';

/**
 * Who holds a session: a name, a process and its incarnation, so that what a dead process has left open is told from what a
 * living one holds. Fencing is always safe; this only decides whether it is tried without being asked for.
 *
 * As text: `name/process id/incarnation/start`, and the host's name at the end where `name` is one that the program chose.
 * Names are percent-encoded; `start` is the boot id, the process's start in ticks since then, and the namespace of process
 * ids, as far as the system reports them. A session's incarnation has a token behind it that only one attempt to open it has.
 */

/** A machine that is cloned while it runs has a process with the same one; see {@link becomeAnother}. */
let incarnation = newIncarnation(hostname());
/** Those that this process has had. */
const incarnations = new Set([incarnation]);
/** Tokens of sessions that this process has opened, or may have, also where the outcome was never learned; each for its number. */
const tried = new Map<string, { readonly repository: string; readonly seq: number }>();
/** Those of them that have ended, the oldest first: another reader of the same log, in this process, may be behind. */
const ended = new Set<string>();
/** So many of those are kept. A reader that is further behind takes the session for a living one until it looks. */
const MOST_ENDED = 1024;
/** Those of them whose `open` entry is on its way: the log may have it, and others may read it, before its own job learns of it. */
const opening = new Set<string>();
/** Sessions that jobs of this process hold now: repository id and number. */
const held = new Set<string>();

/**
 * - `own`: a job of this process holds it
 * - `alive`: another process of this host does
 * - `dead`: its process is gone, or holds it no more; it is taken over without being asked for
 * - `unknown`: of another host, or of another program
 *
 * @public
 */
export type SessionLiveness = 'own' | 'alive' | 'dead' | 'unknown';

/** An owner's text, read. */
export interface SessionOwner {
  /** What the program chose, or its host's name. */
  readonly name: string;
  readonly isNamed: boolean;
  readonly host: string;
  readonly processId: number;
  readonly incarnation: string;
  /** `undefined` where the system did not tell. */
  readonly start: string | undefined;
}

/** This process, as the `owner` of its sessions. @param name - what the program calls itself, wherever it runs */
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

  /** For the `open` entry that is decided on a state. Whoever asks again has lost the number that was tried before. */
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

  /** The session is held by now, or the try has failed: where it was opened all the same, nobody is behind it. */
  settle(): void {
    if (this.#token !== undefined) opening.delete(this.#token);
  }
}

/** A log that has passed a token's number, and shows no open session of it, will never show one. */
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

/** How many tokens are remembered. For tests. */
export function rememberedTokens(): number {
  return tried.size + ended.size;
}

function wasTried(token: string): boolean {
  return tried.has(token) || ended.has(token);
}

function tokenOf(owner: string): string {
  return parseOwner(owner)?.incarnation.split('.')[1] ?? '';
}

/** The host of an `owner`, or the name that its program has instead. */
export function hostOf(owner: string): string {
  return owner.split('/')[0] as string;
}

/** `undefined` for another program's owner. */
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

/**
 * Open sessions of which it is known that nobody is behind them any more.
 *
 * @param self - this process as the owner of its sessions
 */
export function deadSessions(state: LogState, repository: Uint8Array, self: string): number[] {
  const isDead = (session: Session) => livenessOf(session, repository, self) === 'dead';
  return [...state.sessions.values()].filter(isDead).map(({ seq }) => seq);
}

/** Whether this very process opened the session, and no job of it holds it any more. */
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
  // A program that names itself says that there is one of it at a time.
  if (they.isNamed && we?.isNamed === true && they.name === we.name) return 'dead';
  if (they.host !== hostname()) return 'unknown';
  // Containers may share a host name and don't see each other's processes. Programs of different names are different ones.
  const isAnother = they.name !== we?.name && !isVisible(they);
  return isAnother ? 'unknown' : isRunning(they) ? 'alive' : 'dead';
}

/** Whether this process would see the process of a session if it ran: it has the same boot and namespace of process ids. */
function isVisible({ start }: SessionOwner): boolean {
  const [boot, , namespace] = start?.split(':') ?? [];
  return boot === bootId() && (namespace || undefined) === processNamespace();
}

/**
 * A session of one's own incarnation that one did not open: a copy of this process is running, or has run. It must not be
 * taken for a session that this process has left behind; and from now on the two have different incarnations.
 */
function becomeAnother(owner: string): void {
  incarnation = newIncarnation(owner);
  incarnations.add(incarnation);
}

function newIncarnation(...what: string[]): string {
  return hedgedHex(8, undefined, ...what, process.pid, Date.now(), String(process.hrtime.bigint()));
}

/** Whether a process of this host is the very one that a session names, and not a later one under its number. */
function isRunning({ processId, start }: SessionOwner): boolean {
  const boot = bootId();
  if (start !== undefined && boot !== undefined) {
    if (!start.startsWith(`${boot}:`)) return false; // The machine has been started anew.
    const ticks = startOf(processId);
    if (ticks !== undefined) return start.split(':')[1] === ticks;
  } else if (processId === process.pid) return false; // This process has its number now.
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
