// This folder holds what every layer uses: errors, checks of arguments, aborts, ranges, MessagePack, retries, caches,
// turns.

import { booleanArgument, described, optionsArgument, textArgument } from './arguments.ts';

/**
 * The codes of this library's errors.
 *
 * A code never changes its meaning within a major version; messages may change. `docs/errors.md` says what each code means
 * and what to do about it. Misuse (a string for a number, an empty passphrase) is a `TypeError` instead.
 *
 * @public
 */
export type KnownBackupErrorCode =
  // any layer
  | 'CLOSED'
  | 'OUT_OF_RANGE'
  | 'MISALIGNED'
  | 'READ_ONLY'
  | 'NO_SPACE'
  | 'PERMISSION_DENIED'
  | 'LIMIT_EXCEEDED'
  | 'WORKER_FAILED'
  // device
  | 'DEVICE_IO'
  | 'DEVICE_NOT_FOUND'
  | 'DEVICE_EXISTS'
  | 'DEVICE_BUSY'
  | 'DEVICE_UNSUPPORTED'
  | 'LOCK_UNAVAILABLE'
  | 'SHORT_READ'
  | 'SHORT_WRITE'
  | 'WRITES_IN_FLIGHT'
  // state
  | 'STATE_CORRUPT'
  | 'INVALID_TRANSITION'
  // volume
  | 'BLOCK_LOST'
  | 'BLOCK_RELEASED'
  | 'SNAPSHOT_BROKEN'
  | 'SNAPSHOT_LIMIT'
  | 'STATE_FAILED'
  | 'PRESERVE_FAILED'
  | 'PRESERVE_DEADLINE'
  | 'PREIMAGE_SPACE'
  | 'SPILL_FAILED'
  | 'SPILL_CORRUPT'
  | 'VOLUME_STACKED'
  // pipeline
  | 'STORE_FAILED'
  | 'LOAD_FAILED'
  | 'BLOCK_CORRUPT'
  // target
  | 'OBJECT_NOT_FOUND'
  | 'OBJECT_EXISTS'
  | 'OBJECT_CHANGED'
  | 'OBJECT_TOO_LARGE'
  | 'OBJECT_CONFLICT'
  | 'INVALID_KEY'
  | 'RANGE_UNSATISFIABLE'
  | 'CHECKSUM_MISMATCH'
  | 'CREATE_ONLY_UNSUPPORTED'
  | 'BUCKET_NOT_FOUND'
  | 'FOLDER_NOT_FOUND'
  | 'FOLDER_CHANGED'
  | 'CREDENTIALS_REFUSED'
  | 'CLOCK_SKEWED'
  | 'TARGET_UNREACHABLE'
  | 'TARGET_UNAVAILABLE'
  | 'TARGET_THROTTLED'
  | 'TARGET_TIMEOUT'
  | 'TARGET_ERROR'
  | 'QUORUM_NOT_REACHED'
  | 'REPLICA_DIVERGED'
  // repository
  | 'REPOSITORY_NOT_FOUND'
  | 'REPOSITORY_EXISTS'
  | 'REPOSITORY_CORRUPT'
  | 'REPOSITORY_UNSUPPORTED'
  | 'REPOSITORY_ROLLED_BACK'
  | 'RECORD_CORRUPT'
  | 'PACK_MISSING'
  | 'PACK_CORRUPT'
  | 'MAP_CORRUPT'
  | 'KEY_REQUIRED'
  | 'KEY_REFUSED'
  | 'KEY_SLOT_CORRUPT'
  | 'NOT_ENCRYPTED'
  | 'KEY_SLOT_NOT_FOUND'
  | 'LAST_KEY_SLOT'
  | 'SINGLE_WRITER_REQUIRED'
  | 'LOG_CORRUPT'
  | 'LOG_FORKED'
  | 'LOG_TRUNCATED'
  | 'COMMIT_UNKNOWN'
  | 'CLOCK_WRONG'
  | 'SESSION_FENCED'
  | 'SESSION_ENDED'
  | 'SESSION_SHARED'
  | 'VOLUME_BUSY'
  | 'PARENT_CHANGED'
  | 'PACK_CONDEMNED'
  | 'BACKUP_NOT_FOUND'
  | 'BACKUP_FORGOTTEN'
  | 'BACKUP_AMBIGUOUS'
  | 'BACKUP_HELD'
  | 'BACKUP_INCOMPLETE'
  | 'BUDGET_EXCEEDED'
  | 'BLOCK_SIZE_MISMATCH'
  | 'CHANGE_TRACKING_WRONG'
  | 'DEVICE_DIFFERS'
  | 'VERIFY_MISMATCH';

