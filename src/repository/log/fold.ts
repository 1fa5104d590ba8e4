import { runInSteps, type Steps } from '../../common/yield-to-event-loop.ts';
import { nextAnchors } from '../format/anchors.ts';
import { logCorrupt } from '../format/decode-values.ts';
import type { DecodedEntry } from '../format/entry-codec.ts';
import { requireReaderFeatures } from '../format/features.ts';
import type { LogEntry } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import { foldForget, foldHold, foldRelease } from './entries/backups.ts';
import { foldCollect } from './entries/collect.ts';
import { foldCommit } from './entries/commit.ts';
import { foldConfig } from './entries/config.ts';
import { FoldDraft } from './entries/fold-draft.ts';
import { foldKeys } from './entries/keys.ts';
import { foldAbort, foldOpen } from './entries/sessions.ts';

/** An entry and the hash of its object. */
export type HashedEntry = Pick<DecodedEntry, 'entry' | 'hash'>;

/**
 * Computes the state after more entries, which are given oldest first. Other work of this process runs in between.
 *
 * @throws `LOG_CORRUPT` when an entry does not continue the chain, or says what no correct writer can have said: every
 * writer had folded the log through the entry before. `REPOSITORY_UNSUPPORTED` if the state asks more of readers than this
 * program knows
 */
export function foldEntries(state: LogState, entries: Iterable<HashedEntry>): Promise<LogState> {
  return runInSteps(folding(state, entries));
}

/** As {@link foldEntries}, step by step. */
export function* folding(state: LogState, entries: Iterable<HashedEntry>): Steps<LogState> {
  const draft = new FoldDraft(state);
  for (const { entry, hash } of entries) {
    if (draft.steps.isDue()) yield;
    if (entry.seq !== draft.state.seq + 1) {
      throw logCorrupt(`entry ${entry.seq} does not follow entry ${draft.state.seq}`);
    }
    if (Buffer.compare(entry.prev, draft.state.hash) !== 0) {
      throw logCorrupt(`entry ${entry.seq} does not continue the chain: it names another hash of the entry before`);
    }
    yield* foldFact(draft, entry, hash);
    draft.state.seq = entry.seq;
    draft.state.hash = hash;
    draft.state.anchors = nextAnchors(draft.state.anchors, entry.seq, hash);
  }
  // @mutation features-stop-readers
  requireReaderFeatures(draft.state.readerFeatures);
  return draft.state;
}

function foldFact(draft: FoldDraft, entry: LogEntry, hash: Uint8Array): Steps<void> {
  switch (entry.type) {
    case 'open':
      return foldOpen(draft, entry, hash);
    case 'commit':
      return foldCommit(draft, entry);
    case 'abort':
      return foldAbort(draft, entry);
    case 'forget':
      return foldForget(draft, entry);
    case 'hold':
      return foldHold(draft, entry);
    case 'release':
      return foldRelease(draft, entry);
    case 'collect':
      return foldCollect(draft, entry);
    case 'keys':
      return foldKeys(draft, entry);
    case 'config':
      return foldConfig(draft, entry);
  }
}
