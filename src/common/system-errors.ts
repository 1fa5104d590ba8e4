import { BackupError } from './errors.ts';

/** The permission model's denial stands beside the system's codes; Node's other `ERR_` codes tell of misuse. */
const SYSTEM_CODE = /^(?:E[A-Z0-9]+|UNKNOWN|ERR_ACCESS_DENIED)$/;

/**
 * The code of an error of `node:fs`, such as `ENOENT`; undefined for anything else. The error may be of another realm
 * (Jest and `vm` have an `Error` of their own), so nothing but its code counts.
 */
export function systemCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || BackupError.is(error)) return undefined;
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && SYSTEM_CODE.test(code) ? code : undefined;
}

/** Whether a file operation failed because there is nothing of that name. */
export function isMissing(error: unknown): boolean {
  return systemCode(error) === 'ENOENT';
}

/** What says that a directory can't be synced here, not that syncing it failed. SMB, DrvFs and FUSE give these. */
const SYNC_UNSUPPORTED: ReadonlySet<string | undefined> = new Set([
  'EINVAL',
  'ENOTSUP',
  'EOPNOTSUPP',
  'ENOSYS',
  'EBADF',
  'EACCES',
  'EPERM',
  'EISDIR',
  'ERR_ACCESS_DENIED',
]);

/** Whether a directory could not be opened or synced because its file system, or this user's rights, do not allow it. */
export function isSyncUnsupported(error: unknown): boolean {
  return SYNC_UNSUPPORTED.has(systemCode(error));
}

/** Why Node's permission model refused a file. */
export const DENIED_FILES = "denied by Node's permission model; give --allow-fs-read and --allow-fs-write";