/**
 * A {@link KnownBackupErrorCode}, or a code that a device or target of the host's own has defined.
 *
 * @public
 */
export type BackupErrorCode = KnownBackupErrorCode | (string & {});

/** Options of a {@link BackupError}. @public */
export interface BackupErrorOptions {
  /** The error that led to this one. It is kept as it is. */
  cause?: unknown;
  /** Whether the same call may succeed if it is made again. @defaultValue false */
  retryable?: boolean | undefined;
  /** How long the other side has asked callers to wait before the next attempt, in milliseconds. */
  retryAfterMs?: number | undefined;
}

const BRAND = Symbol.for('cow-cloud-backup.BackupError');
const KNOWN = { cause: true, retryable: true, retryAfterMs: true } as const;

/**
 * The one error class of this library. Match on `code`, not on the message.
 *
 * @public
 */
export class BackupError extends Error {
  override readonly name = 'BackupError';
  /** The kind of the error; see `docs/errors.md`. */
  readonly code: BackupErrorCode;
  /** Whether the same call may succeed if it is made again. */
  readonly retryable: boolean;
  /** How long the other side has asked callers to wait before the next attempt, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** @internal */
  readonly [BRAND] = true;

  /** @throws `TypeError` for an argument of another type and for an unknown option: a misspelt `retryable` would end a job. */
  constructor(code: BackupErrorCode, message: string, options: BackupErrorOptions = {}) {
    const { retryable = false, retryAfterMs } = optionsArgument('options', options, KNOWN);
    if (typeof message !== 'string') throw new TypeError(`message must be a string, not ${described(message)}`);
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = textArgument('code', code);
    this.retryable = booleanArgument('options.retryable', retryable);
    if (retryAfterMs !== undefined && !(typeof retryAfterMs === 'number' && retryAfterMs >= 0)) {
      throw new TypeError(`options.retryAfterMs must be a number from 0, not ${described(retryAfterMs)}`);
    }
    this.retryAfterMs = retryAfterMs;
  }

  /**
   * Whether `error` is a `BackupError` (with that code, if one is given). Unlike `instanceof`, it also recognises errors of
   * another copy of this package in the same process.
   */
  static is(error: unknown, code?: BackupErrorCode): error is BackupError {
    return (
      typeof error === 'object' &&
      error !== null &&
      (error as { [BRAND]?: unknown })[BRAND] === true &&
      (code === undefined || (error as BackupError).code === code)
    );
  }
}

const DAMAGE_CODES = ['PACK_MISSING', 'PACK_CORRUPT', 'RECORD_CORRUPT', 'MAP_CORRUPT'];

/** Whether an error says that a stored object is damaged or missing, rather than that the store did not answer. */
export function isDamage(error: unknown): error is BackupError {
  return BackupError.is(error) && DAMAGE_CODES.includes(error.code);
}

/** Makes the error for bytes that are not what they should be; `how` completes "is damaged:". */
export type CorruptError = (how: string, cause?: unknown) => BackupError;

/** @param what - how the messages call the object, for example `a table of packs` */
export function corruptError(code: BackupErrorCode, what: string): CorruptError {
  return (how, cause) => new BackupError(code, `${what} is damaged: ${how}`, cause === undefined ? {} : { cause });
}
