import type { Steps } from '../../../common/yield-to-event-loop.ts';
import { logCorrupt } from '../../format/corrupt.ts';
import type { BackupRecord, CommittedPack, LogEntry, PackTable } from '../../format/log-entry.ts';
import { condemnationOf, isKnown, ownSessions, type Session } from '../../format/log-state.ts';
import { packKey } from '../../format/object-keys.ts';
import { descriptorPacks } from './descriptor-packs.ts';
import type { FoldDraft } from './fold-draft.ts';
import { openSession } from './fold-sessions.ts';

/** A session's one commit: P2, P3, P4, P12. */
export function* foldCommit(draft: FoldDraft, entry: Extract<LogEntry, { readonly type: 'commit' }>): Steps<void> {
  const session = openSession(draft, entry.session);
  const { backups } = entry;
  const { size } = new Set(backups.map((backup) => backup.volume));
  const isWhole = size === backups.length && size === session.volumes.size && size > 0;
  // P12: all of the session's volumes, each once.
  if (!isWhole || !backups.every((backup) => session.volumes.has(backup.volume))) {
    throw logCorrupt(`commit ${entry.seq} is not of its session's volumes`);
  }
  yield* addPacks(draft, session, entry.packs, entry.packTables);
  for (const backup of backups) {
    if (draft.steps.isDue()) yield;
    checkBackup(draft, session, backup);
    draft.addBackup({ ...backup, seq: entry.seq, committedAt: entry.at, session: entry.session });
  }
  for (const backup of backups) draft.heads.set(backup.volume, backup.id);
  draft.endSession(entry.session);
}

/** P1, P4: only packs of the session's own and of those that it adopted, and none that is condemned. */
export function* addPacks(
  draft: FoldDraft,
  session: Session,
  packs: readonly CommittedPack[],
  tables: readonly PackTable[],
): Steps<void> {
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
    if (!own.has(pack.session)) throw logCorrupt(`session ${session.seq} lists another session's pack`);
    if (condemnationOf(draft, pack) !== undefined || draft.known.get(pack.session)?.dead.has(pack.random)) {
      throw logCorrupt(`session ${session.seq} lists a condemned pack`);
    }
  }
  yield* draft.addKnown(packs);
  yield* draft.addTables(own, tables);
}

function checkBackup(draft: FoldDraft, session: Session, backup: BackupRecord): void {
  const { id, volume, parent, base } = backup;
  if (draft.backups.has(id) || draft.pinned.has(id)) throw logCorrupt(`backup ${id} is committed twice`);
  if (parent !== draft.heads.get(volume)) throw logCorrupt(`the parent of backup ${id} is not its volume's head`); // P2
  if (base !== undefined && base !== session.volumes.get(volume)) throw logCorrupt(`the base of ${id} is not pinned`);
  for (const pack of descriptorPacks(backup)) {
    if (!isKnown(draft, pack) && !draft.relocations.has(packKey(pack))) {
      throw logCorrupt(`backup ${id} begins in a pack that is not known`);
    }
  }
}
