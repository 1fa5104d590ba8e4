import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { decodeCheckpoint } from '../format/checkpoint-codec.ts';
import { logCorrupt } from '../format/decode-values.ts';
import { type DecodedEntry, decodingEntry, MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import type { RepositoryMode } from '../format/format-object.ts';
import type { LogState } from '../format/log-state.ts';
import { entryKey } from '../format/object-keys.ts';
import type { LogListing, NamedObject } from './log-listing.ts';

/** Where a log is, and how to read it. */
export interface LogSource {
  readonly target: CloudTarget;
  /** 32 bytes, of an encrypted repository. */
  readonly logKey: Uint8Array | undefined;
  readonly mode: RepositoryMode;
  /** Of a plain repository: the body of `format`, which entries keep a copy of. */
  readonly formatCopy?: Uint8Array | undefined;
}

/** A point of the log as a host may remember it. @public */
export interface LogPosition {
  readonly seq: number;
  /** Of entry `seq`. */
  readonly hash: Uint8Array;
}

/** Where an entry is: in single-writer mode its hash is part of its name. */
export function keyOfEntry({ mode }: Pick<LogSource, 'mode'>, seq: number, hash: Uint8Array): string {
  return entryKey(seq, mode === 'single-writer' ? hash : undefined);
}

/**
 * The entry that a listing names, `undefined` when there is none.
 *
 * @throws `LOG_CORRUPT`, also for an object that is too large to be read, or is not the entry that its name says;
 * `REPOSITORY_UNSUPPORTED`; what the target gives
 */
export async function fetchEntry(
  source: LogSource,
  seq: number,
  { key, size }: NamedObject,
  { signal }: AbortOptions = {},
): Promise<DecodedEntry | undefined> {
  if (size > MAX_ENTRY_BYTES) throw logCorrupt(`object ${key} is larger than an entry may be`);
  try {
    // No more than was listed, whatever has been put there since.
    const bytes = size === 0 ? undefined : await getBounded(source.target, key, size, { signal });
    if (bytes === undefined) throw logCorrupt('it has fewer bytes than was listed');
    const decoded = await runInSteps(decodingEntry(source.logKey, seq, bytes));
    if (keyOfEntry(source, seq, decoded.hash) !== key) throw logCorrupt('it is not the entry that its name says');
    return decoded;
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return undefined;
    // Of damage the message says where.
    if (BackupError.is(error, 'LOG_CORRUPT')) throw logCorrupt(`object ${key}`, error);
    throw error;
  }
}

/** The checkpoint that a listing names, `undefined` when it is missing, damaged or a newer program's: it is only a cache. */
export async function fetchCheckpoint(
  { target, logKey }: LogSource,
  seq: number,
  { key, size }: NamedObject,
  { signal }: AbortOptions = {},
): Promise<LogState | undefined> {
  try {
    const bytes = await getBounded(target, key, size, { signal });
    return bytes && (await decodeCheckpoint(logKey, seq, bytes));
  } catch (error) {
    const useless = ['OBJECT_NOT_FOUND', 'LOG_CORRUPT', 'REPOSITORY_UNSUPPORTED'];
    if (BackupError.is(error) && useless.includes(error.code)) return undefined;
    throw error;
  }
}

export function rolledBack(message: string): BackupError {
  const causes = 'an old copy of the repository may have been put there, or another disk or bucket is in its place';
  return new BackupError('REPOSITORY_ROLLED_BACK', `${message}: ${causes}`);
}

export function truncated(seq: number): BackupError {
  return new BackupError(
    'LOG_TRUNCATED',
    `entry ${seq} of the log is missing: restore that object from a copy of the store`,
  );
}

export function forked(seq: number): BackupError {
  return new BackupError(
    'LOG_FORKED',
    `two writers wrote entry ${seq} of a repository for a single writer: open it with readOnly: true, and keep one of the two histories`,
  );
}

/**
 * That no checkpoint is ahead of the newest entry: whoever wrote it had read entries that are not there. What is only
 * named as one, and can't be read, says nothing.
 *
 * @throws `LOG_TRUNCATED`, and what the target gives
 */
export async function checkNotAhead(source: LogSource, listing: LogListing, options: AbortOptions): Promise<void> {
  for (const seq of listing.checkpoints.filter((each) => each > listing.newest)) {
    if ((await fetchCheckpoint(source, seq, listing.checkpointAt(seq), options)) !== undefined) throw truncated(seq);
    listing.discardCheckpoint(seq);
  }
}
