import { runInSteps, type Steps } from '../../common/yield-to-event-loop.ts';
import { logCorrupt } from '../format/corrupt.ts';
import type { LogEntry, LogFactOf } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { foldCollect } from './entries/fold-collect.ts';
import { foldCommit } from './entries/fold-commit.ts';
import { FoldDraft } from './entries/fold-draft.ts';
import { foldAbort, foldForget, foldHold, foldOpen, foldRelease } from './entries/fold-sessions.ts';

/** An entry and the hash of its object. */
export interface HashedEntry {
  readonly entry: LogEntry;
  readonly hash: Uint8Array;
}

/**
 * The state after more entries, oldest first. Large ones are folded in turns with everything else of this process.
 *
 * @throws `LOG_CORRUPT` when an entry does not continue the chain, or says what no correct writer can have said: every
 * writer had folded the log through the entry before.
 */
export function foldEntries(state: LogState, entries: Iterable<HashedEntry>): Promise<LogState> {
  return runInSteps(folding(state, entries));
}

/** As {@link foldEntries}, step by step. */
export function* folding(state: LogState, entries: Iterable<HashedEntry>): Steps<LogState> {
  const draft = new FoldDraft(state);
  for (const { entry, hash } of entries) {
    if (draft.steps.isDue()) yield;
    if (entry.seq !== draft.seq + 1) throw logCorrupt(`entry ${entry.seq} does not follow ${draft.seq}`);
    if (Buffer.compare(entry.prev, draft.hash) !== 0) {
      throw logCorrupt(`entry ${entry.seq} does not continue the chain`);
    }
    yield* foldFact(draft, entry);
    draft.seq = entry.seq;
    draft.hash = hash;
  }
  return draft.result();
}

function* foldFact(draft: FoldDraft, entry: LogEntry): Steps<void> {
  switch (entry.type) {
    case 'open':
      yield* draft.own(['sessions', 'pinned', 'fenced']);
      return foldOpen(draft, entry);
    case 'commit':
      yield* draft.own(['backups', 'heads', 'known', 'sessions', 'pinned']);
      return yield* foldCommit(draft, entry);
    case 'abort':
      yield* draft.own(['sessions', 'pinned']);
      return foldAbort(draft, entry);
    case 'forget':
      yield* draft.own(['backups', 'pinned']);
      return yield* foldForget(draft, entry);
    case 'hold':
      yield* draft.own(['backups']);
      return foldHold(draft, entry);
    case 'release':
      yield* draft.own(['backups']);
      return foldRelease(draft, entry);
    case 'collect':
      yield* draft.own(['known', 'condemned', 'condemnedSessions', 'relocations', 'formerRelocations']);
      yield* draft.own(['quarantined', 'sessions', 'pinned', 'fenced']);
      return yield* foldCollect(draft, entry);
    case 'keys':
      yield* draft.own(['keySlots', 'removedSlots']);
      return foldKeys(draft, entry);
    case 'config':
      yield* draft.own(['quarantined']);
      for (const pack of entry.quarantine) draft.quarantined.set(packKey(pack), pack);
      for (const pack of entry.release) draft.quarantined.delete(packKey(pack));
  }
}

/** Removed is removed: a name is not used again, also where somebody saw the object and removed it before its entry came. */
function foldKeys(draft: FoldDraft, { added, removed }: LogFactOf<'keys'>): void {
  for (const slot of removed) {
    draft.removedSlots.add(slot);
    draft.keySlots.delete(slot);
  }
  for (const slot of added) {
    // @mutation removed-stays-removed
    if (draft.removedSlots.has(slot)) continue;
    draft.keySlots.add(slot);
  }
}
