import { BackupError, type BackupErrorCode } from '../common/errors.ts';

/** The codes of the operating system that callers can do something about. All others are `TARGET_ERROR`. */
const CODES: Readonly<Record<string, { readonly code: BackupErrorCode; readonly retryable?: boolean }>> = {
  ENOSPC: { code: 'NO_SPACE' },
  EDQUOT: { code: 'NO_SPACE' },
  EACCES: { code: 'PERMISSION_DENIED' },
  EPERM: { code: 'PERMISSION_DENIED' },
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

/** The code of an error of `node:fs`, such as `ENOENT`; undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return error instanceof Error && typeof code === 'string' && !BackupError.is(error) ? code : undefined;
}

/** Whether a file operation failed because there is nothing of that name. A file in a directory's place is something. */
export function isMissing(error: unknown): boolean {
  return systemCode(error) === 'ENOENT';
}

/** An error of `node:fs` as a `BackupError`; whatever is none is returned as it is. */
export function fileError(error: unknown, what: string): unknown {
  const code = systemCode(error);
  if (code === undefined) return error;
  if (code === 'ELOOP')
    return new BackupError('TARGET_ERROR', `${what}: its file is a symbolic link`, { cause: error });
  const known = CODES[code];
  return new BackupError(known?.code ?? 'TARGET_ERROR', `${what}: ${code}`, {
    cause: error,
    retryable: known?.retryable,
  });
}
