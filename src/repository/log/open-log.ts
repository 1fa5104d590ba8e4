import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { logCorrupt } from '../format/decode-values.ts';
import { MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import type { LogEntry } from '../format/log-entry.ts';
import { EMPTY_STATE, type LogState } from '../format/log-state.ts';
import { foldEntries, type HashedEntry } from './fold.ts';
import { LogChain } from './log-chain.ts';
import { LogListing } from './log-listing.ts';
import { checkNotAhead, fetchCheckpoint, forked, type LogPosition, type LogSource, rolledBack } from './log-source.ts';
import { type Prefetched, PrefetchedTarget } from './prefetch.ts';
import { lowestFork } from './sound-entries.ts';

/** What opening is to know. */
export interface OpenLogOptions extends AbortOptions {
  /** The first page of `log/`, where it was read already. */
  readonly listing?: LogListing | undefined;
  /** Answers that were asked for before the key was known. */
  readonly prefetched?: Prefetched | undefined;
  /** What this host remembers of the log (P11). */
  readonly remembered?: LogPosition | undefined;
  /**
   * What to do about a log whose newest entries are damaged, or that two writers have forked (P13): refuse it, or open what
   * comes before, for reading only. @defaultValue 'refuse'
   */
  readonly onDamage?: 'refuse' | 'read-only' | undefined;
}

/** Why a log was opened as of an entry that is not its newest one. @public */
export interface LogDamage {
  /** The entry as of which it was opened; 0 for none. */
  readonly openedAsOf: number;
  /** The newest object that is named as an entry of the log. */
  readonly newestListed: number;
  /** What is wrong: `LOG_CORRUPT` or `LOG_FORKED`. */
  readonly error: BackupError;
}

/** A log that was read to its newest entry. */
export interface OpenedLog {
  readonly state: LogState;
  /** Entries since the checkpoint that was believed, newest first. */
  readonly tail: readonly LogEntry[];
  /** Sequence of that checkpoint; 0 for none. */
  readonly checkpoint: number;
  /** Bytes of the newest entry's object; 0 where there is none. */
  readonly newestBytes: number;
  /** What the listing said of that object. */
  readonly newestTag: string | undefined;
  /** Why it is not the whole log. Nothing may be appended then. */
  readonly damage: LogDamage | undefined;
}

/**
 * Reads a log: one listing, then the newest entry and the newest checkpoint together. More only where the entry's tail
 * does not reach the checkpoint, the checkpoint is not to be believed, or what the host remembers is older than both.
 *
 * @throws `LOG_TRUNCATED`, `LOG_CORRUPT`, `LOG_FORKED`, `REPOSITORY_UNSUPPORTED`, `REPOSITORY_ROLLED_BACK`, and what the
 * target gives
 */
export async function openLog(given: LogSource, options: OpenLogOptions = {}): Promise<OpenedLog> {
  const { prefetched } = options;
  const source = prefetched ? { ...given, target: new PrefetchedTarget(given.target, prefetched) } : given;
  try {
    return await openListed(source, options);
  } catch (error) {
    if (!BackupError.is(error, 'LOG_TRUNCATED')) throw error;
  }
  // Of what was listed something was not there. It takes two listings to call that damage.
  return openListed(given, { ...options, listing: undefined });
}

async function openListed(source: LogSource, options: OpenLogOptions): Promise<OpenedLog> {
  const { remembered, onDamage = 'refuse' } = options;
  const listing = await soundListing(source, options);
  const fork = await lowestFork(source, listing, new Set(), options);
  let error = fork === undefined ? undefined : forked(fork);
  if (error !== undefined && onDamage === 'refuse') throw error;
  if (remembered !== undefined && remembered.seq > listing.newest) {
    throw rolledBack(`the log ends at ${listing.newest}, and this host remembers entry ${remembered.seq}`);
  }
  const damageAsOf = (openedAsOf: number) =>
    error === undefined ? undefined : { openedAsOf, newestListed: listing.newest, error };
  // Before a fork there is one history; which of the branches holds, only the host can say.
  for await (const seq of numbersBelow(listing, fork ?? Number.POSITIVE_INFINITY, options)) {
    try {
      return { ...(await openAsOf(source, listing, seq, options)), damage: damageAsOf(seq) };
    } catch (caught) {
      // The last sound entry: what does not authenticate, or does not follow, is none.
      if (!BackupError.is(caught, 'LOG_CORRUPT') || onDamage === 'refuse') throw caught;
      error ??= caught;
    }
  }
  if (error !== undefined && fork === undefined) throw error;
  return { state: EMPTY_STATE, tail: [], checkpoint: 0, newestBytes: 0, newestTag: undefined, damage: damageAsOf(0) };
}

/** Numbers at which objects are named as entries, newest first, as long as they are asked for. */
async function* numbersBelow(listing: LogListing, limit: number, options: AbortOptions): AsyncGenerator<number> {
  for (let below = limit; ; ) {
    const numbers = listing.numbers.filter((seq) => seq < below);
    for (const seq of numbers) {
      yield seq;
      below = seq;
    }
    if (!listing.hasMore) return;
    await listing.readMore(options);
  }
}

/** The log through one entry. */
async function openAsOf(
  source: LogSource,
  listing: LogListing,
  newest: number,
  options: OpenLogOptions,
): Promise<Omit<OpenedLog, 'damage'>> {
  const { remembered } = options;
  const checkpoints = new Checkpoints(source, listing, newest);
  // The second round. A checkpoint's failure is looked at when its turn comes. Below damage it is enough to ask for it then.
  if (newest === listing.newest) checkpoints.fetchFirst(options);
  const chain = await LogChain.from(source, listing, newest, options);
  listing.checkWhole(newest);
  const { state, checkpoint } = await believe(chain, checkpoints, options);
  // @mutation remembered-is-in-the-log
  if (remembered !== undefined && remembered.seq > 0 && remembered.seq <= newest) {
    await chain.reach(remembered.seq + 1, options);
    const hash = chain.hashOf(remembered.seq);
    if (hash === undefined || Buffer.compare(hash, remembered.hash) !== 0) {
      throw rolledBack(`entry ${remembered.seq} of the log is not what this host remembers`);
    }
  }
  const since = chain.since(checkpoint).map(({ entry }) => entry);
  const newestTag = listing.tagOf(newest);
  return { state, tail: since.reverse(), checkpoint, newestBytes: chain.topBytes, newestTag };
}

/** A listing of which the newest checkpoint is not ahead of the newest entry. */
async function soundListing(source: LogSource, options: OpenLogOptions): Promise<LogListing> {
  const { signal } = options;
  let listing = options.listing ?? (await LogListing.read(source, { signal }));
  // An entry and its checkpoint may have come while the listing was being read, and only the second be in it.
  for (let again = 0; isAhead(listing) && again < 2; again++) listing = await LogListing.read(source, { signal });
  await checkNotAhead(source, listing, { signal });
  return listing;
}

function isAhead({ newest, checkpoints: [first = 0] }: LogListing): boolean {
  return first > newest;
}

/**
 * The state by the newest checkpoint that continues the chain, or else by every entry there is.
 *
 * Rule P11 (decision 023): the chain must reach the checkpoint, and its hash must be the one that follows from the chain.
 */
async function believe(
  chain: LogChain,
  checkpoints: Checkpoints,
  options: AbortOptions,
): Promise<{ state: LogState; checkpoint: number }> {
  for (;;) {
    const found = await checkpoints.next(options);
    if (found === undefined) break;
    await chain.reach(found.seq + 1, options);
    const hash = chain.hashOf(found.seq);
    // @mutation checkpoint-continues-the-chain
    if (hash === undefined || Buffer.compare(hash, found.hash) !== 0) continue;
    try {
      return { state: await foldEntries(found, chain.since(found.seq)), checkpoint: found.seq };
    } catch (error) {
      // Perhaps it is the checkpoint that is wrong. If not, the whole log says the same.
      if (!BackupError.is(error, 'LOG_CORRUPT')) throw error;
    }
  }
  await chain.reach(1, options);
  return { state: await foldEntries(EMPTY_STATE, chain.since(0)), checkpoint: 0 };
}

/** The checkpoints of a listing that can be read, newest first. */
class Checkpoints {
  readonly #source: LogSource;
  readonly #listing: LogListing;
  readonly #newest: number;
  #at = 0;
  #first: { readonly seq: number; readonly answer: Promise<LogState | undefined> } | undefined;

  constructor(source: LogSource, listing: LogListing, newest: number) {
    this.#source = source;
    this.#listing = listing;
    this.#newest = newest;
  }

  fetchFirst(options: AbortOptions): void {
    const seq = this.#listing.checkpoints.find((each) => each <= this.#newest);
    if (seq === undefined) return;
    const answer = fetchCheckpoint(this.#source, seq, this.#listing.checkpointAt(seq), options);
    answer.catch(() => {}); // `next` sees it.
    this.#first = { seq, answer };
  }

  async next(options: AbortOptions): Promise<LogState | undefined> {
    const { checkpoints } = this.#listing;
    for (;;) {
      while (this.#at < checkpoints.length) {
        const seq = checkpoints[this.#at++] as number;
        if (seq > this.#newest) continue; // Above a fork.
        const isFirst = this.#first?.seq === seq;
        const fetched = isFirst
          ? this.#first?.answer
          : fetchCheckpoint(this.#source, seq, this.#listing.checkpointAt(seq), options);
        const state = await fetched;
        if (state !== undefined) return state;
      }
      if (!this.#listing.hasMore) return undefined;
      await this.#listing.readMore(options);
    }
  }
}

/**
 * Reads every object of the log and holds every link: what opening does not look at. Also where tails say otherwise
 * than the entries themselves, that shows.
 *
 * @returns the state that the entries alone give
 * @throws `LOG_TRUNCATED`, `LOG_CORRUPT`, `LOG_FORKED`, and what the target gives
 */
export async function verifyLog(source: LogSource, options: AbortOptions = {}): Promise<LogState> {
  return foldEntries(EMPTY_STATE, (await readWholeLog(source, options)).entries);
}

/** Everything that stands in a log. */
export interface WholeLog {
  /** Oldest first. Whether they make sense together only folding them tells. */
  readonly entries: HashedEntry[];
  /** What it was read by: it names the checkpoints. */
  readonly listing: LogListing;
}

/** Reads every entry of the log and holds every link, and each tail against the entries that it repeats. @throws as {@link verifyLog} */
export async function readWholeLog(source: LogSource, options: AbortOptions = {}): Promise<WholeLog> {
  const listing = await LogListing.read(source, options);
  while (listing.hasMore) await listing.readMore(options);
  checkSizes(listing);
  const fork = await lowestFork(source, listing, new Set(), options);
  if (fork !== undefined) throw forked(fork);
  await checkNotAhead(source, listing, options);
  const { newest } = listing;
  if (newest === 0) return { entries: [], listing };
  const chain = await LogChain.from(source, listing, newest, { ...options, usesTails: false });
  await chain.reach(1, options);
  return { entries: chain.since(0), listing };
}

/** Before anything is read: entries are on their way long before their turn comes. */
function checkSizes(listing: LogListing): void {
  for (const seq of listing.numbers) {
    const large = listing.entriesAt(seq).find(({ size }) => size > MAX_ENTRY_BYTES);
    if (large !== undefined) throw logCorrupt(`object ${large.key} is larger than an entry may be`);
  }
}
