import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget, GetOptions } from '../../targets/cloud-target.ts';
import { ForwardingTarget } from '../../targets/decorators/forwarding-target.ts';
import { logCorrupt } from '../format/decode-values.ts';
import { MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import type { LogEntry } from '../format/log-entry.ts';
import { EMPTY_STATE, type LogState } from '../format/log-state.ts';
import { foldEntries, type HashedEntry } from './fold.ts';
import { LogChain } from './log-chain.ts';
import { checkMode, checkNotAhead, LogListing } from './log-listing.ts';
import {
  fetchCheckpoint,
  forked,
  type LogPosition,
  type LogSource,
  type NamedObject,
  rolledBack,
} from './log-source.ts';
import { lowestFork } from './sound-entries.ts';

/** Requests that are on their way, by object key. */
export type Prefetched = ReadonlyMap<string, Promise<Uint8Array>>;

export interface OpenLogOptions extends AbortOptions {
  /** The first page of `log/`, if it was read already. */
  readonly listing?: LogListing | undefined;
  /** What {@link prefetchLog} has requested. */
  readonly prefetched?: Prefetched | undefined;
  /** The position of the log that this host remembers (P11). */
  readonly remembered?: LogPosition | undefined;
  /**
   * What to do if the newest entries are damaged, or two writers have forked the log (P13): refuse to open it, or open the
   * part before the damage for reading only. @defaultValue 'refuse'
   */
  readonly onDamage?: 'refuse' | 'read-only' | undefined;
}

/** Why a log was opened as of an entry that is not the newest one. @public */
export interface LogDamage {
  /** Number of the entry as of which the log was opened; 0 if no entry could be used. */
  readonly openedAsOf: number;
  /** Number of the newest object that has the key of a log entry. */
  readonly newestListed: number;
  /** What is wrong: `LOG_CORRUPT` or `LOG_FORKED`. */
  readonly error: BackupError;
}

export interface OpenedLog {
  readonly state: LogState;
  /** Entries since the checkpoint that was used, newest first. */
  readonly tail: readonly LogEntry[];
  /** Number of that checkpoint; 0 if there was none. */
  readonly checkpoint: number;
  /** The size of the newest entry's object; 0 if there is none. */
  readonly newestBytes: number;
  /** The tag of that object in the listing. */
  readonly newestTag: string | undefined;
  /** Why this is not the whole log. Nothing may be appended then. */
  readonly damage: LogDamage | undefined;
}

/**
 * Requests the newest entry and the newest checkpoint of a listing. Only decrypting them needs the key, so the key slot is
 * requested at the same time, and opening takes two rounds of requests.
 */
export function prefetchLog(target: CloudTarget, listing: LogListing, { signal }: AbortOptions = {}): Prefetched {
  const newest = listing.entriesAt(listing.newest).filter(({ size }) => size > 0 && size <= MAX_ENTRY_BYTES);
  const wanted: NamedObject[] = newest.slice(0, 1);
  const checkpoint = listing.checkpoints.find((seq) => seq <= listing.newest);
  if (checkpoint !== undefined) wanted.push(listing.checkpointAt(checkpoint));
  const answers = wanted.map(({ key, size }): [string, Promise<Uint8Array>] => {
    const answer = target.get(key, { range: { offset: 0, length: size }, signal });
    answer.catch(() => {}); // It is reported to the caller that asks for this object.
    return [key, answer];
  });
  return new Map(answers);
}

/** Gives each prefetched answer once, and passes every other request on. */
class PrefetchedTarget extends ForwardingTarget {
  readonly #answers: Map<string, Promise<Uint8Array>>;

  constructor(inner: CloudTarget, answers: Prefetched) {
    super(inner, 'this prefetched target');
    this.#answers = new Map(answers);
  }

  protected override forwardGet(key: string, options: GetOptions): ReturnType<CloudTarget['get']> {
    const answer = this.#answers.get(key);
    if (answer === undefined) return this.inner.get(key, options);
    this.#answers.delete(key);
    return answer as ReturnType<CloudTarget['get']>;
  }
}

/**
 * Reads a log: one listing, then the newest entry and the newest checkpoint at the same time. It reads more only if the
 * entry's tail does not reach the checkpoint, the checkpoint can't be used, or the remembered position is older than both.
 *
 * @throws `LOG_TRUNCATED`, `LOG_CORRUPT`, `LOG_FORKED`, `REPOSITORY_UNSUPPORTED`, `REPOSITORY_ROLLED_BACK`, and what the
 * target throws
 */
export async function openLog(given: LogSource, options: OpenLogOptions = {}): Promise<OpenedLog> {
  const { prefetched } = options;
  const source = prefetched ? { ...given, target: new PrefetchedTarget(given.target, prefetched) } : given;
  try {
    return await openListed(source, options);
  } catch (error) {
    if (!BackupError.is(error, 'LOG_TRUNCATED')) throw error;
  }
  // Something that was listed was not there. Only a second listing shows that it is gone.
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
  // Before a fork there is one history. Only the host can say which of the branches to keep.
  for await (const seq of numbersBelow(listing, fork ?? Number.POSITIVE_INFINITY, options)) {
    try {
      return { ...(await openAsOf(source, listing, seq, options)), damage: damageAsOf(seq) };
    } catch (caught) {
      // This entry does not authenticate, or does not continue the chain: look for the newest one that does.
      if (!BackupError.is(caught, 'LOG_CORRUPT') || onDamage === 'refuse') throw caught;
      error ??= caught;
    }
  }
  if (error !== undefined && fork === undefined) throw error;
  return { state: EMPTY_STATE, tail: [], checkpoint: 0, newestBytes: 0, newestTag: undefined, damage: damageAsOf(0) };
}

/** Numbers for which there is an object with the key of an entry, newest first. */
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

/** Reads the log through one entry. */
async function openAsOf(
  source: LogSource,
  listing: LogListing,
  newest: number,
  options: OpenLogOptions,
): Promise<Omit<OpenedLog, 'damage'>> {
  const { remembered } = options;
  const checkpoints = new Checkpoints(source, listing, newest);
  // The second round of requests. Below damage it is enough to request a checkpoint when it is needed.
  if (newest === listing.newest) checkpoints.fetchFirst(options);
  const chain = await LogChain.from(source, listing, newest, options);
  listing.checkWhole(newest);
  const { state, checkpoint } = await stateOf(chain, checkpoints, options);
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

/** A listing whose newest checkpoint is not ahead of its newest entry. */
async function soundListing(source: LogSource, options: OpenLogOptions): Promise<LogListing> {
  const { signal } = options;
  let listing = options.listing ?? (await LogListing.read(source, { signal }));
  // An entry and its checkpoint may have arrived while the listing was read, which may then show only the checkpoint.
  for (let again = 0; isAhead(listing) && again < 2; again++) listing = await LogListing.read(source, { signal });
  await checkMode(source, listing, { signal });
  await checkNotAhead(source, listing, { signal });
  return listing;
}

function isAhead({ newest, checkpoints: [first = 0] }: LogListing): boolean {
  return first > newest;
}

/**
 * Computes the state from the newest checkpoint that the chain confirms, or else from all entries.
 *
 * P11 (decision 023): the chain must reach the checkpoint, and must have the checkpoint's hash at its number.
 */
async function stateOf(
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
      // If the checkpoint is not what is wrong, folding the whole log fails in the same way.
      if (!BackupError.is(error, 'LOG_CORRUPT')) throw error;
    }
  }
  await chain.reach(1, options);
  return { state: await foldEntries(EMPTY_STATE, chain.since(0)), checkpoint: 0 };
}

