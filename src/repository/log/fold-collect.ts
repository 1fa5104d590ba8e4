import { packKey } from '../records/record.ts';
import { logCorrupt } from './corrupt.ts';
import { addPacks, descriptorPacks } from './fold-commit.ts';
import type { FoldDraft } from './fold-draft.ts';
import { fence, openSession } from './fold-sessions.ts';
import type { LogEntry } from './log-entry.ts';
import { type Condemnation, isKnown, markedBackups, sparedSessions } from './log-state.ts';

type Collect = Extract<LogEntry, { readonly type: 'collect' }>;

/** A collection, also a repacker's: P6, P7, P9. */
export function foldCollect(draft: FoldDraft, entry: Collect): void {
  // As of before this entry: fencing and condemning a session are two collections (P6).
  const spared = sparedSessions(draft);
  foldGone(draft, entry);
  foldRepack(draft, entry);
  fence(draft, entry.fence);
  const condemned = new Set(entry.packs.map(packKey));
  if (condemned.size !== entry.packs.length) throw logCorrupt(`collection ${entry.seq} condemns a pack twice`);
  for (const pack of entry.packs) {
    if (spared.has(pack.session)) throw logCorrupt(`collection ${entry.seq} condemns a pack of an open session`);
    if (!isKnown(draft, pack)) throw logCorrupt(`collection ${entry.seq} condemns a pack that is not known`);
  }
  const moved = new Set(draft.relocations.keys());
  const by: Condemnation = { seq: entry.seq, at: entry.at };
  draft.condemn(entry.packs, by);
  for (const session of entry.sessions) {
    // Sessions that were opened after the collector read the log have larger numbers (P7).
    if (session >= entry.seq || spared.has(session))
      throw logCorrupt(`collection ${entry.seq} condemns an open session`);
    draft.fenced.delete(session);
    if (!draft.condemnedSessions.has(session)) draft.condemnedSessions.set(session, by);
  }
  relocate(draft, entry, new Set([...condemned, ...moved]));
  checkStillThere(draft, entry, condemned);
}

function foldGone(draft: FoldDraft, entry: Collect): void {
  for (const pack of entry.gonePacks) {
    if (!draft.condemned.delete(packKey(pack)))
      throw logCorrupt(`collection ${entry.seq} misses what nobody condemned`);
  }
  for (const session of entry.goneSessions) {
    if (!draft.condemnedSessions.delete(session)) {
      throw logCorrupt(`collection ${entry.seq} misses what nobody condemned`);
    }
  }
}

/** P9: a repacker's collection ends its session, which is open until then, and makes its packs known. */
function foldRepack(draft: FoldDraft, entry: Collect): void {
  if (entry.session === undefined) {
    if (entry.newPacks.length + entry.relocate.length > 0) throw logCorrupt(`collection ${entry.seq} has no session`);
    return;
  }
  const session = openSession(draft, entry.session);
  if (session.volumes.size > 0) throw logCorrupt(`collection ${entry.seq} ends a session that holds volumes`);
  addPacks(draft, session, entry.newPacks, []);
  draft.endSession(entry.session);
}

/** @param movable - what this entry condemns, and what was moved before: that gets a table straight to its newest place */
function relocate(draft: FoldDraft, entry: Collect, movable: ReadonlySet<string>): void {
  for (const relocation of entry.relocate) {
    const key = packKey(relocation.pack);
    if (!movable.has(key)) throw logCorrupt(`collection ${entry.seq} relocates a pack that is not condemned`);
    if (!isKnown(draft, relocation.location.pack)) throw logCorrupt(`collection ${entry.seq} names a table nowhere`);
    draft.relocations.set(key, relocation);
  }
}

/** What maps begin with stays known, or was moved. The rest of a map only its reader sees. */
function checkStillThere(draft: FoldDraft, entry: Collect, condemned: ReadonlySet<string>): void {
  if (condemned.size === 0) return;
  for (const backup of markedBackups(draft)) {
    for (const pack of descriptorPacks(backup)) {
      if (!isKnown(draft, pack) && !draft.relocations.has(packKey(pack))) {
        throw logCorrupt(`collection ${entry.seq} condemns what live backup ${backup.id} begins with`);
      }
    }
  }
}
