import { BackupError, type BackupErrorCode } from '../common/errors.ts';
import { DENIED_FILES, systemCode } from '../common/system-errors.ts';

const CODES: Readonly<Record<string, BackupErrorCode>> = {
  ENOENT: 'DEVICE_NOT_FOUND',
  ENOTDIR: 'DEVICE_NOT_FOUND',
  ENXIO: 'DEVICE_NOT_FOUND',
  EEXIST: 'DEVICE_EXISTS',
  EBUSY: 'DEVICE_BUSY',
  EAGAIN: 'DEVICE_BUSY',
  ETXTBSY: 'DEVICE_BUSY',
  EISDIR: 'DEVICE_UNSUPPORTED',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
  ERR_ACCESS_DENIED: 'PERMISSION_DENIED',
  EROFS: 'READ_ONLY',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EFBIG: 'NO_SPACE',
};

/** Translates the error of a system call into a `BackupError`: `NO_SPACE`, `PERMISSION_DENIED` ..., or else `DEVICE_IO`. */
export function fileError(action: string, path: string, cause: unknown): BackupError {
  if (BackupError.is(cause)) return cause;
  const code = systemCode(cause);
  const reason = code === 'ERR_ACCESS_DENIED' ? DENIED_FILES : (code ?? 'unknown');
  return new BackupError(CODES[code ?? ''] ?? 'DEVICE_IO', `can't ${action} ${path}: ${reason}`, { cause });
}