/** The readable checkpoints of a listing, newest first. */
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
    answer.catch(() => {}); // `next` reports it.
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

/** All entries of a log, each with its place in the chain confirmed. */
export interface WholeLog {
  /** Oldest first. Only folding them shows whether they are consistent with each other. */
  readonly entries: HashedEntry[];
  /** The listing by which they were read. It also names the checkpoints. */
  readonly listing: LogListing;
}

/**
 * Reads every entry of the log, checks every link of the chain, and compares each tail with the entries that it repeats.
 *
 * @throws `LOG_TRUNCATED`, `LOG_CORRUPT`, `LOG_FORKED`, and what the target throws
 */
export async function readWholeLog(source: LogSource, options: AbortOptions = {}): Promise<WholeLog> {
  const listing = await LogListing.read(source, options);
  while (listing.hasMore) await listing.readMore(options);
  checkSizes(listing);
  const fork = await lowestFork(source, listing, new Set(), options);
  if (fork !== undefined) throw forked(fork);
  await checkMode(source, listing, options);
  await checkNotAhead(source, listing, options);
  const { newest } = listing;
  if (newest === 0) return { entries: [], listing };
  const chain = await LogChain.from(source, listing, newest, { ...options, usesTails: false });
  await chain.reach(1, options);
  return { entries: chain.since(0), listing };
}

/** Checks the sizes of all entries before any of them is requested. */
function checkSizes(listing: LogListing): void {
  for (const seq of listing.numbers) {
    const large = listing.entriesAt(seq).find(({ size }) => size > MAX_ENTRY_BYTES);
    if (large !== undefined) throw logCorrupt(`object ${large.key} is larger than an entry may be`);
  }
}
