import { BackupError } from '../../../common/errors.ts';
import type { Steps } from '../../../common/yield-to-event-loop.ts';
import { sortedByKey, volumeSuffix } from '../../format/catalogue-pages.ts';
import { logCorrupt } from '../../format/decode-values.ts';
import type { BackupRecord, CommittedPack, LogEntry, LogFactOf, PackTable } from '../../format/log-entry.ts';
import {
  condemnationOf,
  hasPagesOf,
  headOf,
  isKnown,
  type LogState,
  mayBeKnown,
  ownSessions,
  type Session,
} from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import type { PackName } from '../../format/record.ts';
import type { Decision } from './decision.ts';
import { startPacks } from './fold-counts.ts';
import type { FoldDraft } from './fold-draft.ts';
import { endedSession, openedSession, openSession } from './sessions.ts';

/*
 * `commit`: the entry that makes a session's backups exist, all of them or none (P12), and ends the session.
 *
 * It is refused unless the session is open (P1, P6), each backup's parent is the head of its volume (P2), and every pack that
 * the maps refer to is known, is the session's own or an adopted one and not condemned, or was moved to packs that are known
 * (P4, P9). It adds the backups, makes them the heads of their volumes, and makes the packs known. What the session has adopted
 * need not be adopted again: the volumes of the commit are taken from it.
 */

/** What a session commits. The store has acknowledged the PUT of each of its packs, with size and checksum (P4). */
export interface CommitPlan {
  readonly session: number;
  /** The hash of its `open` entry, by which a process names a session that it has opened. */
  readonly openHash?: Uint8Array | undefined;
  /** One for each of the session's volumes. */
  readonly backups: readonly BackupRecord[];
  /** The packs that the session and those that it adopted have stored and that the maps need, unless a table lists them. */
  readonly packs: readonly CommittedPack[];
  readonly packTables?: readonly PackTable[] | undefined;
  /** Keys of packs that the tables list. */
  readonly tabled?: ReadonlySet<string> | undefined;
  /**
   * The packs of every location that the maps name in their descriptors, and in nodes and runs that lie in own and adopted
   * packs, recursively (decision 020). Locations that are reached through the pinned base are left out, because the pin
   * keeps them (P3).
   */
  readonly references: Iterable<PackName>;
  /** By pack key: the references to packs that were moved, for which every single location was looked up (P9). */
  readonly relocated?: ReadonlyMap<string, LookedUp> | undefined;
}

/** What a relocation table says of the locations that a commit refers to. */
export interface LookedUp {
  /** The table's id. If the log has a newer table, the locations must be looked up again. */
  readonly table: Uint8Array;
  /** The packs in which the locations are now. */
  readonly into: readonly PackName[];
}

/**
 * Refuses with `SESSION_FENCED`, `SESSION_ENDED`, `PARENT_CHANGED`, or with `PACK_CONDEMNED` for the first pack that P4 does
 * not accept.
 */
