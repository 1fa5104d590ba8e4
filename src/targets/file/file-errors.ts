import { BackupError, type BackupErrorCode } from '../../common/errors.ts';
import { DENIED_FILES, systemCode } from '../../common/system-errors.ts';

/** The codes of the operating system that have a code of their own. All others are `TARGET_ERROR`. */
const CODES: Readonly<Record<string, { readonly code: BackupErrorCode; readonly retryable?: boolean }>> = {
  ENOSPC: { code: 'NO_SPACE' },
  EDQUOT: { code: 'NO_SPACE' },
  EACCES: { code: 'PERMISSION_DENIED' },
  EPERM: { code: 'PERMISSION_DENIED' },
  ERR_ACCESS_DENIED: { code: 'PERMISSION_DENIED' },
  EROFS: { code: 'READ_ONLY' },
  EFBIG: { code: 'OBJECT_TOO_LARGE' },
  EMFILE: { code: 'TARGET_UNAVAILABLE', retryable: true },
  ENFILE: { code: 'TARGET_UNAVAILABLE', retryable: true },
  EAGAIN: { code: 'TARGET_UNAVAILABLE', retryable: true },
  EBUSY: { code: 'TARGET_UNAVAILABLE', retryable: true },
  // These come from folders on a network.
  ESTALE: { code: 'TARGET_UNAVAILABLE', retryable: true },
  ETIMEDOUT: { code: 'TARGET_TIMEOUT', retryable: true },
  EHOSTDOWN: { code: 'TARGET_UNREACHABLE', retryable: true },
  ENOTCONN: { code: 'TARGET_UNREACHABLE', retryable: true },
};

/** Translates an error of `node:fs` into a `BackupError`. Other errors are returned as they are. */
export function fileError(error: unknown, what: string): unknown {
  const code = systemCode(error);
  if (code === undefined) return error;
  return new BackupError(CODES[code]?.code ?? 'TARGET_ERROR', `${what}: ${described(code)}`, {
    cause: error,
    retryable: CODES[code]?.retryable,
  });
}

function described(code: string): string {
  if (code === 'ELOOP') return 'its file is a symbolic link';
  if (code === 'EROFS') return 'the file system is mounted read-only (EROFS)';
  if (code === 'ERR_ACCESS_DENIED') return DENIED_FILES;
  return code;
}

/** The error for a path with something other than `wanted`. */
export function unexpected(path: string, wanted: string): BackupError {
  return new BackupError(
    'TARGET_ERROR',
    `${path} is not ${wanted}: links and special files are not followed; replace it with a copy of what it leads to, or remove it`,
  );
}

/** Windows refuses to replace or remove a name while a program has the file open. */
const HELD_ON_WINDOWS = new Set(['EPERM', 'EACCES', 'EBUSY']);

/** Returns the error of a rename or an unlink, as a retryable one if it passes when a reader closes the file. */
export function heldOnWindows(error: unknown, path: string): unknown {
  const code = systemCode(error) ?? '';
  if (process.platform !== 'win32' || !HELD_ON_WINDOWS.has(code)) return error;
  const message = `${path} can't be replaced or removed while a program has it open (${code}); close it there`;
  return new BackupError('TARGET_UNAVAILABLE', message, { cause: error, retryable: true });
}
