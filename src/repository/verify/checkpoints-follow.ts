import { isDeepStrictEqual } from 'node:util';
import type { AbortOptions } from '../../common/abort.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { runInSteps, StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { logCorrupt } from '../format/corrupt.ts';
import { EMPTY_STATE, type LogState } from '../format/log-state.ts';
import { checkpointKey } from '../format/object-keys.ts';
import { foldEntries, type HashedEntry } from '../log/fold.ts';
import type { LogListing } from '../log/log-listing.ts';
import { fetchCheckpoint, type LogSource } from '../log/log-source.ts';

/**
 * An opening believes a checkpoint that names the right entry, and reads nothing below it. So somebody who can write
 * checkpoints could hide backups, or have a collector condemn what they need, without touching one entry.
 */

const CHECKPOINTS_AHEAD = 2;

/**
 * Compares checkpoints with what entries say: each one in the reach of these entries that an opening would believe has
 * to be what folding gives from the beginning of the log, or from the checkpoint before it.
 *
 * @param listing - names the checkpoints
 * @param entries - without a gap, oldest first
 * @returns the state that the entries give; `undefined` where nothing says what is below them
 * @throws `LOG_CORRUPT`, and what the target gives
 */
export async function checkCheckpoints(
  source: LogSource,
  listing: LogListing,
  entries: readonly HashedEntry[],
  options: AbortOptions,
): Promise<LogState | undefined> {
  const [first] = entries;
  if (first === undefined) return EMPTY_STATE;
  const below = first.entry.seq - 1;
  const last = below + entries.length;
  let state = below === 0 ? EMPTY_STATE : undefined;
  const advance = async (seq: number) => {
    if (state !== undefined) state = await foldEntries(state, entries.slice(state.seq - below, seq - below));
    return state;
  };
  const hashOf = (seq: number) => (seq === below ? first.entry.prev : entries[seq - below - 1]?.hash);
  const within = listing.checkpoints.filter((seq) => seq >= below && seq <= last).reverse();
  const fetch = (seq: number) => fetchCheckpoint(source, seq, listing.checkpointAt(seq), options);
  for await (const found of mapConcurrently(within, fetch, CHECKPOINTS_AHEAD)) {
    options.signal?.throwIfAborted();
    // One that can't be read, or names another entry, nobody believes: it is only a cache.
    if (found === undefined || Buffer.compare(found.hash, hashOf(found.seq) as Uint8Array) !== 0) continue;
    const folded = await advance(found.seq);
    if (folded !== undefined && !(await runInSteps(isSame(found, folded)))) {
      const advice = 'delete that object: it is only a cache';
      throw logCorrupt(`object ${checkpointKey(found.seq)} says something else than the entries do: ${advice}`);
    }
    state ??= found;
  }
  return advance(last);
}

/** Whether two states say the same. Only backups have an order. */
function* isSame(one: LogState, other: LogState): Steps<boolean> {
  const steps = new StepCounter();
  const parts = Object.keys(other) as (keyof LogState)[];
  for (const part of parts) {
    const [ours, theirs] = [one[part], other[part]];
    if (!(ours instanceof Map) || !(theirs instanceof Map)) {
      if (!isDeepStrictEqual(ours, theirs)) return false;
      continue;
    }
    if (ours.size !== theirs.size) return false;
    for (const [key, value] of ours) {
      if (steps.isDue()) yield;
      if (!isDeepStrictEqual(value, theirs.get(key))) return false;
    }
  }
  const order = other.backups.keys();
  for (const id of one.backups.keys()) if (order.next().value !== id) return false;
  return true;
}
