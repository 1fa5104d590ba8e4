import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../target/cloud-target.ts';
import type { RepositoryMode } from '../keys/format-object.ts';
import { inTurns } from '../records/event-loop-turns.ts';
import { decodeCheckpoint } from './checkpoint-codec.ts';
import { logCorrupt } from './corrupt.ts';
import { type DecodedEntry, decodingEntry, MAX_ENTRY_BYTES } from './entry-codec.ts';
import { checkpointKey, entryKey } from './log-keys.ts';
import type { ListedEntry } from './log-listing.ts';
import type { LogState } from './log-state.ts';

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
  { key, size }: Pick<ListedEntry, 'key' | 'size'>,
  { signal }: AbortOptions = {},
): Promise<DecodedEntry | undefined> {
  if (size > MAX_ENTRY_BYTES) throw logCorrupt(`object ${key} is larger than an entry may be`);
  try {
    const bytes = await source.target.get(key, { signal });
    const decoded = await inTurns(decodingEntry(source.logKey, seq, bytes));
    if (keyOfEntry(source, seq, decoded.hash) !== key) throw logCorrupt('it is not the entry that its name says');
    return decoded;
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return undefined;
    // Of damage the message says where.
    if (BackupError.is(error, 'LOG_CORRUPT')) throw logCorrupt(`object ${key}`, error);
    throw error;
  }
}

/** A checkpoint, `undefined` when it is missing, damaged or a newer program's: it is only a cache. */
export async function fetchCheckpoint(
  { target, logKey }: LogSource,
  seq: number,
  { signal }: AbortOptions = {},
): Promise<LogState | undefined> {
  try {
    return await decodeCheckpoint(logKey, seq, await target.get(checkpointKey(seq), { signal }));
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
  return new BackupError('LOG_TRUNCATED', `entry ${seq} of the log is gone`);
}

export function forked(seq: number): BackupError {
  return new BackupError('LOG_FORKED', `two writers wrote entry ${seq} of a repository for a single writer`);
}
