import type { Steps } from '../../../common/yield-to-event-loop.ts';
import { logCorrupt } from '../../format/corrupt.ts';
import type { LogEntry, LogFactOf } from '../../format/log-entry.ts';
import type { Session, StoredBackup } from '../../format/log-state.ts';
import type { FoldDraft } from './fold-draft.ts';

/** Sessions open and end: P1, P2, P3, P6. */

type EntryOf<Type extends LogEntry['type']> = Extract<LogEntry, { readonly type: Type }>;

export function foldOpen(draft: FoldDraft, entry: EntryOf<'open'>): void {
  fence(draft, entry.fence, { seq: entry.seq, at: entry.at, owner: entry.owner });
  for (const session of entry.adopt) {
    // P6: the log lists it still; one that it does not list is condemned, perhaps deleted.
    if (!draft.fenced.has(session)) throw logCorrupt(`session ${session} can't be adopted by ${entry.seq}`);
  }
  for (const [volume, base] of entry.volumes) {
    if (draft.open.hasVolume(volume)) throw logCorrupt(`session ${entry.seq} is the second one of its volume`); // P2
    if (base !== undefined && !draft.backups.has(base)) throw logCorrupt(`session ${entry.seq} pins no live base`); // P3
  }
  const { seq, at, owner, volumes, adopt } = entry;
  draft.addSession({ seq, at, owner, volumes, adopted: adopt });
}

export function foldAbort(draft: FoldDraft, { session }: LogFactOf<'abort'>): void {
  openSession(draft, session);
  draft.endSession(session);
}

export function* foldForget(draft: FoldDraft, { backups }: LogFactOf<'forget'>): Steps<void> {
  for (const id of backups) {
    if (draft.steps.isDue()) yield;
    const backup = liveBackup(draft, id, 'forgotten');
    if (backup.hold !== undefined) throw logCorrupt(`backup ${id} is forgotten while it is held`);
    draft.forget(id);
  }
}

export function foldHold(draft: FoldDraft, { at, backups, reason }: EntryOf<'hold'>): void {
  for (const id of backups) draft.backups.set(id, { ...liveBackup(draft, id, 'held'), hold: { at, reason } });
}

export function foldRelease(draft: FoldDraft, { backups }: LogFactOf<'release'>): void {
  for (const id of backups) {
    const { hold, ...backup } = liveBackup(draft, id, 'released');
    if (hold === undefined) throw logCorrupt(`backup ${id} is released and was not held`);
    draft.backups.set(id, backup);
  }
}

function liveBackup(draft: FoldDraft, id: string, what: string): StoredBackup {
  const backup = draft.backups.get(id);
  if (backup === undefined) throw logCorrupt(`backup ${id} is ${what}, and was not there`);
  return backup;
}

export function fence(draft: FoldDraft, sessions: readonly number[], by: NonNullable<Session['fencedBy']>): void {
  for (const seq of sessions) {
    const { dated: _, ...session } = openSession(draft, seq);
    draft.endSession(seq);
    draft.fenced.set(seq, { ...session, fencedBy: by });
  }
}

/** P6: only what is open can end, also by a fence. */
export function openSession(draft: FoldDraft, seq: number): Session {
  const session = draft.sessions.get(seq);
  if (session === undefined) throw logCorrupt(`session ${seq} is not open, and an entry ends it`);
  return session;
}
