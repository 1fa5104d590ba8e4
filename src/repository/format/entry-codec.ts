import { BackupError } from '../../common/errors.ts';
import { hedgedHex } from '../../common/hedged-random.ts';
import { sha256InSteps } from '../../common/long-bytes.ts';
import { decodeFieldsInSteps } from '../../common/msgpack-reader.ts';
import { encodeMsgpackInSteps, MsgpackArray, MsgpackEncoded, MsgpackMap } from '../../common/msgpack-writer.ts';
import { isBytes } from '../../common/realms.ts';
import type { Steps } from '../../common/yield-to-event-loop.ts';
import { checkVersion, idBytes, logCorrupt, logValue } from './decode-values.ts';
import { factIn, factPlain } from './fact-codec.ts';
import type { LogEntry, LogFact } from './log-entry.ts';
import { openingObject, sealingObject } from './log-object.ts';
import { compressContent, readContent } from './packed-content.ts';

/**
 * Log entries and their objects: `docs/FORMAT.md`, section 8. An entry may have several megabytes, so all of this works in
 * steps, for `runInSteps`.
 */

/** Most bytes of an entry's object. */
export const MAX_ENTRY_BYTES = 8 * 1024 * 1024;
/** Types of entries that name the backups of one call, as many as its caller has passed. */
const NAMING_BACKUPS: ReadonlySet<LogEntry['type']> = new Set(['forget', 'hold', 'release']);
/** Most entries of a tail. */
export const MAX_TAIL = 64;
/** Most bytes of the tail that a writer makes: it is there to save requests, not to cost bytes. */
const MAX_TAIL_BYTES = 512 * 1024;

/** An entry as it is in its object. */
export interface DecodedEntry {
  readonly entry: LogEntry;
  /** Newest first: the entries from `seq - 1` down. */
  readonly tail: readonly LogEntry[];
  /** SHA-256 of the object. */
  readonly hash: Uint8Array;
  /** Bytes of the object. */
  readonly sizeBytes: number;
}

/** An entry as tails repeat it. */
export interface TailEntry {
  readonly entry: LogEntry;
  /** Its body, which is the same in every tail. */
  readonly body: Uint8Array;
}

/** Seal, head of the content, the name of the tail and the head of its array: less than this. */
const MAX_OVERHEAD = 64;
const NO_HASH = new Uint8Array(32);

/**
 * What later entries may repeat: the newest ones, as many as fit into a tail.
 *
 * @param entries - newest first
 * @param older - the entries before these, newest first
 */
export function* tailOf(entries: readonly LogEntry[], older: readonly TailEntry[] = []): Steps<readonly TailEntry[]> {
  const kept: TailEntry[] = [];
  let left = MAX_TAIL_BYTES;
  const take = (each: TailEntry) => {
    left -= each.body.length;
    if (left < 0 || kept.length === MAX_TAIL) return false;
    kept.push(each);
    return true;
  };
  for (const entry of entries) {
    if (!take({ entry, body: yield* encodeMsgpackInSteps(new MsgpackMap(entryFields(entry))) })) return kept;
  }
  for (const each of older) if (!take(each)) break;
  return kept;
}

/**
 * The object of an entry, together with what decoding it gives: no entry is written that a reader would refuse, because the
 * log could not go on after it.
 *
 * @param logKey - 32 bytes, of an encrypted repository
 * @param tail - newest first, of {@link tailOf}; what does not fit is left out at its old end
 * @param formatCopy - of a plain repository: the body of its `format`, which nothing else has a copy of
 * @throws `LOG_CORRUPT` for an entry that no reader would take, `LIMIT_EXCEEDED` for one that is too large
 */
export function* encodingEntry(
  logKey: Uint8Array | undefined,
  entry: LogEntry,
  tail: readonly TailEntry[],
  formatCopy?: Uint8Array,
): Steps<DecodedEntry & { readonly bytes: Uint8Array<ArrayBuffer> }> {
  const fields = entryFields(entry);
  const copy = formatCopy === undefined ? {} : { format: formatCopy };
  const { length } = yield* encodeMsgpackInSteps(new MsgpackMap({ ...fields, ...copy }));
  const kept = keptTail(tail, MAX_ENTRY_BYTES - MAX_OVERHEAD - length);
  const content = yield* encodeMsgpackInSteps(new MsgpackMap({ ...fields, ...copy, tail: kept }));
  const bytes = yield* sealingObject(logKey, 'cow1 log', entry.seq, compressContent(content));
  if (bytes.length > MAX_ENTRY_BYTES) {
    const advice = NAMING_BACKUPS.has(entry.type) ? 'pass fewer ids in one call' : 'list packs in tables';
    const most = `the most is ${MAX_ENTRY_BYTES}`;
    throw new BackupError('LIMIT_EXCEEDED', `a log entry of ${bytes.length} bytes is too large, ${most}: ${advice}`);
  }
  return { ...(yield* decodingEntry(logKey, entry.seq, bytes)), bytes };
}

