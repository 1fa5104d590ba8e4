import { booleanArgument, described, optionsArgument, textArgument } from './arguments.ts';

/**
 * Every code that this library gives, with what it means to the caller.
 *
 * A code never changes its meaning within a major version; messages may. `docs/errors.md` says for
 * each what to do about it. Misuse that a type checker would have caught (a string for a number, an
 * empty passphrase) is a `TypeError` instead.
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
  | 'PRESERVE_FAILED'
  | 'PRESERVE_DEADLINE'
  | 'PREIMAGE_SPACE'
  | 'SPILL_FAILED'
  | 'SPILL_CORRUPT'
  | 'VOLUME_STACKED'
  // target
  | 'OBJECT_NOT_FOUND'
  | 'OBJECT_EXISTS'
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
 * A {@link KnownBackupErrorCode}, or the code of somebody's own device or target.
 *
 * @public
 */
export type BackupErrorCode = KnownBackupErrorCode | (string & {});

/** What goes with a {@link BackupError} besides its code and message. @public */
export interface BackupErrorOptions {
  /** What was caught. Never stringified into the message, never dropped. */
  cause?: unknown;
  /** Whether the same call may succeed if it is made again. @defaultValue false */
  retryable?: boolean | undefined;
  /** How long the other side asked callers to wait before they try again, in milliseconds. */
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
  /** What happened; see `docs/errors.md`. */
  readonly code: BackupErrorCode;
  /** Whether the same call may succeed if it is made again. */
  readonly retryable: boolean;
  /** How long the other side asked callers to wait before they try again, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** @internal */
  readonly [BRAND] = true;

  /** @throws `TypeError` for what is of another type, and an option that is unknown: a misspelt `retryable` would end a job. */
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
   * Whether `error` is a `BackupError` (with that code, if one is given). Unlike `instanceof` it also
   * knows those of a second copy of this package in the same process.
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
