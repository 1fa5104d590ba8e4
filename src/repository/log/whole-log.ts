import type { AbortOptions } from '../../common/abort.ts';
import { logCorrupt } from '../format/decode-values.ts';
import { MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import type { Floor } from '../format/log-entry.ts';
import { EMPTY_STATE, type LogState } from '../format/log-state.ts';
import type { HashedEntry } from './fold.ts';
import { lowestFork } from './listed-entries.ts';
import { LogChain } from './log-chain.ts';
import { checkMode, checkNotAhead, LogListing } from './log-listing.ts';
import { fetchCheckpoint, floorMissing, forked, keyOfCheckpoint, type LogSource } from './log-source.ts';

/** All that is left of a log, each entry with its place in the chain confirmed. */
export interface WholeLog {
  /** The state of the floor's checkpoint; that before the first entry if nothing was ever deleted. */
  readonly base: LogState;
  /** Those above it, oldest first. Only folding them shows whether they are consistent with each other. */
  readonly entries: HashedEntry[];
  /** The listing by which they were read. It also names the checkpoints. */
  readonly listing: LogListing;
}

/**
 * Reads every entry of the log above its floor, checks every link of the chain, and compares each tail with the entries that it
 * repeats.
 *
 * @param floor - as the newest state has it. Later entries may set a higher one, and the log may be deleted up to that.
 * @throws `LOG_TRUNCATED`, `LOG_CORRUPT`, `LOG_FORKED`, and what the target throws
 */
export async function readWholeLog(
  source: LogSource,
  floor: Floor | undefined,
  options: AbortOptions = {},
): Promise<WholeLog> {
  const listing = await LogListing.read(source, options);
  while (listing.hasMore) await listing.readMore(options);
  await checkMode(source, listing, options);
  await checkNotAhead(source, listing, options);
  const { newest } = listing;
  if (newest === 0) return { base: EMPTY_STATE, entries: [], listing };
  const base = await stateAtFloor(source, listing, floor, options);
  checkSizes(listing, base.seq);
  const fork = await lowestFork(source, listing, new Set(), { ...options, above: base.seq });
  if (fork !== undefined) throw forked(fork);
  const chain = await LogChain.from(source, listing, newest, { ...options, usesTails: false });
  await chain.reach(base.seq + 1, options);
  if (Buffer.compare(chain.hashOf(base.seq) as Uint8Array, base.hash) !== 0) {
    throw logCorrupt(`checkpoint ${base.seq}, below which everything was deleted, is of another log`);
  }
  return { base, entries: chain.since(base.seq), listing };
}

/**
 * What the log begins with: the state of the floor's checkpoint, or that before the first entry.
 *
 * @throws `LOG_TRUNCATED` if that checkpoint is not there as it was, and what the target throws
 */
export async function stateAtFloor(
  source: LogSource,
  listing: LogListing,
  floor: Floor | undefined,
  options: AbortOptions,
): Promise<LogState> {
  if (floor === undefined) return EMPTY_STATE;
  const { seq, sha256 } = floor;
  await listing.reach(seq, options);
  const key = keyOfCheckpoint(source, seq, sha256);
  const listed = listing.checkpointsAt(seq).find((each) => each.key === key);
  const found = listed && (await fetchCheckpoint(source, seq, listed, options));
  if (found === undefined || Buffer.compare(found.sha256, sha256) !== 0) throw floorMissing(source, floor);
  return found.state;
}

/** Checks the sizes of all entries before any of them is requested. */
function checkSizes(listing: LogListing, floor: number): void {
  for (const seq of listing.numbers) {
    if (seq <= floor) continue;
    const large = listing.entriesAt(seq).find(({ size }) => size > MAX_ENTRY_BYTES);
    if (large !== undefined) throw logCorrupt(`object ${large.key} is larger than an entry may be`);
  }
}
