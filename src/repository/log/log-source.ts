import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../target/cloud-target.ts';
import type { RepositoryMode } from '../keys/format-object.ts';
import { decodeCheckpoint } from './checkpoint-codec.ts';
import { logCorrupt } from './corrupt.ts';
import { type DecodedEntry, decodeEntry } from './entry-codec.ts';
import { checkpointKey } from './log-keys.ts';
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

/**
 * The entry under a key, `undefined` when there is none.
 *
 * @throws `LOG_CORRUPT`, and what the target gives
 */
export async function fetchEntry(
  { target, logKey }: LogSource,
  seq: number,
  key: string,
  { signal }: AbortOptions = {},
): Promise<DecodedEntry | undefined> {
  try {
    return decodeEntry(logKey, seq, await target.get(key, { signal }));
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return undefined;
    // Of damage the message says where.
    if (BackupError.is(error, 'LOG_CORRUPT')) throw logCorrupt(`object ${key}`, error);
    throw error;
  }
}

/** A checkpoint, `undefined` when it is missing or damaged: it is only a cache. */
export async function fetchCheckpoint(
  { target, logKey }: LogSource,
  seq: number,
  { signal }: AbortOptions = {},
): Promise<LogState | undefined> {
  try {
    return decodeCheckpoint(logKey, seq, await target.get(checkpointKey(seq), { signal }));
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND') || BackupError.is(error, 'LOG_CORRUPT')) return undefined;
    throw error;
  }
}

export function rolledBack(message: string): BackupError {
  return new BackupError('REPOSITORY_ROLLED_BACK', `${message}: an old copy of the repository may have been put there`);
}

export function truncated(seq: number): BackupError {
  return new BackupError('LOG_TRUNCATED', `entry ${seq} of the log is gone`);
}

export function forked(seq: number): BackupError {
  return new BackupError('LOG_FORKED', `two writers wrote entry ${seq} of a repository for a single writer`);
}
