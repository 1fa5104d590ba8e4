import { packKey } from '../records/record.ts';
import { logCorrupt } from './corrupt.ts';
import { foldCollect } from './fold-collect.ts';
import { foldCommit } from './fold-commit.ts';
import { FoldDraft } from './fold-draft.ts';
import { foldAbort, foldForget, foldHold, foldOpen, foldRelease } from './fold-sessions.ts';
import type { LogEntry } from './log-entry.ts';
import type { LogState } from './log-state.ts';

/** An entry and the hash of its object. */
export interface HashedEntry {
  readonly entry: LogEntry;
  readonly hash: Uint8Array;
}

/**
 * The state after one more entry.
 *
 * @throws `LOG_CORRUPT` when the entry does not continue the chain, or says what no correct writer can have said: every
 * writer had folded the log through the entry before.
 */
export function applyEntry(state: LogState, entry: LogEntry, hash: Uint8Array): LogState {
  return applyEntries(state, [{ entry, hash }]);
}

/** As {@link applyEntry} for many, oldest first, with one copy of the state. */
export function applyEntries(state: LogState, entries: Iterable<HashedEntry>): LogState {
  const draft = new FoldDraft(state);
  for (const { entry, hash } of entries) {
    if (entry.seq !== draft.seq + 1) throw logCorrupt(`entry ${entry.seq} does not follow ${draft.seq}`);
    if (Buffer.compare(entry.prev, draft.hash) !== 0) {
      throw logCorrupt(`entry ${entry.seq} does not continue the chain`);
    }
    foldFact(draft, entry);
    draft.seq = entry.seq;
    draft.hash = hash;
  }
  return draft;
}

function foldFact(draft: FoldDraft, entry: LogEntry): void {
  switch (entry.type) {
    case 'open':
      foldOpen(draft, entry);
      break;
    case 'commit':
      foldCommit(draft, entry);
      break;
    case 'abort':
      foldAbort(draft, entry);
      break;
    case 'forget':
      foldForget(draft, entry);
      break;
    case 'hold':
      foldHold(draft, entry);
      break;
    case 'release':
      foldRelease(draft, entry);
      break;
    case 'collect':
      foldCollect(draft, entry);
      break;
    case 'keys': // What was added is an object that speaks for itself; what was removed may be there still.
      for (const slot of entry.removed) draft.removedSlots.add(slot);
      break;
    case 'config':
      for (const pack of entry.quarantine) draft.quarantined.set(packKey(pack), pack);
      for (const pack of entry.release) draft.quarantined.delete(packKey(pack));
  }
}
