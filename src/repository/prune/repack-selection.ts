import { StepCounter, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { isKnown, type LogState, sparedSessions } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';
import { packTables } from '../log/entries/known-names.ts';
import type { Marking } from './collect.ts';
import { isLocked } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';

/** A pack that is worth repacking. */
export interface Candidate {
  readonly pack: PackName;
  readonly size: number;
  /** Bytes of it that are live, as estimated by the marking. */
  readonly liveBytes: number;
  /** If more bytes than this turn out to be live, the pack is not worth repacking. */
  readonly mostBytes: number;
}

/** Packs up to this size are small. A small incremental backup leaves one. */
const SMALL_BYTES = 2 ** 20;
/**
 * Small packs are merged once there are this many. Each merged pack leaves a table of its own, which costs its readers a
 * request, so a few small packs are better left alone.
 */
const MERGED_AT_A_TIME = 64;
/** Each candidate needs a line of the log entry, and memory for its table during the run. */
const MAX_CANDIDATES = 4096;

/**
 * Selects the packs to repack: sparse packs, the sparsest first, and small packs if there are many. Selects none if that would
 * free too little.
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
    if (!marking.live.has(key) || isLocked(pack.retainUntil, run.ages.now) || !mayMove(pack)) continue;
    const liveBytes = Math.min(pack.size, marking.bytes.get(key) ?? 0);
    const candidate = { pack: { session: pack.session, random: pack.random }, size: pack.size, liveBytes };
    const mostBytes = repackBelow * pack.size;
    if (liveBytes < mostBytes) sparse.push({ ...candidate, mostBytes });
    else if (pack.size <= SMALL_BYTES) small.push({ ...candidate, mostBytes: pack.size });
  }
  sparse.sort((a, b) => a.liveBytes / a.size - b.liveBytes / b.size);
  const chosen = within(sparse, maxRepackBytes);
  const gain = chosen.reduce((sum, { size, liveBytes }) => sum + size - liveBytes, 0);
  const merged = small.length >= MERGED_AT_A_TIME ? within(small, maxRepackBytes - liveBytesOf(chosen)) : [];
  if (gain < minRepackGainBytes && merged.length === 0) return [];
  return [...chosen, ...merged].sort((a, b) => (packKey(a.pack) < packKey(b.pack) ? -1 : 1)); // In the order in which they were written.
}

/**
 * P9: whether a state allows to repack a pack. The pack has to be known, must not belong to an open or adopted session, must not
 * hold a table of packs, and must not be in quarantine.
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

export function liveBytesOf(candidates: readonly Candidate[]): number {
  return candidates.reduce((sum, { liveBytes }) => sum + liveBytes, 0);
}
