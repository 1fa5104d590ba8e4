import { StepCounter, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { isKnown, type LogState, sparedSessions } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';
import { packTables } from '../log/entries/known-names.ts';
import type { Marking } from './collect.ts';
import { isLocked } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';

/** A pack that is to be moved. */
export interface Candidate {
  readonly pack: PackName;
  readonly size: number;
  /** How much of it is needed, as far as marking tells. */
  readonly liveBytes: number;
  /** Not worth moving where it turns out that more is needed: marking estimates. */
  readonly mostBytes: number;
}

/** Packs up to this are small: a small incremental leaves one. */
const SMALL_BYTES = 2 ** 20;
/**
 * So many small ones are merged into one. Each keeps a table of its own, which costs its readers a request: few are better
 * left as they are.
 */
const MERGED_AT_A_TIME = 64;
/** Each of them takes a line of a log entry, and its table memory for the time being. */
const MAX_CANDIDATES = 4096;

/**
 * Which packs are worth moving: those that are sparse, the sparsest first, and small ones once there are many. None where
 * that would gain too little.
 */
export async function selectCandidates(run: PruneRun, state: LogState, marking: Marking): Promise<Candidate[]> {
  const { repackBelow, maxRepackBytes, minRepackGainBytes } = run.options;
  if (repackBelow === 0 || maxRepackBytes === 0) return [];
  const sparse: Candidate[] = [];
  const small: Candidate[] = [];
  const mayMove = movable(state);
  const steps = new StepCounter();
  for (const pack of marking.listing.packs) {
    if (steps.isDue()) await yieldToEventLoop();
    const key = packKey(pack);
    if (!marking.live.has(key) || isLocked(pack.retainUntil, run.now) || !mayMove(pack)) continue;
    const liveBytes = Math.min(pack.size, marking.bytes.get(key) ?? 0);
    const candidate = { pack: { session: pack.session, random: pack.random }, size: pack.size, liveBytes };
    const mostBytes = repackBelow * pack.size;
    if (liveBytes < mostBytes) sparse.push({ ...candidate, mostBytes });
    else if (pack.size <= SMALL_BYTES) small.push({ ...candidate, mostBytes: pack.size });
  }
  sparse.sort((a, b) => a.liveBytes / a.size - b.liveBytes / b.size);
  const chosen = within(sparse, maxRepackBytes);
  const gain = chosen.reduce((sum, { size, liveBytes }) => sum + size - liveBytes, 0);
  const merged = small.length >= MERGED_AT_A_TIME ? within(small, maxRepackBytes - moved(chosen)) : [];
  if (gain < minRepackGainBytes && merged.length === 0) return [];
  return [...chosen, ...merged].sort((a, b) => (packKey(a.pack) < packKey(b.pack) ? -1 : 1)); // As they were written.
}

/**
 * P9: whether a pack may be moved as far as a state says: it is known, of no open or adopted session, holds no table of
 * packs, and is not suspected to be damaged.
 */
export function movable(state: LogState): (pack: PackName) => boolean {
  const spared = sparedSessions(state);
  const holders = new Set(packTables(state).map(({ location }) => packKey(location.pack)));
  return (pack) => {
    const key = packKey(pack);
    return isKnown(state, pack) && !spared.has(pack.session) && !holders.has(key) && !state.quarantined.has(key);
  };
}

function within(candidates: readonly Candidate[], mostBytes: number): Candidate[] {
  let left = mostBytes;
  return candidates.slice(0, MAX_CANDIDATES).filter(({ liveBytes }) => {
    left -= liveBytes;
    return left >= 0;
  });
}

function moved(candidates: readonly Candidate[]): number {
  return candidates.reduce((sum, { liveBytes }) => sum + liveBytes, 0);
}
