import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { Floor } from '../format/log-entry.ts';
import { openObject, sealObject } from '../format/log-object.ts';
import { EMPTY_STATE, type LogState } from '../format/log-state.ts';
import { VERIFIED_LOG_KEY } from '../format/object-keys.ts';
import type { HashedEntry } from '../log/fold.ts';
import { lowestFork } from '../log/listed-entries.ts';
import { LogChain } from '../log/log-chain.ts';
import { checkNotAhead, LogListing } from '../log/log-listing.ts';
import { forked, type LogSource } from '../log/log-source.ts';
import { stateAtFloor } from '../log/whole-log.ts';

/** Which part of the log earlier verifications have read: `docs/FORMAT.md`, section 10. It is a cache and may be lost. */

const VERSION = 1;
const BODY_BYTES = 1 + 6 + 32 + 6;
const LABEL = 'cow1 verified log';
/** The most bytes of the object; a sealed body is a little longer than a plain one. */
const MAX_BYTES = 1024;

/** Up to which entry the log was read in full once, and which old entry is to be read again next. */
interface LogMark {
  readonly seq: number;
  /** Of entry `seq`. */
  readonly hash: Uint8Array;
  readonly next: number;
}

/** The part of a log that was read, and how to note it once the verification has ended well. */
export interface PartOfLog {
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
export async function readPartOfLog(
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
  const found = seen === undefined ? undefined : recent.hashOf(seen.seq);
  if (seen === undefined || found === undefined || Buffer.compare(found, seen.hash) !== 0) {
    // There is no note about the entries below, or it was made for another log.
    await recent.reach(beginning, options);
    const save = () => saveMark(target, logKey, newest, recent, 1, options);
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
  const save = () => saveMark(target, logKey, newest, recent, last, options);
  return { base, parts: [old.since(base.seq), recent.since(seen.seq)], listing, save };
}

async function readMark(
  target: CloudTarget,
  logKey: Uint8Array | undefined,
  { signal }: AbortOptions,
): Promise<LogMark | undefined> {
  try {
    const info = await target.stat(VERIFIED_LOG_KEY, { signal });
    if (info === undefined || info.size === 0 || info.size > MAX_BYTES) return undefined;
    const bytes = await getBounded(target, VERIFIED_LOG_KEY, info.size, { signal });
    return bytes && decode(openObject(logKey, LABEL, 0, bytes));
  } catch (error) {
    signal?.throwIfAborted();
    if (BackupError.is(error, 'LOG_CORRUPT') || BackupError.is(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
}

/** A failure to write is ignored: then more is read the next time. */
async function saveMark(
  target: CloudTarget,
  logKey: Uint8Array | undefined,
  seq: number,
  chain: LogChain,
  next: number,
  { signal }: AbortOptions,
): Promise<void> {
  const body = Buffer.alloc(BODY_BYTES);
  body[0] = VERSION;
  body.writeUIntLE(seq, 1, 6);
  body.set(chain.hashOf(seq) as Uint8Array, 7);
  body.writeUIntLE(next, 39, 6);
  try {
    await target.put(VERIFIED_LOG_KEY, sealObject(logKey, LABEL, 0, body), { signal });
  } catch {
    signal?.throwIfAborted();
  }
}

function decode(body: Uint8Array): LogMark | undefined {
  if (body.length !== BODY_BYTES || body[0] !== VERSION) return undefined;
  const view = Buffer.from(body.buffer, body.byteOffset, body.length);
  return { seq: view.readUIntLE(1, 6), hash: body.slice(7, 39), next: Math.max(1, view.readUIntLE(39, 6)) };
}