function keptTail(tail: readonly TailEntry[], room: number): MsgpackArray {
  const kept: MsgpackEncoded[] = [];
  let left = room;
  for (const { body } of tail) {
    left -= body.length;
    if (left < 0) break;
    kept.push(new MsgpackEncoded(body));
  }
  return MsgpackArray.of(kept.length, kept);
}

/**
 * @throws `LOG_CORRUPT` unless this is the entry of number `seq`, whole and valid in every field; `REPOSITORY_UNSUPPORTED`
 * for one of a version or type that is not known, also in its tail
 */
export function* decodingEntry(logKey: Uint8Array | undefined, seq: number, bytes: Uint8Array): Steps<DecodedEntry> {
  const what = `entry ${seq}`;
  if (bytes.length > MAX_ENTRY_BYTES) throw logCorrupt(`${what} is larger than it may be`);
  const body = yield* openingObject(logKey, 'cow1 log', seq, bytes);
  const fields = yield* decodeFieldsInSteps(readContent(body, what, MAX_ENTRY_BYTES), 'LOG_CORRUPT');
  const entry = yield* entryIn(fields);
  if (entry.seq !== seq) throw logCorrupt(`${what} says that it is number ${entry.seq}`);
  const tail: LogEntry[] = [];
  yield* logValue.each(fields.tail, `the tail of ${what}`, function* (plain): Steps<void> {
    if (tail.length === MAX_TAIL) throw logCorrupt(`the tail of ${what} is too long`);
    const earlier = yield* entryIn(plain);
    tail.push(earlier);
    if (earlier.seq !== seq - tail.length) throw logCorrupt(`the tail of ${what} leaves an entry out`);
  });
  return { entry, tail, hash: yield* sha256InSteps(bytes), sizeBytes: bytes.length };
}

/** The copy of `format` in an entry of a plain log; `undefined` for what is no such entry, or has none. */
export function* formatCopyIn(bytes: Uint8Array): Steps<Uint8Array | undefined> {
  try {
    const body = yield* openingObject(undefined, 'cow1 log', 0, bytes);
    const { format } = yield* decodeFieldsInSteps(readContent(body, 'an entry', MAX_ENTRY_BYTES), 'LOG_CORRUPT');
    return isBytes(format) ? format : undefined;
  } catch (error) {
    if (BackupError.is(error, 'LOG_CORRUPT')) return undefined;
    throw error;
  }
}

/** A commit id: copies of one process memory draw the same one only for entries that say the same. */
export function* commitIdFor(
  logKey: Uint8Array | undefined,
  entry: Omit<LogEntry, 'commitId'> & LogFact,
): Steps<string> {
  const bytes = yield* encodeMsgpackInSteps(new MsgpackMap(entryFields({ ...entry, commitId: '0'.repeat(32) })));
  return hedgedHex(16, logKey, 'cow1 commit id', yield* sha256InSteps(bytes));
}

function entryFields(entry: LogEntry): Record<string, unknown> {
  const { seq, prev, commitId, at } = entry;
  return { v: 1, seq, prev, id: idBytes(commitId), at, ...factPlain(entry) };
}

function* entryIn(value: unknown): Steps<LogEntry> {
  const fields = logValue.map(value, 'an entry');
  checkVersion(fields.v, 'an entry of the log');
  const head = {
    seq: logValue.seq(fields.seq, "an entry's number"),
    prev: logValue.bytes(fields.prev, "an entry's link", 32),
    commitId: logValue.hexId(fields.id, "an entry's commit id"),
    at: logValue.time(fields.at, "an entry's time"),
  };
  if (head.seq === 1 && Buffer.compare(head.prev, NO_HASH) !== 0) throw logCorrupt('the first entry follows another');
  return { ...head, ...(yield* factIn(fields)) };
}
