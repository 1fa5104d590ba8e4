import { BackupError, type BackupErrorCode } from '../../common/errors.ts';
import { DENIED_FILES, systemCode } from '../../common/system-errors.ts';

/** The codes of the operating system that callers can do something about. All others are `TARGET_ERROR`. */
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
  // Folders on a network.
  ESTALE: { code: 'TARGET_UNAVAILABLE', retryable: true },
  ETIMEDOUT: { code: 'TARGET_TIMEOUT', retryable: true },
  EHOSTDOWN: { code: 'TARGET_UNREACHABLE', retryable: true },
  ENOTCONN: { code: 'TARGET_UNREACHABLE', retryable: true },
};

/** An error of `node:fs` as a `BackupError`; whatever is none is returned as it is. */
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
