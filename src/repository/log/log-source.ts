import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { sha256InSteps } from '../../common/long-bytes.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget, ObjectInfo } from '../../targets/cloud-target.ts';
import { decodeCheckpoint } from '../format/checkpoint-codec.ts';
import { logCorrupt } from '../format/decode-values.ts';
import { type DecodedEntry, decodingEntry, MAX_ENTRY_BYTES } from '../format/entry-codec.ts';
import type { RepositoryMode } from '../format/format-object.ts';
import type { Floor } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import { checkpointKey, entryKey, LOG_PREFIX } from '../format/object-keys.ts';

/** Where a log is, and how it is read. */
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
  /**
   * Hashes of this entry and of entries before it, 16 bytes of each. The position is recognised by them after its entry was
   * deleted; without them, it is recognised only as long as its entry is there.
   */
  readonly anchors?: Uint8Array | undefined;
}

/** An object as a listing shows it. */
export interface NamedObject {
  readonly key: string;
  /** In bytes. */
  readonly size: number;
  /** What the target calls this very object, if it gives tags. */
  readonly ifTag?: string | undefined;
}

/**
 * The tag that the target gives the object, if any, and all that tells objects apart: where another store has taken the place of
 * the one before, its tags may be the same.
 */
export function tagsOf({
  tag,
  sha256,
  modifiedAt,
}: ObjectInfo): Pick<NamedObject, 'ifTag'> & { tag: string | undefined } {
  const parts = [tag, sha256, modifiedAt?.toISOString()].filter((part) => part !== undefined);
  return { ifTag: tag, tag: parts.length === 0 ? undefined : parts.join(' ') };
}

/** The key of an entry. In single-writer mode its hash is part of it. */
export function keyOfEntry({ mode }: Pick<LogSource, 'mode'>, seq: number, hash: Uint8Array): string {
  return entryKey(seq, mode === 'single-writer' ? hash : undefined);
}

/** The key of a checkpoint. In single-writer mode the digest of the object is part of it. */
export function keyOfCheckpoint({ mode }: Pick<LogSource, 'mode'>, seq: number, sha256: Uint8Array): string {
  return checkpointKey(seq, mode === 'single-writer' ? sha256 : undefined);
}

/**
 * Reads the entry that a listing names.
 *
 * @returns `undefined` if there is no such object
 * @throws `LOG_CORRUPT`, also for an object that is too large to be read, or is not the entry that its key says;
 * `OBJECT_CHANGED` if it is not the object that was listed; `REPOSITORY_UNSUPPORTED`; what the target throws
 */
export async function fetchEntry(
  source: LogSource,
  seq: number,
  { key, size, ifTag }: NamedObject,
  { signal }: AbortOptions = {},
): Promise<DecodedEntry | undefined> {
  if (size > MAX_ENTRY_BYTES) throw logCorrupt(`object ${key} is larger than an entry may be`);
  try {
    // Reads no more than was listed: a larger object may have been put there since.
    // @mutation read-is-what-was-listed
    const bytes = size === 0 ? undefined : await getBounded(source.target, key, size, { signal, ifTag });
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

/** A checkpoint that can be read. */
export interface FoundCheckpoint {
  readonly state: LogState;
  readonly key: string;
  /** SHA-256 of the object. */
  readonly sha256: Uint8Array;
}

/**
 * Reads the checkpoint that a listing names.
 *
 * @param options - `onNewer` is called for one of a newer program: where no other leads to the state, that is why
 * @returns `undefined` if it is missing, damaged or of a newer program, because others may lead to the state as well
 */
export async function fetchCheckpoint(
  source: LogSource,
  seq: number,
  { key, size }: NamedObject,
  { signal, onNewer }: AbortOptions & { readonly onNewer?: ((error: BackupError) => void) | undefined } = {},
): Promise<FoundCheckpoint | undefined> {
  try {
    const bytes = await getBounded(source.target, key, size, { signal });
    if (bytes === undefined) return undefined;
    const sha256 = await runInSteps(sha256InSteps(bytes));
    if (keyOfCheckpoint(source, seq, sha256) !== key) return undefined;
    return { state: await decodeCheckpoint(source.logKey, seq, bytes), key, sha256 };
  } catch (error) {
    if (BackupError.is(error, 'REPOSITORY_UNSUPPORTED')) onNewer?.(error);
    const useless = ['OBJECT_NOT_FOUND', 'LOG_CORRUPT', 'REPOSITORY_UNSUPPORTED'];
    if (BackupError.is(error) && useless.includes(error.code)) return undefined;
    throw error;
  }
}

/**
 * The state of the floor's checkpoint, if that very object is there: another one of its number, which may have been created after
 * the floor was raised and the object deleted, says nothing about the floor.
 */
export async function floorCheckpoint(
  source: LogSource,
  floor: Floor,
  options: AbortOptions,
): Promise<LogState | undefined> {
  const info = await source.target.stat(keyOfCheckpoint(source, floor.seq, floor.sha256), options);
  const found = info && (await fetchCheckpoint(source, floor.seq, info, options));
  // @mutation floor-is-known-by-its-digest
  return found !== undefined && Buffer.compare(found.sha256, floor.sha256) === 0 ? found.state : undefined;
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

/** For an entry that may have been deleted rightfully, below a checkpoint that is gone too. */
export function truncatedBelow(seq: number): BackupError {
  return new BackupError(
    'LOG_TRUNCATED',
    `entry ${seq} of the log is missing, and so is a checkpoint of it or of a later entry: restore one of these objects under ${LOG_PREFIX} from a copy of the store`,
  );
}

/** For a log of which nothing leads to the state any more. */
export function floorMissing(source: Pick<LogSource, 'mode'>, { seq, sha256 }: Floor): BackupError {
  const key = keyOfCheckpoint(source, seq, sha256);
  return new BackupError(
    'LOG_TRUNCATED',
    `checkpoint ${seq} of the log, below which everything was deleted, is missing or damaged: restore object ${key} from a copy of the store`,
  );
}

export function forked(seq: number): BackupError {
  return new BackupError(
    'LOG_FORKED',
    `two writers wrote entry ${seq} of a repository in single-writer mode: open it with readOnly: true, and keep one of the two histories`,
  );
}
