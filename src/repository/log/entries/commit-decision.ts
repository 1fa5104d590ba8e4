import { BackupError } from '../../../common/errors.ts';
import type { BackupRecord, CommittedPack, LogFactOf, PackTable } from '../../format/log-entry.ts';
import { condemnationOf, isKnown, type LogState, ownSessions, type Session } from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';
import type { Decision } from './decision.ts';
import { endedSession } from './sessions.ts';

/** A session's commit as a decision on a state: rules P2, P3, P4, P12. */

/** What a session has to commit. Every one of its pack PUTs was acknowledged, with size and checksum. */
export interface CommitPlan {
  readonly session: number;
  /** One of each of the session's volumes. */
  readonly backups: readonly BackupRecord[];
  /** The packs that the session and those that it adopted have stored and that the maps need; here or in tables. */
  readonly packs: readonly CommittedPack[];
  readonly packTables?: readonly PackTable[] | undefined;
  /** Keys of packs that the tables list. */
  readonly tabled?: ReadonlySet<string> | undefined;
  /**
   * The packs of every place that the maps name in their descriptors, and in nodes and runs that lie in packs of the
   * session's own and adopted ones, recursively (decision 020). Places that are reached through the pinned base are left
   * out: the pin keeps them (P3).
   */
  readonly references: Iterable<PackName>;
  /** By pack key: references to packs that were moved, for which each single place was looked up (P9). */
  readonly relocated?: ReadonlyMap<string, LookedUp> | undefined;
}

/** What a relocation table said of the places that a commit refers to. */
export interface LookedUp {
  /** The table's id: a newer one would have to be looked up anew. */
  readonly table: Uint8Array;
  /** Packs in which the places are now. */
  readonly into: readonly PackName[];
}

/**
 * The `commit` entry. Refuses with `SESSION_FENCED`, `SESSION_ENDED`, `PARENT_CHANGED`, or `PACK_CONDEMNED`: then
 * {@link unusablePacks} says which packs' blocks are to be stored again.
 */
export function decideCommit(state: LogState, plan: CommitPlan): Decision<LogFactOf<'commit'>> {
  // @mutation committing-session-is-open
  const session = state.sessions.get(plan.session);
  if (session === undefined) return endedSession(state, plan.session);
  // P12: any check that fails, fails all.
  // @mutation group-is-checked-whole
  for (const { volume, parent } of plan.backups) {
    // @mutation parent-is-the-head
    if (parent !== state.heads.get(volume)) {
      return new BackupError(
        'PARENT_CHANGED',
        `another backup of volume ${JSON.stringify(volume)} was committed in the meantime: start this one again`,
      );
    }
  }
  const [unusable] = findUnusable(state, session, plan);
  if (unusable !== undefined) {
    return new BackupError(
      'PACK_CONDEMNED',
      `${packKey(unusable)} was condemned by prune before this commit: start the backup again`,
      { retryable: true },
    );
  }
  const { packs, packTables = [], backups } = plan;
  return { type: 'commit', session: plan.session, backups, packs, packTables };
}

/** The packs of a plan that P4 does not let pass. Their blocks are stored again, or the job fails. */
export function unusablePacks(state: LogState, plan: CommitPlan): PackName[] {
  const session = state.sessions.get(plan.session);
  return session === undefined ? [] : [...findUnusable(state, session, plan)];
}

function* findUnusable(state: LogState, session: Session, plan: CommitPlan): Generator<PackName> {
  const own = ownSessions(session);
  const listed = new Set([...plan.packs.map(packKey), ...(plan.tabled ?? [])]);
  for (const pack of plan.packs) if (condemnationOf(state, pack) !== undefined) yield pack;
  for (const pack of plan.references) {
    const key = packKey(pack);
    // @mutation pack-is-known
    if (isKnown(state, pack)) continue; // Known, and not merely absent from the condemned.
    if (own.has(pack.session) && listed.has(key)) {
      if (condemnationOf(state, pack) !== undefined && !plan.packs.some((each) => packKey(each) === key)) yield pack;
    } else if (!isMoved(state, key, plan.relocated?.get(key))) yield pack;
  }
}

/** P9 (decision 021): what counts is where the place is now, by the newest table, which must be there itself. */
function isMoved(state: LogState, key: string, lookedUp: LookedUp | undefined): boolean {
  const relocation = state.relocations.get(key);
  if (relocation === undefined || lookedUp === undefined) return false;
  if (Buffer.compare(relocation.id, lookedUp.table) !== 0) return false;
  // @mutation moved-location-is-known
  return [relocation.location.pack, ...lookedUp.into].every((pack) => isKnown(state, pack));
}
