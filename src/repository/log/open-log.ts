import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget, GetOptions } from '../../targets/cloud-target.ts';
import { ForwardingTarget } from '../../targets/decorators/forwarding-target.ts';
import { ANCHOR_BYTES, type Anchor, anchorsIn, haveSameAnchor } from '../format/anchors.ts';
import { MAX_ENTRY_BYTES, type TailEntry } from '../format/entry-codec.ts';
import { EMPTY_STATE, floorSeq, type LogState } from '../format/log-state.ts';
import type { LogWeights } from './checkpoint-due.ts';
import { Checkpoints, stateOf } from './checkpoints.ts';
import { lowestFork } from './listed-entries.ts';
import { LogChain } from './log-chain.ts';
import { checkMode, checkNeverWritten, checkNotAhead, LogListing } from './log-listing.ts';
import { forked, type LogPosition, type LogSource, type NamedObject, rolledBack } from './log-source.ts';
import { changed, type Sight, untilTwoAgree } from './looking.ts';

/** Requests that are on their way, by object key. */
export type Prefetched = ReadonlyMap<string, Promise<Uint8Array>>;

export interface OpenLogOptions extends AbortOptions {
  /** The first page of `log/`, if it has been read already. */
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
  /** Entries since the checkpoint that was used, newest first: those that fit into a tail. */
  readonly tail: readonly TailEntry[];
  /** Number of that checkpoint; 0 if there was none. */
  readonly checkpoint: number;
  /** The size of the newest entry's object; 0 if there is none. */
  readonly newestBytes: number;
  /** The tag of that object in the listing. */
  readonly newestTag: string | undefined;
  /** By the listing that was used. */
  readonly weights: LogWeights;
  /** Why this is not the whole log. Nothing may be appended then. */
  readonly damage: LogDamage | undefined;
}

/**
 * Requests the newest entry and the newest checkpoint of a listing, and the entries in between that tails do not reach. Only
 * decrypting them needs the key, so the key slot is requested at the same time, and opening takes two rounds of requests.
 */