export function decideCommit(state: LogState, plan: CommitPlan): Decision<LogFactOf<'commit'>> {
  // @mutation committing-session-is-open
  const session = openedSession(state, plan);
  if (session === undefined) return endedSession(state, plan.session);
  // @mutation group-is-checked-whole
  for (const { volume, parent } of plan.backups) {
    // @mutation parent-is-the-head
    if (parent !== headOf(state, volume)?.id) {
      return new BackupError(
        'PARENT_CHANGED',
        `another backup of volume ${JSON.stringify(volume)} was committed in the meantime: start this one again`,
      );
    }
  }
  const unusable = unusablePack(state, session, plan);
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

/** The first pack of a plan that P4 does not accept. */
function unusablePack(state: LogState, session: Session, plan: CommitPlan): PackName | undefined {
  const own = ownSessions(session);
  const packs = new Set(plan.packs.map(packKey));
  // @mutation listed-packs-are-looked-at
  for (const pack of plan.packs) if (condemnationOf(state, pack) !== undefined) return pack;
  for (const pack of plan.references) {
    const key = packKey(pack);
    // @mutation pack-is-known
    if (isKnown(state, pack)) continue; // To be known is more than not to be condemned.
    const isListed = packs.has(key) || (plan.tabled?.has(key) ?? false);
    const isUsable =
      own.has(pack.session) && isListed ? condemnationOf(state, pack) === undefined : isMoved(state, key, plan);
    if (!isUsable) return pack;
  }
  return undefined;
}

/** P9 (decision 021): the pack is where the newest table says, and both that pack and the table's own must be known. */
function isMoved(state: LogState, key: string, { relocated }: CommitPlan): boolean {
  const relocation = state.relocations.get(key);
  const lookedUp = relocated?.get(key);
  if (relocation === undefined || lookedUp === undefined) return false;
  if (Buffer.compare(relocation.id, lookedUp.table) !== 0) return false;
  // @mutation moved-location-is-known
  return [relocation.location.pack, ...lookedUp.into].every((pack) => isKnown(state, pack));
}

export function* foldCommit(draft: FoldDraft, entry: Extract<LogEntry, { readonly type: 'commit' }>): Steps<void> {
  yield* draft.own(['backups', 'heads', 'forgotten', 'holds', 'known', 'sessions', 'pinned', 'fenced']);
  const session = openSession(draft, entry.session);
  const { backups } = entry;
  const { size } = new Set(backups.map((backup) => backup.volume));
  const isWhole = size === backups.length && size === session.volumes.size && size > 0;
  if (!isWhole || !backups.every((backup) => session.volumes.has(backup.volume))) {
    // P12: all volumes of the session, each once.
    throw logCorrupt(`commit entry ${entry.seq} does not have one backup for each volume of its session`);
  }
  yield* addPacks(draft, session, entry.packs, entry.packTables);
  for (const backup of sortedByKey(backups)) {
    if (draft.steps.isDue()) yield;
    checkBackup(draft, session, backup);
    draft.addBackup({ ...backup, seq: entry.seq, committedAt: entry.at, session: entry.session });
  }
  draft.endSession(entry.session);
  for (const adopted of session.adopted) draft.endAdopted(adopted, session.volumes);
}

/** Makes packs known: only own and adopted ones (P1), and none that is condemned (P4). */
export function* addPacks(
  draft: FoldDraft,
  session: Session,
  packs: readonly CommittedPack[],
  tables: readonly PackTable[],
): Steps<void> {
  const { state } = draft;
  const own = ownSessions(session);
  const listed = new Set<string>();
  for (const pack of packs) {
    if (draft.steps.isDue()) yield;
    listed.add(packKey(pack));
  }
  if (listed.size !== packs.length) throw logCorrupt(`session ${session.seq} lists a pack twice`);
  if (!tables.every(({ location }) => listed.has(packKey(location.pack)))) {
    throw logCorrupt(`session ${session.seq} has a table in a pack that it does not list`);
  }
  for (const pack of packs) {
    if (draft.steps.isDue()) yield;
    if (!own.has(pack.session)) throw logCorrupt(`session ${session.seq} lists a pack of another session`);
    const isCondemned = state.condemned.has(packKey(pack)) || state.known.get(pack.session)?.dead.has(pack.random);
    if (isCondemned || (mayBeKnown(state, pack) === false && state.condemnedSessions.has(pack.session))) {
      throw logCorrupt(`session ${session.seq} lists a condemned pack`);
    }
  }
  yield* draft.addKnown(packs);
  yield* draft.addTables(own, tables);
}

function checkBackup({ state }: FoldDraft, session: Session, backup: BackupRecord): void {
  const { id, volume, parent, base } = backup;
  if (state.backups.has(id) || state.pinned.has(id)) throw logCorrupt(`backup ${id} is committed twice`);
  // By its id alone a backup is found in the pages of its volume.
  // @mutation ids-name-their-volumes
  if (!id.endsWith(volumeSuffix(volume)))
    throw logCorrupt(`the id of backup ${id} does not end as those of its volume do`);
  const head = state.heads.get(volume);
  const isInPage = head === undefined && hasPagesOf(state, volume);
  if (!isInPage && parent !== head?.id) throw logCorrupt(`the parent of backup ${id} is not the head of its volume`); // P2
  if (base !== undefined && base !== session.volumes.get(volume)) {
    throw logCorrupt(`the base of backup ${id} is not pinned by its session`); // P3
  }
  for (const pack of startPacks(backup)) {
    if (mayBeKnown(state, pack) === false && !state.relocations.has(packKey(pack))) {
      throw logCorrupt(`the map of backup ${id} begins in a pack that is not known`);
    }
  }
}
