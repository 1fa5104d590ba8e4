import { open } from 'node:fs/promises';
import { BackupError } from './errors.ts';

/** Codes of the system, and the one of Node's permission model. Node's other `ERR_` codes are about misuse. */
const SYSTEM_CODE = /^(?:E[A-Z0-9]+|UNKNOWN|ERR_ACCESS_DENIED)$/;

/**
 * The code of an error of `node:fs`, such as `ENOENT`; `undefined` for anything else. Only the code counts, since the error
 * may be of another realm.
 */
export function systemCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || BackupError.is(error)) return undefined;
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && SYSTEM_CODE.test(code) ? code : undefined;
}

/** Whether a file operation failed because the file does not exist. */
export function isMissing(error: unknown): boolean {
  return systemCode(error) === 'ENOENT';
}

/** The result of a file operation, or `other` if the file does not exist. */
export async function orIfMissing<T, U>(work: Promise<T>, other: U): Promise<T | U> {
  return work.catch((error: unknown) => {
    if (isMissing(error)) return other;
    throw error;
  });
}

/** Codes that mean that directories can't be synced here, rather than that syncing one failed. SMB, DrvFs and FUSE use them. */
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

/**
 * Makes the names in a directory durable. Without it, a file that was flushed may be gone after a loss of power. Windows can't
 * open a directory; nothing is done there.
 *
 * @returns `undefined` if the directory was synced, or the code of the system if its file system, or the rights of this user,
 * do not allow it
 */
export async function syncDirectory(path: string): Promise<string | undefined> {
  if (process.platform === 'win32') return undefined;
  try {
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
    return undefined;
  } catch (error) {
    if (!isSyncUnsupported(error)) throw error;
    return systemCode(error);
  }
}

/** Whether the file system, or the rights of this user, do not allow that a directory is synced. */
export function isSyncUnsupported(error: unknown): boolean {
  return SYNC_UNSUPPORTED.has(systemCode(error));
}

/** Throws an error of `chmod` again, unless it says that the file system has no modes. */
export function ignoreModesUnsupported(error: unknown): void {
  if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL'].includes(systemCode(error) ?? '')) throw error;
}

/** The message for a file that Node's permission model refused. */
export const DENIED_FILES = "denied by Node's permission model; give --allow-fs-read and --allow-fs-write";
