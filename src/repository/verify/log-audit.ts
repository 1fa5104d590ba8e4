import { isDeepStrictEqual } from 'node:util';
import type { AbortOptions } from '../../common/abort.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { runInSteps, StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget, GetOptions, ListOptions, ObjectInfo } from '../../targets/cloud-target.ts';
import { ForwardingTarget } from '../../targets/decorators/forwarding-target.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { logCorrupt } from '../format/decode-values.ts';
import { MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import type { PackRecord } from '../format/log-entry.ts';
import { EMPTY_STATE, type LogState } from '../format/log-state.ts';
import { checkpointKey, entryKey, packKey, parseLogKey } from '../format/object-keys.ts';
import { foldEntries, type HashedEntry } from '../log/fold.ts';
import type { LogListing } from '../log/log-listing.ts';
import { fetchCheckpoint, type LogSource, truncated } from '../log/log-source.ts';
import { readWholeLog, type WholeLog } from '../log/open-log.ts';
import { type PartOfLog, readPartOfLog } from './part-of-log.ts';

/**
 * Verifies the log itself, and gathers what it says of packs. That includes checkpoints: an opening believes a checkpoint that
 * names the right entry, and reads nothing below it. So an attacker that can write checkpoints could hide backups, or have a
 * collector condemn what they need, without touching one entry.
 */

const ENTRIES_AHEAD = 8;

/** What the log says of packs, by their keys. */
export type LoggedPacks = Map<string, Pick<PackRecord, 'size' | 'sha256'>>;

/** The part of the log that was read. */
export interface LoggedPart {
  readonly packs: LoggedPacks;
  /** To be called once the verification has ended: notes which part of the log was read. */
  save(): Promise<void>;
}

/**
 * Reads the log's objects, checks every link, compares tails and checkpoints with the entries, and resolves with what the
 * entries say about packs. It reads the whole log, or the new entries and a fraction of those that were verified before.
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
  const { seq, hash } = log.state;
  const { parts, listing, save } =
    fraction < 1
      ? await readPartOfLog(source, fraction, startReading, { signal })
      : partsOf(await readWholeLog(source, { signal }));
  for (const part of parts) await checkCheckpoints(source, listing, part, { signal });
  if (listing.newest < seq) throw truncated(seq);
  const entries = parts.flat();
  const known = entries.find(({ entry }) => entry.seq === seq);
  if (known !== undefined && Buffer.compare(known.hash, hash) !== 0) {
    throw logCorrupt(`entry ${seq} is not the one that this repository was opened with`);
  }
  const packs: LoggedPacks = new Map();
  for (const { entry } of entries) {
    for (const pack of packsOf(entry)) packs.set(packKey(pack), { size: pack.size, sha256: pack.sha256 });
  }
  return { packs, save };
}

function partsOf({ entries, listing }: WholeLog): PartOfLog {
  return { parts: [entries], listing, save: async () => {} };
}

function packsOf(entry: HashedEntry['entry']) {
  if (entry.type === 'commit') return entry.packs;
  return entry.type === 'collect' ? entry.newPacks : [];
}

/** Requests the next entries early: a log is read from its newest entry down, and the key of each follows from the one before. */
class EntriesAhead extends ForwardingTarget {
  /** Entries below this are not requested. */
  lowest = 1;
  readonly #coming = new Map<string, Promise<Uint8Array>>();
  /** Bytes by key, as they were listed. */
  readonly #sizes = new Map<string, number>();

  constructor(target: CloudTarget) {
    super(target, 'the log');
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    for await (const info of super.forwardList(prefix, options)) {
      this.#sizes.set(info.key, info.size);
      yield info;
    }
  }

  protected override forwardGet(key: string, options: GetOptions): Promise<Uint8Array> {
    const answer = this.#coming.get(key) ?? super.forwardGet(key, options);
    this.#coming.delete(key);
    const parsed = parseLogKey(key);
    if (parsed?.kind === 'entry' && parsed.suffix === undefined) {
      for (let seq = parsed.seq - 1; seq >= Math.max(this.lowest, parsed.seq - ENTRIES_AHEAD); seq--) {
        const below = entryKey(seq);
        const length = this.#sizes.get(below) ?? 0;
        if (this.#coming.has(below) || length === 0 || length > MAX_ENTRY_BYTES) continue;
        const coming = super.forwardGet(below, { ...options, range: { offset: 0, length } });
        coming.catch(() => {}); // It is reported when its turn comes.
        this.#coming.set(below, coming);
      }
    }
    return answer;
  }
}

const CHECKPOINTS_AHEAD = 2;

/**
 * Compares checkpoints with the entries: each checkpoint of these entries that an opening would believe has to be what
 * folding results in, from the beginning of the log or from the checkpoint before it.
 *
 * @param listing - names the checkpoints
 * @param entries - without a gap, oldest first
 * @returns the state that the entries result in; `undefined` if nothing says what is below them
 * @throws `LOG_CORRUPT`, and what the target throws
 */
async function checkCheckpoints(
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
    // An opening does not believe a checkpoint that can't be read or names another entry: it is only a cache.
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

/** Whether two states are equal. Only backups have an order. */
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
