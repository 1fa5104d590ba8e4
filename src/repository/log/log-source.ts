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

export interface LogSource {
  readonly target: CloudTarget;
  /** 32 bytes; `undefined` for a repository without encryption. */
  readonly logKey: Uint8Array | undefined;
  readonly mode: RepositoryMode;
  /** For a repository without encryption: the body of `format`, of which entries keep a copy. */
  readonly formatCopy?: Uint8Array | undefined;
}

/** A point of the log as a host may remember it. @public */
export interface LogPosition {
  readonly seq: number;
  /** The hash of entry `seq`. */
  readonly hash: Uint8Array;
}

/** An object as a listing shows it. */
export interface NamedObject {
  readonly key: string;
  /** In bytes. */
  readonly size: number;
}

/** The key of an entry. In single-writer mode its hash is part of it. */
export function keyOfEntry({ mode }: Pick<LogSource, 'mode'>, seq: number, hash: Uint8Array): string {
  return entryKey(seq, mode === 'single-writer' ? hash : undefined);
}

/**
 * Reads the entry that a listing names.
 *
 * @returns `undefined` if there is no such object
 * @throws `LOG_CORRUPT`, also for an object that is too large to be read, or is not the entry that its key says;
 * `REPOSITORY_UNSUPPORTED`; what the target throws
 */
export async function fetchEntry(
  source: LogSource,
  seq: number,
  { key, size }: NamedObject,
  { signal }: AbortOptions = {},
): Promise<DecodedEntry | undefined> {
  if (size > MAX_ENTRY_BYTES) throw logCorrupt(`object ${key} is larger than an entry may be`);
  try {
    // Reads no more than was listed, whatever has been put there since.
    const bytes = size === 0 ? undefined : await getBounded(source.target, key, size, { signal });
    if (bytes === undefined) throw logCorrupt('it has fewer bytes than its listing said');
    const decoded = await runInSteps(decodingEntry(source.logKey, seq, bytes));
    if (keyOfEntry(source, seq, decoded.hash) !== key) throw logCorrupt('it is not the entry that its key says');
    return decoded;
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return undefined;
    // The message names the damaged object.
    if (BackupError.is(error, 'LOG_CORRUPT')) throw logCorrupt(`object ${key}`, error);
    throw error;
  }
}

/**
 * Reads the checkpoint that a listing names.
 *
 * @returns `undefined` if it is missing, damaged or of a newer program, because a checkpoint is only a cache
 */
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
  const causes =
    'an old copy of the repository may have been put back, or another disk or bucket may have taken its place';
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
    `two writers wrote entry ${seq} of a repository in single-writer mode: open it with readOnly: true, and keep one of the two histories`,
  );
}