export function prefetchLog(target: CloudTarget, listing: LogListing, { signal }: AbortOptions = {}): Prefetched {
  const checkpoint = listing.checkpointBelow(listing.newest);
  const wanted: NamedObject[] = listing
    .entriesAhead(listing.newest, checkpoint + 1)
    .map(({ named }) => named)
    .filter(({ size }) => size > 0 && size <= MAX_ENTRY_BYTES);
  if (listing.newest === checkpoint) wanted.push(...listing.entriesAt(checkpoint).slice(0, 1));
  wanted.push(...listing.checkpointsAt(checkpoint).slice(0, 1));
  const answers = wanted.map(({ key, size, ifTag }): [string, Promise<Uint8Array>] => {
    const answer = target.get(key, { range: { offset: 0, length: size }, ifTag, signal });
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
  const { prefetched, onDamage = 'refuse' } = options;
  const first = prefetched ? { ...given, target: new PrefetchedTarget(given.target, prefetched) } : given;
  const look = (sight: Sight, nth: number) => {
    return nth === 0 ? openNewest(first, options, sight) : openNewest(given, { ...options, listing: undefined }, sight);
  };
  try {
    return await untilTwoAgree(look);
  } catch (error) {
    const isShown = BackupError.is(error, 'LOG_CORRUPT') || BackupError.is(error, 'LOG_FORKED');
    if (!isShown) throw error;
    if (onDamage === 'refuse') throw refusedDamage(error);
    return await openBelow(given, error, options);
  }
}

/** The error with which damage keeps a log from being opened. That of a fork says what to do itself. */
function refusedDamage(error: BackupError): BackupError {
  if (!BackupError.is(error, 'LOG_CORRUPT')) return error;
  const advice =
    'restore that object from a copy of the store; until then, opening with readOnly: true shows the part before the damage';
  return new BackupError(error.code, `${error.message}: ${advice}`, { cause: error.cause });
}

async function openNewest(source: LogSource, options: OpenLogOptions, sight: Sight): Promise<OpenedLog> {
  const listing = await soundListing(source, options);
  const { newest } = listing;
  sight.newest = newest;
  checkNotBefore(listing, options);
  if (newest === 0) return { ...NOTHING, damage: undefined };
  const opened = await openAsOf(source, listing, newest, options).catch(async (error: unknown) => {
    if (!BackupError.is(error, 'LOG_FORKED')) throw error;
    throw forked((await lowestFork(source, listing, new Set(), options)) ?? newest);
  });
  const fork = await lowestFork(source, listing, new Set(), { ...options, above: floorSeq(opened.state) });
  if (fork !== undefined) throw forked(fork);
  return { ...opened, damage: undefined };
}

/** Opens a log whose newest entries are damaged or forked, as of the newest entry below. */
async function openBelow(source: LogSource, error: BackupError, options: OpenLogOptions): Promise<OpenedLog> {
  const listing = await soundListing(source, { ...options, listing: undefined });
  checkNotBefore(listing, options);
  const damageAsOf = (openedAsOf: number) => ({ openedAsOf, newestListed: listing.newest, error });
  const strays = new Set<string>();
  // Before a fork there is one history. Only the host can say which of the branches to keep.
  let below = Number.POSITIVE_INFINITY;
  for await (const seq of numbers(listing, options)) {
    if (seq >= below) continue;
    try {
      const opened = await openAsOf(source, listing, seq, options);
      const fork = await lowestFork(source, listing, strays, { ...options, above: floorSeq(opened.state) });
      if (fork === undefined || fork > seq) return { ...opened, damage: damageAsOf(seq) };
      below = fork;
    } catch (caught) {
      // This entry does not authenticate, or does not continue the chain: look for the newest one that does.
      if (!BackupError.is(caught, 'LOG_CORRUPT') && !BackupError.is(caught, 'LOG_FORKED')) throw caught;
    }
  }
  if (!BackupError.is(error, 'LOG_FORKED')) throw error;
  return { ...NOTHING, damage: damageAsOf(0) };
}

const NOTHING = {
  ...{ state: EMPTY_STATE, tail: [], checkpoint: 0, newestBytes: 0, newestTag: undefined },
  weights: { checkpointBytes: 0, sinceBytes: 0 },
};

/** @throws `REPOSITORY_ROLLED_BACK` */
function checkNotBefore({ newest }: LogListing, { remembered }: OpenLogOptions): void {
  if (remembered === undefined || remembered.seq <= newest) return;
  throw rolledBack(`the log ends at ${newest}, and this host remembers entry ${remembered.seq}`);
}

/** Numbers for which there is an object with the key of an entry, newest first. */
async function* numbers(listing: LogListing, options: AbortOptions): AsyncGenerator<number> {
  for (let below = Number.POSITIVE_INFINITY; ; ) {
    for (const seq of listing.numbers.filter((each) => each < below)) {
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
  await listing.reachCheckpoint(options);
  const checkpoints = new Checkpoints(source, listing, newest);
  // The second round of requests. Below damage it is enough to request a checkpoint when it is needed.
  if (newest === listing.newest) checkpoints.fetchFirst(options);
  const through = listing.checkpointBelow(newest) + 1;
  const chain = await LogChain.from(source, listing, newest, { ...options, through });
  if (newest === listing.newest) await checkStillNewest(source, listing, options);
  listing.checkWhole(newest);
  const { state, checkpoint } = await stateOf(chain, checkpoints, options);
  if (remembered !== undefined && remembered.seq > 0 && remembered.seq <= newest) {
    await checkPosition({ ...remembered, anchors: anchorsOf(remembered) }, chain, state, options);
  }
  const tail = await runInSteps(chain.tail(checkpoint));
  const shown = { newestBytes: chain.topBytes, newestTag: listing.tagOf(newest), weights: listing.weightsAt(newest) };
  return { state, tail, checkpoint, ...shown };
}

function anchorsOf({ seq, hash, anchors }: LogPosition): readonly Anchor[] {
  const own = [{ seq, hash: hash.subarray(0, ANCHOR_BYTES) }];
  return (anchors && anchorsIn(anchors, seq, hash)) ?? own;
}

/** A position, and the anchors by which it is recognised after its entry was deleted. */
export interface KnownPosition {
  readonly seq: number;
  readonly hash: Uint8Array;
  readonly anchors: readonly Anchor[];
}

/**
 * Checks that a log continues what is known of it: exactly above its floor, and below it by the newest anchor that both have
 * (P11, L7). If they have none, nothing is known.
 *
 * @param chain - leads to the newest state, and is read further if the check needs that
 * @throws `REPOSITORY_ROLLED_BACK`, and what reading throws
 */
export async function checkPosition(
  known: KnownPosition,
  chain: LogChain,
  state: LogState,
  options: AbortOptions,
): Promise<void> {
  const { seq, hash } = known;
  if (seq >= floorSeq(state)) {
    await chain.reach(seq + 1, options);
    const found = chain.hashOf(seq);
    if (found !== undefined && Buffer.compare(found, hash) === 0) return;
  } else {
    // @mutation anchors-are-compared
    if (haveSameAnchor(known.anchors, state.anchors) !== false) return;
  }
  // @mutation remembered-is-in-the-log
  throw rolledBack(`entry ${seq} of the log is not what this host remembers`);
}

/**
 * L3: where the store gives no tags, what was read may be a later object than the listed one, at a number that was deleted in
 * between. Then the log has gone on, which another listing shows.
 */
export async function checkStillNewest(source: LogSource, listing: LogListing, options: AbortOptions): Promise<void> {
  // @mutation newest-is-listed-again
  if (source.mode === 'single-writer' || listing.entriesAt(listing.newest)[0]?.ifTag !== undefined) return;
  const again = await LogListing.read(source, { signal: options.signal });
  if (again.newest !== listing.newest) throw changed(`entry ${listing.newest} of the log`);
}

/** A listing whose newest checkpoint is not ahead of its newest entry. */
async function soundListing(source: LogSource, options: OpenLogOptions): Promise<LogListing> {
  const { signal } = options;
  let listing = options.listing ?? (await LogListing.read(source, { signal }));
  // An entry and its checkpoint may have arrived while the listing was read, which may then show only the checkpoint.
  for (let again = 0; isAhead(listing) && again < 2; again++) listing = await LogListing.read(source, { signal });
  await checkMode(source, listing, { signal });
  await checkNotAhead(source, listing, { signal });
  await checkNeverWritten(source, listing, { signal });
  return listing;
}

function isAhead({ newest, checkpoints: [first = 0] }: LogListing): boolean {
  return first > newest;
}
