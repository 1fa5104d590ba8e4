import type { AbortOptions } from '../../common/abort.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import type { LogState, Session } from '../format/log-state.ts';
import { decideAbort, endedSession } from '../log/entries/sessions.ts';
import { livenessOf, parseOwner, type SessionLiveness } from './session-owner.ts';

/** A backup or a group of backups that is under way on any host, or a prune that is repacking. @public */
export interface SessionInfo {
  /** The number that `endSession` takes. */
  readonly seq: number;
  /** The name that its program has chosen (`owner` of `OpenOptions`), or the name of its host. */
  readonly owner: string;
  /** `undefined` if another program opened it, which writes owners in another form. */
  readonly host: string | undefined;
  readonly processId: number | undefined;
  /** The names of the volumes that it holds; none for a prune. */
  readonly volumes: readonly string[];
  /** On the clock of its host. */
  readonly openedAt: Date;
  /** Whether the process that holds it is known to be running. */
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

/** Ends a session of any host, so that it can't commit any more. @throws `SESSION_ENDED`, and what the log throws */
export async function endSession(
  { log, target }: RepositoryContext,
  seq: number,
  options: AbortOptions,
): Promise<void> {
  const decide = (state: LogState) => decideAbort(state, seq) ?? endedSession(state, seq);
  const ended = await appendInLittleRoom({ log, target }, decide, options);
  if (ended === undefined) throw endedSession(log.state, seq);
}

/** For messages: which process holds a session, and for how long (on the clocks of two hosts). */
export function holderText(session: Session, now: number): string {
  const parsed = parseOwner(session.owner);
  const who = JSON.stringify(parsed?.name ?? session.owner);
  const where = parsed === undefined ? '' : ` (process ${parsed.processId} of host ${JSON.stringify(parsed.host)})`;
  const since = new Date(session.at).toISOString();
  return `session ${session.seq} of ${who}${where}, open since ${since}, ${ageText(now - session.at)} ago`;
}

function ageText(ms: number): string {
  const minutes = Math.max(0, Math.round(ms / 60_000));
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 60 / 24)} days`;
}
