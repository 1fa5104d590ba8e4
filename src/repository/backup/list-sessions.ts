import type { AbortOptions } from '../../common/abort.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import type { LogState, Session } from '../format/log-state.ts';
import { decideAbort, endedSession } from '../log/entries/sessions.ts';
import { livenessOf, parseOwner, type SessionLiveness } from './session-owner.ts';

/** A backup, or a group of them, that is under way somewhere; or a prune that is repacking. @public */
export interface SessionInfo {
  /** The number by which it can be ended. */
  readonly seq: number;
  /** What its program calls itself (`owner` of `OpenOptions`), or the name of its host. */
  readonly owner: string;
  /** `undefined` where another program opened it. */
  readonly host: string | undefined;
  readonly processId: number | undefined;
  /** Names of the volumes that it holds; none for a prune. */
  readonly volumes: readonly string[];
  /** By the clock of its host. */
  readonly openedAt: Date;
  /** What this process knows of who holds it. */
  readonly liveness: SessionLiveness;
}

/** The open sessions of a state, the oldest first. */
export function sessionsOf({ format, owner }: RepositoryContext, state: LogState): SessionInfo[] {
  return [...state.sessions.values()].map((session) => {
    const parsed = parseOwner(session.owner);
    return {
      seq: session.seq,
      owner: parsed?.name ?? session.owner,
      host: parsed?.host,
      processId: parsed?.processId,
      volumes: [...session.volumes.keys()],
      openedAt: new Date(session.at),
      liveness: livenessOf(session, format.repositoryId, owner),
    };
  });
}

/** Ends a session of any host: it can't commit any more. @throws `SESSION_ENDED`, and what the log gives */
export async function endSession(
  { log, target }: RepositoryContext,
  seq: number,
  options: AbortOptions,
): Promise<void> {
  const decide = (state: LogState) => decideAbort(state, seq) ?? endedSession(state, seq);
  const ended = await appendInLittleRoom({ log, target }, decide, options);
  if (ended === undefined) throw endedSession(log.state, seq);
}

/** For messages: who holds a session, and for how long by the clocks of two hosts. */
export function holderText(session: Session, now: number): string {
  const parsed = parseOwner(session.owner);
  const who = parsed === undefined ? JSON.stringify(session.owner) : `${JSON.stringify(parsed.name)}`;
  const where = parsed === undefined ? '' : ` (process ${parsed.processId} of host ${JSON.stringify(parsed.host)})`;
  const since = new Date(session.at).toISOString();
  return `session ${session.seq} of ${who}${where}, open since ${since}, ${ageText(now - session.at)} ago`;
}

function ageText(ms: number): string {
  const minutes = Math.max(0, Math.round(ms / 60_000));
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 60 / 24)} days`;
}
