import { BackupError } from '../../../common/errors.ts';
import type { Steps } from '../../../common/yield-to-event-loop.ts';
import { logCorrupt } from '../../format/decode-values.ts';
import type { LogEntry, LogFactOf } from '../../format/log-entry.ts';
import { backupOf, type LogState, mayHave, type Session, sessionIn } from '../../format/log-state.ts';
import { missingBackup } from './backups.ts';
import type { Decision } from './decision.ts';
import type { FoldDraft } from './fold-draft.ts';

/*
 * `open` and `abort`: a session begins, and ends without a commit.
 *
 * `open` makes the session of its own number (P1). It is refused while another session is open for one of its volumes, unless
 * that session is taken over (P2), and if a base is not live (P3). The same entry fences the sessions that it takes over, and
 * adopts them with all that the log lists as fenced for its volumes (P6, L12). From then on its bases are pinned. `abort` ends
 * a session, and its pins with it; a session that has ended already is left alone.
 */

export interface OpenPlan {
  /** Identifies this host to people who ask which host holds a volume. */
  readonly owner: string;
  /** By volume: the base to pin, if there is one. A repacker's session has no volumes. */
  readonly volumes: ReadonlyMap<string, string | undefined>;
  /** Sessions that may be fenced if they hold one of the volumes. Silence is only a reason to try (P1). */
  readonly takeOver?: readonly number[] | undefined;
  /** Describes the holder of a session for the message of `VOLUME_BUSY`. */
  readonly holderText?: ((session: Session) => string) | undefined;
}

/**
 * Its `adopt` names the sessions that can be adopted: those that it fences, and those of its volumes that the log lists as fenced
 * and not condemned (P6, L12), together with what they had adopted themselves.
 *
 * Refuses with `VOLUME_BUSY`, and with `BACKUP_FORGOTTEN` or `BACKUP_NOT_FOUND` for a base.
 */
export function decideOpen(state: LogState, plan: OpenPlan): Decision<LogFactOf<'open'>> {
  const { owner, volumes, takeOver = [] } = plan;
  for (const base of volumes.values()) {
    // @mutation base-is-live
    if (base !== undefined && backupOf(state, base) === undefined) return missingBackup(state, base); // P3
  }
  const fence = new Set<number>();
  for (const session of state.sessions.values()) {
    const volume = [...session.volumes.keys()].find((name) => volumes.has(name));
    if (volume === undefined) continue;
    // @mutation one-open-session
    if (!takeOver.includes(session.seq)) return busy(volume, session, plan.holderText); // P2
    fence.add(session.seq);
  }
  return { type: 'open', owner, volumes, fence: [...fence], adopt: adoptable(state, volumes, fence) };
}

/** The sessions that an `open` of these volumes adopts, if it fences some (L12). */
export function adoptable(
  state: LogState,
  volumes: ReadonlyMap<string, unknown>,
  fence: ReadonlySet<number>,
): number[] {
  const adopt = new Set(fence);
  for (const session of state.fenced.values()) {
    // @mutation all-of-a-volume-are-adopted
    if ([...session.volumes.keys()].some((name) => volumes.has(name))) adopt.add(session.seq);
  }
  for (const session of adopt) {
    const { adopted = [] } = state.sessions.get(session) ?? state.fenced.get(session) ?? {};
    for (const earlier of adopted) adopt.add(earlier);
  }
  // @mutation adopted-is-listed
  return [...adopt].filter((session) => fence.has(session) || state.fenced.has(session));
}

export function decideAbort(
  state: LogState,
  session: number,
  openHash?: Uint8Array | undefined,
): Decision<LogFactOf<'abort'>> {
  return openedSession(state, { session, openHash }) === undefined ? undefined : { type: 'abort', session };
}

