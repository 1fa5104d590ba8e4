import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { runInSteps, StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { logCorrupt } from '../format/decode-values.ts';
import type { Floor, PackRecord } from '../format/log-entry.ts';
import { EMPTY_STATE, floorSeq, type LogState } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { EntriesAhead } from '../log/entries-ahead.ts';
import { foldEntries, type HashedEntry } from '../log/fold.ts';
import { lowestFork } from '../log/listed-entries.ts';
import { LogChain } from '../log/log-chain.ts';
import { checkNotAhead, LogListing } from '../log/log-listing.ts';
import { fetchCheckpoint, forked, keyOfCheckpoint, type LogSource, truncated } from '../log/log-source.ts';
import { isDoubt } from '../log/looking.ts';
import { isLost, PageStore } from '../log/pages/page-store.ts';
import { isSameState } from '../log/same-state.ts';
import { readWholeLog, stateAtFloor, type WholeLog } from '../log/whole-log.ts';
import { readMark, saveMark } from './earlier-verifications.ts';

/**
 * Verifies the log itself, and gathers what it says of packs. That includes checkpoints: an opening believes a checkpoint that
 * names the right entry, and reads nothing below it. So an attacker that can write checkpoints could hide backups, or have a
 * collector condemn what they need, without touching one entry.
 */

/** What the log says of packs, by their keys. */
export type LoggedPacks = Map<string, Pick<PackRecord, 'size' | 'sha256'>>;

/** The part of the log that was read. */
export interface LoggedPart {
  readonly packs: LoggedPacks;
  /** Whether a checkpoint can't be read: then there should be another one. */
  readonly lacksCheckpoint: boolean;
  /** To be called once the verification has ended: notes which part of the log was read. */
  save(): Promise<void>;
}

/**
 * Reads the log's objects, checks every link, compares tails and checkpoints with the entries, and resolves with what the
 * state and the entries say about packs. It reads the whole log, or the new entries and a fraction of those that were verified before.
 *
 * @throws `LOG_CORRUPT`, `LOG_TRUNCATED`, `LOG_FORKED`, and what the target throws
 */
export async function readLoggedPacks(
  { log }: Pick<RepositoryContext, 'log'>,
  target: CloudTarget,
  { fraction, signal }: AbortOptions & { readonly fraction: number },
): Promise<LoggedPart> {
  const ahead = new EntriesAhead(target);
  const source = { ...log.reader.source, target: ahead };
  const startReading = (lowest: number) => {
    ahead.lowest = lowest;
  };
  // The state that this repository works with came from tails and a checkpoint.
  const { seq, hash, floor } = log.state;
  const { base, parts, listing, save } =
    fraction < 1
      ? await readPartOfLog(source, floor, fraction, startReading, { signal })
      : partsOf(await readWholeLog(source, floor, { signal }));
  let lacksCheckpoint = false;
  const onDamaged = () => {
    lacksCheckpoint = true;
  };
  const ofFloor = floor && { seq: floor.seq, key: keyOfCheckpoint(source, floor.seq, floor.sha256) };
  for (const part of parts) await checkCheckpoints(source, listing, base, part, { signal, onDamaged, ofFloor });
  if (listing.newest < seq) throw truncated(seq);
  const entries = parts.flat();
  const known = entries.find(({ entry }) => entry.seq === seq);
  if (known !== undefined && Buffer.compare(known.hash, hash) !== 0) {
    throw logCorrupt(`entry ${seq} is not the one that this repository was opened with`);
  }
  const packs = await runInSteps(knownPacks(await log.withPages('all', { signal })));
  for (const { entry } of entries) {
    for (const pack of packsOf(entry)) packs.set(packKey(pack), { size: pack.size, sha256: pack.sha256 });
  }
  return { packs, lacksCheckpoint, save };
}

/** Packs whose entries may have been deleted, as the state has them. */
function* knownPacks({ known }: LogState): Steps<LoggedPacks> {
  const steps = new StepCounter();
  const packs: LoggedPacks = new Map();
  for (const [session, { packs: ofSession }] of known) {
    for (const [random, facts] of ofSession) {
      if (steps.isDue()) yield;
      packs.set(packKey({ session, random }), facts);
    }
  }
  return packs;
}

/** Reads the log. What is missing of it may have been deleted meanwhile, below a new floor: then it is read again. */
export async function readLogWhile<T>(
  { log }: Pick<RepositoryContext, 'log'>,
  catchUp: () => Promise<LogState>,
  read: () => Promise<T>,
): Promise<T> {
  for (;;) {
    const floor = floorSeq(log.state);
    try {
      return await read();
    } catch (error) {
      if (!isDoubt(error) || floorSeq(await catchUp()) === floor) throw error;
    }
  }
}

/** The part of a log that was read, and how to note it once the verification has ended well. */
interface PartOfLog {
  /** The state below the lowest entry that is left of the log. */
  readonly base: LogState;
  /** Without gaps, oldest first; the last part ends with the newest entry. */
  readonly parts: readonly (readonly HashedEntry[])[];
  /** The listing that was used, which names the checkpoints. */
  readonly listing: LogListing;
  save(): Promise<void>;
}

/**
 * Reads every entry that no verification has read yet, down to one that was read, and a fraction of those below, in turn. Each
 * link is checked; the link of a part's lowest entry is checked with the part that comes before it.
 *
 * @param source - its target reads entries ahead
 * @param floor - of the newest state
 * @param startReading - called with the number of the lowest entry of each part, before it is read
 * @throws `LOG_CORRUPT`, `LOG_TRUNCATED`, `LOG_FORKED`, and what the target throws
 */
async function readPartOfLog(
  source: LogSource,
  floor: Floor | undefined,
  fraction: number,
  startReading: (lowest: number) => void,
  options: AbortOptions,
): Promise<PartOfLog> {
  const { target, logKey } = source;
  const listing = await LogListing.read(source, options);
  await checkNotAhead(source, listing, options);
  const { newest } = listing;
  if (newest === 0) return { base: EMPTY_STATE, parts: [], listing, save: async () => {} };
  const base = await stateAtFloor(source, listing, floor, options);
  const fork = await lowestFork(source, listing, new Set(), { ...options, above: base.seq });
  if (fork !== undefined) throw forked(fork);
  const beginning = base.seq + 1;
  const mark = await readMark(target, logKey, options);
  const seen = mark !== undefined && mark.seq <= newest && mark.seq >= beginning ? mark : undefined;
  const lowest = seen === undefined ? beginning : Math.min(newest, seen.seq + 1);
  startReading(lowest);
  const recent = await LogChain.from(source, listing, newest, { ...options, usesTails: false });
  await recent.reach(lowest, options);
  const end = { seq: newest, hash: recent.hashOf(newest) as Uint8Array };
  const found = seen === undefined ? undefined : recent.hashOf(seen.seq);
  if (seen === undefined || found === undefined || Buffer.compare(found, seen.hash) !== 0) {
    // There is no note about the entries below, or it was made for another log.
    await recent.reach(beginning, options);
    const save = () => saveMark(target, logKey, { ...end, next: 1 }, options);
    return { base, parts: [recent.since(base.seq)], listing, save };
  }
  const first = seen.next > seen.seq ? beginning : Math.max(beginning, seen.next);
  const last = Math.min(seen.seq, first + Math.ceil(fraction * (seen.seq - base.seq)));
  startReading(first);
  const old = await LogChain.from(source, listing, last, { ...options, usesTails: false });
  await old.reach(first, options);
  if (last === seen.seq && Buffer.compare(old.hashOf(last) as Uint8Array, seen.hash) !== 0) {
    throw new BackupError('LOG_CORRUPT', `entry ${last} of the log is not the one that was verified before`);
  }
  const save = () => saveMark(target, logKey, { ...end, next: last }, options);
  return { base, parts: [old.since(base.seq), recent.since(seen.seq)], listing, save };
}

function partsOf({ base, entries, listing }: WholeLog): PartOfLog {
  return { base, parts: [entries], listing, save: async () => {} };
}

function packsOf(entry: HashedEntry['entry']) {
  if (entry.type === 'commit') return entry.packs;
  return entry.type === 'collect' ? entry.newPacks : [];
}

const CHECKPOINTS_AHEAD = 2;

interface AuditOptions extends AbortOptions {
  /** The checkpoint of the floor. */
  readonly ofFloor: { readonly seq: number; readonly key: string } | undefined;
  /** Is called where no checkpoint of a number can be read. */
  readonly onDamaged: () => void;
}

/**
 * Compares checkpoints with the entries: each checkpoint of these entries that an opening would believe has to be what
 * folding results in, from the floor or beginning of the log or from the checkpoint before it.
 *
 * @param listing - names the checkpoints
 * @param base - the state of the floor, or that before the first entry
 * @param entries - without a gap, oldest first
 * @returns the state that the entries result in; `undefined` if nothing says what is below them
 * @throws `LOG_CORRUPT`, and what the target throws
 */
async function checkCheckpoints(
  source: LogSource,
  listing: LogListing,
  base: LogState,
  entries: readonly HashedEntry[],
  { ofFloor, ...options }: AuditOptions,
): Promise<LogState | undefined> {
  const [first] = entries;
  if (first === undefined) return base;
  const below = first.entry.seq - 1;
  const last = below + entries.length;
  let state = below === base.seq ? base : undefined;
  const advance = async (seq: number) => {
    if (state !== undefined) state = await foldEntries(state, entries.slice(state.seq - below, seq - below));
    return state;
  };
  const hashOf = (seq: number) => (seq === below ? first.entry.prev : entries[seq - below - 1]?.hash);
  const pages = new PageStore(source);
  const whole = (paged: LogState) => pages.takeIn(paged, 'all', options);
  const numbers = listing.checkpoints.filter((seq) => seq >= below && seq <= last).reverse();
  const all = numbers.flatMap((seq) => listing.checkpointsAt(seq).map((named) => ({ seq, named })));
  // Others of the floor's number mean nothing: no opening believes them, and a prune deletes them.
  // @mutation floors-other-is-not-verified
  const within = all.filter(({ seq, named }) => seq !== ofFloor?.seq || named.key === ofFloor.key);
  const readable = new Set<number>();
  const fetch = async ({ seq, named }: (typeof within)[number]) => {
    const found = await fetchCheckpoint(source, seq, named, options);
    if (found !== undefined) readable.add(seq);
    return found;
  };
  for await (const found of mapConcurrently(within, fetch, CHECKPOINTS_AHEAD)) {
    options.signal?.throwIfAborted();
    // An opening does not believe a checkpoint that can't be read or names another entry: it is only a cache.
    if (found === undefined || Buffer.compare(found.state.hash, hashOf(found.state.seq) as Uint8Array) !== 0) continue;
    const { seq } = found.state;
    const foundWhole = await whole(found.state).catch((error: unknown) => {
      // Of a process that slept while its pages were deleted: an opening passes it over (L11).
      if (!isLost(error)) throw error;
      return undefined;
    });
    if (foundWhole === undefined) continue;
    const folded = await advance(seq);
    if (folded !== undefined && !(await runInSteps(isSameState(foundWhole, await whole(folded))))) {
      const advice = 'delete that object: it is only a cache';
      throw logCorrupt(`object ${found.key} says something else than the entries do: ${advice}`);
    }
    state ??= found.state;
  }
  // In single-writer mode another one of its number is as good.
  if (numbers.some((seq) => !readable.has(seq))) options.onDamaged();
  return advance(last);
}
