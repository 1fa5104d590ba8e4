import { BackupError } from '../../../common/errors.ts';
import type { CommittedPack, LogFactOf, Relocation } from '../../format/log-entry.ts';
import { condemnationOf, isKnown, type LogState, sparedSessions } from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';
import { packTables } from './collect-decision.ts';
import type { Decision } from './decision.ts';
import { endedSession } from './sessions.ts';

/** What a repacker has copied: rule P9, decision 021. */
export interface RepackPlan {
  /** The number through which it had read the log when it marked for the last time. */
  readonly markedAt: number;
  /** The repacker's own, which ends with this. */
  readonly session: number;
  /** Its packs, each acknowledged: what was copied, and the tables. */
  readonly newPacks: readonly CommittedPack[];
  /** What was moved, to be condemned. Every place in them that is live or pinned at `markedAt` is in a table. */
  readonly packs: readonly PackName[];
  /**
   * Tables of the packs, and of those that were moved to them before. A table takes the place of the older one of its
   * pack, so it lists everything of that pack that is still needed.
   */
  readonly relocate: readonly Relocation[];
}

/**
 * The repacker's `collect` entry. Refuses with `SESSION_FENCED`, `SESSION_ENDED`, `PACK_CONDEMNED` (a pack is condemned
 * already, belongs to an open session, or holds a table that is still needed: leave it alone), and `OBJECT_CONFLICT` where
 * the log went on: mark again.
 */
export function decideRepack(state: LogState, plan: RepackPlan): Decision<LogFactOf<'collect'>> {
  const { session, newPacks, packs, relocate } = plan;
  // @mutation repacking-session-is-open
  if (!state.sessions.has(session)) return endedSession(state, session);
  if (state.seq !== plan.markedAt) {
    return new BackupError('OBJECT_CONFLICT', 'the log has gone on since the marking', { retryable: true });
  }
  const spared = sparedSessions(state);
  const holders = new Set(packTables(state).map(({ location }) => packKey(location.pack)));
  for (const pack of packs) {
    if (!isKnown(state, pack) || spared.has(pack.session) || holders.has(packKey(pack))) return refused(pack);
  }
  for (const pack of newPacks) if (condemnationOf(state, pack) !== undefined) return refused(pack);
  const moved = new Set(packs.map(packKey));
  const told = new Set(relocate.map(({ pack }) => packKey(pack)));
  for (const [key, { location, pack }] of state.relocations) {
    // Its table goes with the pack in which it lies; maps that name the old place would lead nowhere.
    // @mutation tables-lead-straight
    if (moved.has(packKey(location.pack)) && !told.has(key)) return refused(pack);
  }
  const nothing = { sessions: [], fence: [], gonePacks: [], goneSessions: [], redated: [] };
  return { type: 'collect', session, newPacks, packs, relocate, ...nothing };
}

function refused(pack: PackName): BackupError {
  return new BackupError('PACK_CONDEMNED', `${packKey(pack)} can't be moved now`);
}