/** An open session; for a process that names one of its own, only if it is that one, and no other of this number (L6). */
export function openedSession(
  { sessions }: Pick<LogState, 'sessions'>,
  { session, openHash }: { readonly session: number; readonly openHash?: Uint8Array | undefined },
): Session | undefined {
  return openHash === undefined ? sessions.get(session) : sessionIn(sessions, { seq: session, hash: openHash });
}

/** A session's owner gives it up, and leaves what it has uploaded to the next backup of its volumes: it fences itself (L12). */
export function decideGiveUp(state: LogState, session: number, openHash: Uint8Array): Decision<LogFactOf<'collect'>> {
  if (openedSession(state, { session, openHash }) === undefined) return undefined;
  const nothing = { session: undefined, newPacks: [], packs: [], sessions: [], relocate: [] } as const;
  return { type: 'collect', ...nothing, fence: [session], gonePacks: [], goneSessions: [], redated: [] };
}

/** Why a session that is not open can't go on: `SESSION_FENCED` or `SESSION_ENDED`. */
export function endedSession(state: LogState, session: number): BackupError {
  const isUnknownCondemned = state.condemnedSessions.has(session) && !state.known.has(session);
  if (state.fenced.has(session) || isUnknownCondemned) {
    return new BackupError(
      'SESSION_FENCED',
      `session ${session} was taken over by another host, or ended by prune as abandoned: start its backup again`,
    );
  }
  return new BackupError(
    'SESSION_ENDED',
    `session ${session} is not open: it was committed or aborted, or the log has gone on without it; start its backup again unless it was committed`,
  );
}

export function* foldOpen(
  draft: FoldDraft,
  entry: Extract<LogEntry, { readonly type: 'open' }>,
  hash: Uint8Array,
): Steps<void> {
  yield* draft.own(['sessions', 'pinned', 'fenced']);
  const { seq, at, owner, volumes, adopt } = entry;
  const { state } = draft;
  fenceSessions(draft, entry.fence, { seq, at, owner });
  for (const session of adopt) {
    // A session that the log does not list as fenced was condemned, and its packs may be deleted (P6).
    if (!state.fenced.has(session)) throw logCorrupt(`entry ${seq} adopts session ${session}, which is not fenced`);
  }
  for (const [volume, base] of volumes) {
    if (draft.open.hasVolume(volume)) throw logCorrupt(`entry ${seq} opens a second session for a volume`); // P2
    if (base !== undefined && mayHave(state, base) === false) {
      throw logCorrupt(`entry ${seq} pins backup ${base}, which is not live`); // P3
    }
  }
  draft.addSession({ seq, hash, at, owner, volumes, adopted: adopt });
}

export function* foldAbort(draft: FoldDraft, { session }: LogFactOf<'abort'>): Steps<void> {
  yield* draft.own(['sessions', 'pinned']);
  openSession(draft, session);
  draft.endSession(session);
}

/** Ends sessions by a fence: from here on they can never commit (P6). */
export function fenceSessions(
  draft: FoldDraft,
  sessions: readonly number[],
  by: NonNullable<Session['fencedBy']>,
): void {
  for (const seq of sessions) {
    const { dated: _, ...session } = openSession(draft, seq);
    draft.endSession(seq);
    draft.state.fenced.set(seq, { ...session, fencedBy: by });
  }
}

/** A session that an entry ends, which only an open one can be (P6). */
export function openSession({ state }: FoldDraft, seq: number): Session {
  const session = state.sessions.get(seq);
  if (session === undefined) throw logCorrupt(`entry ${state.seq + 1} ends session ${seq}, which is not open`);
  return session;
}

function busy(volume: string, session: Session, holderText?: (session: Session) => string): BackupError {
  const holder = holderText?.(session) ?? `session ${session.seq} of ${JSON.stringify(session.owner)}`;
  return new BackupError(
    'VOLUME_BUSY',
    `a backup of volume ${JSON.stringify(volume)} is under way: ${holder}. Wait for it, or end it with takeOver: true`,
  );
}
