import { decodePlain, encodePlain } from '../../common/bounded-msgpack.ts';
import { BackupError } from '../../common/errors.ts';
import { hedgedHex } from '../../common/hedged-random.ts';
import { isBytes } from '../../common/realms.ts';
import { logCorrupt } from './corrupt.ts';
import { factOf, factPlain } from './fact-codec.ts';
import type { LogEntry, LogFact } from './log-entry.ts';
import { bytesOf, checkVersion, idBytes, idOf, listOf, mapOf, seqOf, timeOf } from './plain-values.ts';
import { objectHash, openObject, sealObject } from './sealed-object.ts';

/** Entries and their objects: `docs/FORMAT.md`, section 8. */

/** Most bytes of an entry's object. */
export const MAX_ENTRY_BYTES = 8 * 1024 * 1024;
/** Most entries of a tail. */
export const MAX_TAIL = 64;
/** A writer leaves out the oldest entries of a tail that would be longer: it is there to save requests, not to cost bytes. */
export const MAX_TAIL_BYTES = 1024 * 1024;

/** An entry as it stands in its object. */
export interface DecodedEntry {
  readonly entry: LogEntry;
  /** Newest first: the entries from `seq - 1` down. */
  readonly tail: readonly LogEntry[];
  /** SHA-256 of the object. */
  readonly hash: Uint8Array;
  /** Of the object. */
  readonly sizeBytes: number;
}

/** Seal, the name of the tail and the head of its array: less than this. */
const MAX_OVERHEAD = 64;
const NO_HASH = new Uint8Array(32);

/**
 * The object of an entry. What it would be decoded to comes with it: an entry stays for ever, so nothing is written that
 * would not be read.
 *
 * @param logKey - 32 bytes, of an encrypted repository
 * @param tail - newest first; what does not fit is left out at its old end
 * @param formatCopy - of a plain repository: the body of its `format`, which nothing else has a copy of
 * @throws `LOG_CORRUPT` for an entry that no reader would take, `LIMIT_EXCEEDED` for one that is too large
 */
export function encodeEntry(
  logKey: Uint8Array | undefined,
  entry: LogEntry,
  tail: readonly LogEntry[],
  formatCopy?: Uint8Array,
): DecodedEntry & { readonly bytes: Uint8Array<ArrayBuffer> } {
  const plain = entryPlain(entry);
  const copy = formatCopy === undefined ? {} : { format: formatCopy };
  const kept = keptTail(tail, MAX_ENTRY_BYTES - MAX_OVERHEAD - encodePlain({ ...plain, ...copy }).length);
  const bytes = sealObject(logKey, 'cow1 log', entry.seq, encodePlain({ ...plain, ...copy, tail: kept }));
  if (bytes.length > MAX_ENTRY_BYTES) {
    throw new BackupError('LIMIT_EXCEEDED', `a log entry of ${bytes.length} bytes is too large: list packs in tables`);
  }
  return { ...decodeEntry(logKey, entry.seq, bytes), bytes };
}

function keptTail(tail: readonly LogEntry[], room: number): unknown[] {
  const kept: unknown[] = [];
  let left = Math.min(MAX_TAIL_BYTES, room);
  for (const earlier of tail.slice(0, MAX_TAIL)) {
    const plain = entryPlain(earlier);
    left -= encodePlain(plain).length;
    if (left < 0) break;
    kept.push(plain);
  }
  return kept;
}

/**
 * @throws `LOG_CORRUPT` unless this is the entry of number `seq`, whole and valid in every field; `REPOSITORY_UNSUPPORTED`
 * for one of a version or type that is not known, also in its tail
 */
export function decodeEntry(logKey: Uint8Array | undefined, seq: number, bytes: Uint8Array): DecodedEntry {
  const what = `entry ${seq}`;
  if (bytes.length > MAX_ENTRY_BYTES) throw logCorrupt(`${what} is larger than it may be`);
  const fields = mapOf(decodePlain(openObject(logKey, 'cow1 log', seq, bytes), 'LOG_CORRUPT'), what);
  const entry = entryOf(fields);
  if (entry.seq !== seq) throw logCorrupt(`${what} says that it is number ${entry.seq}`);
  const tail = listOf(fields.tail, `the tail of ${what}`, entryOf, MAX_TAIL);
  let below = seq;
  for (const earlier of tail) if (earlier.seq !== --below) throw logCorrupt(`the tail of ${what} leaves an entry out`);
  return { entry, tail, hash: objectHash(bytes), sizeBytes: bytes.length };
}

/** The copy of `format` in an entry of a plain log; `undefined` for what is no such entry, or has none. */
export function formatCopyOf(bytes: Uint8Array): Uint8Array | undefined {
  try {
    const { format } = mapOf(decodePlain(openObject(undefined, 'cow1 log', 0, bytes), 'LOG_CORRUPT'), 'an entry');
    return isBytes(format) ? format : undefined;
  } catch (error) {
    if (BackupError.is(error, 'LOG_CORRUPT')) return undefined;
    throw error;
  }
}

/** A commit id that copies of one process memory share only for an entry that says the same. */
export function newCommitId(logKey: Uint8Array | undefined, entry: Omit<LogEntry, 'commitId'> & LogFact): string {
  return hedgedHex(16, logKey, 'cow1 commit id', encodePlain(entryPlain({ ...entry, commitId: '0'.repeat(32) })));
}

export function entryPlain(entry: LogEntry): Record<string, unknown> {
  const { seq, prev, commitId, at } = entry;
  return { v: 1, seq, prev, id: idBytes(commitId), at, ...factPlain(entry) };
}

function entryOf(value: unknown): LogEntry {
  const fields = mapOf(value, 'an entry');
  checkVersion(fields.v, 'an entry of the log');
  const head = {
    seq: seqOf(fields.seq, "an entry's number"),
    prev: bytesOf(fields.prev, 32, "an entry's link"),
    commitId: idOf(fields.id, "an entry's commit id"),
    at: timeOf(fields.at, "an entry's time"),
  };
  if (head.seq === 1 && Buffer.compare(head.prev, NO_HASH) !== 0) throw logCorrupt('the first entry follows another');
  return { ...head, ...factOf(fields) };
}
