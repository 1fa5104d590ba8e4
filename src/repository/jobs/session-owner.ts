import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { LogState, Session } from '../log/log-state.ts';

/**
 * Who holds a session: host, process and an incarnation, so that what a dead process has left open is told from what a
 * living one holds. Fencing is always safe; this only decides whether it is tried without being asked for.
 */

const INCARNATION = randomBytes(8).toString('hex');
/** Sessions that jobs of this process hold now: repository id and number. */
const held = new Set<string>();

/** This process, as the `owner` of its sessions. */
export function ownerName(): string {
  return `${hostname()}/${process.pid}/${INCARNATION}`;
}

/** The host of an `owner`. */
export function hostOf(owner: string): string {
  return owner.split('/')[0] as string;
}

export function holdSession(repository: Uint8Array, session: number): void {
  held.add(heldKey(repository, session));
}

export function dropSession(repository: Uint8Array, session: number): void {
  held.delete(heldKey(repository, session));
}

/** Open sessions of which it is known that nobody is behind them any more. */
export function deadSessions(state: LogState, repository: Uint8Array): number[] {
  const isDead = ({ seq, owner }: Session) => {
    const [host, pid, incarnation] = owner.split('/');
    if (incarnation === INCARNATION) return !held.has(heldKey(repository, seq));
    return host === hostname() && !isRunning(Number(pid));
  };
  return [...state.sessions.values()].filter(isDead).map(({ seq }) => seq);
}

function isRunning(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return true; // Another program's owner: nothing is known of it.
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function heldKey(repository: Uint8Array, session: number): string {
  return `${Buffer.from(repository).toString('hex')}/${session}`;
}
