import { BackupError } from '../../../common/errors.ts';
import type { Steps } from '../../../common/yield-to-event-loop.ts';
import { logCorrupt } from '../../format/decode-values.ts';
import type { CommittedPack, LogEntry, LogFactOf, Relocation } from '../../format/log-entry.ts';
import {
  type Condemnation,
  condemnationOf,
  isKnown,
  type LogState,
  mayBeKnown,
  sparedSessions,
} from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';
import { addPacks } from './commit.ts';
import type { Decision } from './decision.ts';
import type { FoldDraft } from './fold-draft.ts';
import { packTables } from './known-names.ts';
import { endedSession, openedSession, openSession } from './sessions.ts';

/*
 * The `collect` entry of a repacker, which copied the live records of sparse packs into packs of its own (P9, decision 021).
 *
 * In addition to condemning the packs that were moved, it names a relocation table for each of them, makes the repacker's
 * packs known and ends its session. It is refused unless that session is open, the log is as it was when the repacker marked
 * (P7), and every pack that is moved may be condemned. `collect.ts` folds what all collections have in common.
 */

export interface RepackPlan {
  /** The number through which the repacker had read the log when it marked for the last time. */
  readonly markedAt: number;
  /** The repacker's own session, which ends with this entry. */
  readonly session: number;
  /** The hash of its `open` entry. */
  readonly openHash?: Uint8Array | undefined;
  /** Its packs, each acknowledged: the copies, and the tables. */
  readonly newPacks: readonly CommittedPack[];
  /** The packs that were moved, to be condemned. A table lists every location in them that is live or pinned at `markedAt`. */
  readonly packs: readonly PackName[];
  /**
   * Tables of these packs, and of packs that were moved into them before. A table replaces the older one of its pack, so it
   * lists everything of that pack that is still needed.
   */
  readonly relocate: readonly Relocation[];
}

/**
 * Refuses with `SESSION_FENCED`, `SESSION_ENDED`, `PACK_CONDEMNED` (a pack is condemned already, belongs to an open session,
 * or holds a table that is still needed: leave it alone), and `OBJECT_CONFLICT` if the log has gone on: mark again.
 */
export function decideRepack(state: LogState, plan: RepackPlan): Decision<LogFactOf<'collect'>> {
  const { session, newPacks, packs, relocate } = plan;
  // @mutation repacking-session-is-open
  if (openedSession(state, plan) === undefined) return endedSession(state, session);
  if (state.seq !== plan.markedAt) return goneOn();
  const spared = sparedSessions(state);
  const holders = new Set(packTables(state).map(({ location }) => packKey(location.pack)));
  for (const pack of packs) {
    if (!isKnown(state, pack) || spared.has(pack.session) || holders.has(packKey(pack))) return refused(pack);
  }
  for (const pack of newPacks) if (condemnationOf(state, pack) !== undefined) return refused(pack);
  const moved = new Set(packs.map(packKey));
  const relocated = new Set(relocate.map(({ pack }) => packKey(pack)));
  for (const [key, { location, pack }] of state.relocations) {
    // This table lies in a pack that is moved. Without a new one, maps that name the old location would lead nowhere.
    // @mutation tables-lead-straight
    if (moved.has(packKey(location.pack)) && !relocated.has(key)) return refused(pack);
  }
  const nothing = { sessions: [], fence: [], gonePacks: [], goneSessions: [], redated: [] };
  return { type: 'collect', session, newPacks, packs, relocate, ...nothing };
}

/** What was decided on no longer describes the log (P7). */
export function goneOn(): BackupError {
  const message = 'another host appended to the log after this was decided: try again';
  return new BackupError('OBJECT_CONFLICT', message, { retryable: true });
}

function refused(pack: PackName): BackupError {
  return new BackupError(
    'PACK_CONDEMNED',
    `${packKey(pack)} can't be moved now: it is condemned, belongs to an open session, or holds a table that is needed`,
  );
}

export type CollectEntry = Extract<LogEntry, { readonly type: 'collect' }>;

/** Ends the repacker's session and makes its packs known. */
export function* foldRepackedPacks(draft: FoldDraft, entry: CollectEntry): Steps<void> {
  if (entry.session === undefined) {
    if (entry.newPacks.length + entry.relocate.length === 0) return;
    throw logCorrupt(`collect entry ${entry.seq} adds packs or tables without a session`);
  }
  const session = openSession(draft, entry.session);
  if (session.volumes.size > 0) throw logCorrupt(`collect entry ${entry.seq} ends a session that has volumes`);
  yield* addPacks(draft, session, entry.newPacks, []);
  draft.endSession(entry.session);
}

/**
 * Notes where the records of the moved packs are now.
 *
 * @param movable - keys of the packs that the entry condemns, and of packs that were moved before: those may get a table
 * that leads straight to their newest location
 */
export function* foldRelocations(
  draft: FoldDraft,
  entry: CollectEntry,
  movable: ReadonlySet<string>,
  by: Condemnation,
): Steps<void> {
  for (const relocation of entry.relocate) {
    if (draft.steps.isDue()) yield;
    const key = packKey(relocation.pack);
    if (!movable.has(key)) {
      throw logCorrupt(`collect entry ${entry.seq} relocates ${key}, which it does not condemn`);
    }
    if (mayBeKnown(draft.state, relocation.location.pack) === false) {
      throw logCorrupt(`collect entry ${entry.seq} names a relocation table in a pack that is not known`);
    }
    yield* draft.relocate(key, relocation, by);
  }
}
