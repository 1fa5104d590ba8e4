import type { LogEntry } from '../../../../src/repository/format/log-entry.ts';
import type { LogState } from '../../../../src/repository/format/log-state.ts';
import { folding, type HashedEntry } from '../../../../src/repository/log/fold.ts';

/** The state after one more entry, without waiting. */
export function applyEntry(state: LogState, entry: LogEntry, hash: Uint8Array): LogState {
  return applyEntries(state, [{ entry, hash }]);
}

export function applyEntries(state: LogState, entries: Iterable<HashedEntry>): LogState {
  return countedFold(state, entries).state;
}

/** With the number of times that the fold would have let others run. */
export function countedFold(state: LogState, entries: Iterable<HashedEntry>): { state: LogState; turns: number } {
  const work = folding(state, entries);
  for (let turns = 0; ; turns++) {
    const step = work.next();
    if (step.done) return { state: step.value, turns };
  }
}
