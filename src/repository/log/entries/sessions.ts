import { BackupError } from '../../../common/errors.ts';
import type { LogFactOf } from '../../format/log-entry.ts';
import type { LogState, Session } from '../../format/log-state.ts';
import type { Decision } from './decision.ts';

/** How sessions open and end, as decisions on a state: rules P1, P2, P3, P6. */

/** What a session is to be. */
export interface OpenPlan {
  /** Of this host: for people who look who holds a volume. */
  readonly owner: string;
  /** By volume: the base to pin, if there is one. None for a repacker. */
  readonly volumes: ReadonlyMap<string, string | undefined>;
  /** Earlier sessions of the same job: they are fenced if they are open still, and adopted if they can be. */
  readonly resume?: readonly number[] | undefined;
  /** Others' sessions that may be fenced if they hold one of the volumes. Silence is only a reason to try (P1). */
  readonly takeOver?: readonly number[] | undefined;
  /** Says who holds a session, for `VOLUME_BUSY`. */
  readonly holderText?: ((session: Session) => string) | undefined;
  /** Whether those that were taken over are adopted. @defaultValue false */
  readonly adoptTaken?: boolean | undefined;
}

/**
 * The session's `open` entry. Its `adopt` says which sessions could be adopted: those that the log lists as open or as
 * fenced and not condemned (P6, decision 020), with what they had adopted themselves.
 *
 * Refuses with `VOLUME_BUSY`, `BACKUP_FORGOTTEN` or `BACKUP_NOT_FOUND` (of a base).
 */
export function decideOpen(state: LogState, plan: OpenPlan): Decision<LogFactOf<'open'>> {
  const { owner, volumes, resume = [], takeOver = [], adoptTaken = false } = plan;
  for (const base of volumes.values()) {
    // @mutation base-is-live
    if (base !== undefined && !state.backups.has(base)) return missingBackup(state, base); // P3
  }
  const fence = new Set(resume.filter((session) => state.sessions.has(session)));
  const adopt = new Set(resume);
  for (const session of state.sessions.values()) {
    const volume = [...session.volumes.keys()].find((name) => volumes.has(name));
    if (volume === undefined || fence.has(session.seq)) continue;
    // @mutation one-open-session
    if (!takeOver.includes(session.seq)) return busy(volume, session, plan.holderText); // P2
    fence.add(session.seq);
    if (adoptTaken) adopt.add(session.seq);
  }
  for (const session of adopt) {
    const { adopted = [] } = state.sessions.get(session) ?? state.fenced.get(session) ?? {};
    for (const earlier of adopted) adopt.add(earlier);
  }
  // @mutation adopted-is-listed
  const adoptable = [...adopt].filter((session) => fence.has(session) || state.fenced.has(session));
  return { type: 'open', owner, volumes, fence: [...fence], adopt: adoptable };
}

/** Ends a session without a commit. One that has ended already is left alone. */
export function decideAbort(state: LogState, session: number): Decision<LogFactOf<'abort'>> {
  return state.sessions.has(session) ? { type: 'abort', session } : undefined;
}

/** Forgets backups, each named once. Refuses with `BACKUP_HELD`, `BACKUP_FORGOTTEN` or `BACKUP_NOT_FOUND`. */
export function decideForget(state: LogState, ids: Iterable<string>): Decision<LogFactOf<'forget'>> {
  const backups = [...new Set(ids)];
  const missing = backups.find((id) => !state.backups.has(id));
  if (missing !== undefined) return missingBackup(state, missing);
  const held = backups.find((id) => state.backups.get(id)?.hold !== undefined);
  if (held !== undefined) return heldBackup(held, state.backups.get(held)?.hold?.reason);
  return backups.length === 0 ? undefined : { type: 'forget', backups };
}

/** Holds backups, each named once. Refuses with `BACKUP_FORGOTTEN` or `BACKUP_NOT_FOUND`. */
export function decideHold(
  state: LogState,
  ids: Iterable<string>,
  reason: string | undefined,
): Decision<LogFactOf<'hold'>> {
  const backups = [...new Set(ids)];
  const missing = backups.find((id) => !state.backups.has(id));
  if (missing !== undefined) return missingBackup(state, missing);
  const isNew = (id: string) => {
    const hold = state.backups.get(id)?.hold;
    return hold === undefined || hold.reason !== reason;
  };
  const changed = backups.filter(isNew);
  return changed.length === 0 ? undefined : { type: 'hold', backups: changed, reason };
}

/** Releases backups; one that is not held is left alone. Refuses with `BACKUP_FORGOTTEN` or `BACKUP_NOT_FOUND`. */
export function decideRelease(state: LogState, ids: Iterable<string>): Decision<LogFactOf<'release'>> {
  const backups = [...new Set(ids)];
  const missing = backups.find((id) => !state.backups.has(id));
  if (missing !== undefined) return missingBackup(state, missing);
  const held = backups.filter((id) => state.backups.get(id)?.hold !== undefined);
  return held.length === 0 ? undefined : { type: 'release', backups: held };
}

/**
 * Whether a session may use nodes and runs that an adopted one stored for a volume, and not just blocks. Under another
 * base they would be changes against the wrong backup, and would share what nothing pins (decision 020).
 */
export function mayReuseNodes(state: LogState, session: Session, adopted: number, volume: string): boolean {
  const earlier = state.fenced.get(adopted);
  if (earlier === undefined || !session.adopted.includes(adopted)) return false;
  return (
    earlier.volumes.has(volume) &&
    session.volumes.has(volume) &&
    earlier.volumes.get(volume) === session.volumes.get(volume)
  );
}

/** Why a session that is not open can't go on. */
export function endedSession(state: LogState, session: number): BackupError {
  const isUnknownCondemned = state.condemnedSessions.has(session) && !state.known.has(session);
  if (state.fenced.has(session) || isUnknownCondemned) {
    return new BackupError(
      'SESSION_FENCED',
      `session ${session} was taken over by another host, or given up by prune: its backup has to be started again`,
    );
  }
  return new BackupError('SESSION_ENDED', `session ${session} is not open: it was committed or aborted`);
}

/** A backup that is not there, as far as the state can tell why. */
export function missingBackup(state: LogState, id: string): BackupError {
  const wasThere = state.pinned.has(id) || [...state.heads.values()].includes(id);
  return wasThere
    ? new BackupError('BACKUP_FORGOTTEN', `backup ${id} has been forgotten`)
    : new BackupError('BACKUP_NOT_FOUND', `there is no backup ${id}, or it has been forgotten`);
}

function heldBackup(id: string, reason: string | undefined): BackupError {
  const why = reason === undefined ? '' : ` (${JSON.stringify(reason)})`;
  return new BackupError('BACKUP_HELD', `backup ${id} is held${why}: release it before it is forgotten`);
}

function busy(volume: string, session: Session, holderText?: (session: Session) => string): BackupError {
  const holder = holderText?.(session) ?? `session ${session.seq} of ${JSON.stringify(session.owner)}`;
  return new BackupError(
    'VOLUME_BUSY',
    `a backup of volume ${JSON.stringify(volume)} is under way: ${holder}. Wait for it, or give it up with takeOver: true`,
  );
}
