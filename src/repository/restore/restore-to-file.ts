import { randomBytes } from 'node:crypto';
import { link, lstat, open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import { makeNameDurable } from '../../device/durable-name.ts';
import { FileDevice } from '../../device/file-device.ts';
import { fileError } from '../../device/file-errors.ts';
import type { RestoreResult } from './restore-options.ts';

/**
 * Makes a file under a temporary name beside `path`, lets `restore` fill it, and gives it its name once it is whole and
 * durable. After a failure nothing is left, and a file that had the name is as it was.
 *
 * @throws `DEVICE_EXISTS`, and what `restore` and the file system give
 */
export async function restoreToNewFile(
  path: string,
  sizeBytes: number,
  overwrite: boolean,
  restore: (device: FileDevice) => Promise<RestoreResult>,
): Promise<RestoreResult> {
  if (!overwrite) await refuseExisting(path);
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.partial`);
  const device = await FileDevice.open(temporary, { create: { sizeBytes } });
  try {
    let result: RestoreResult;
    try {
      result = await restore(device);
    } finally {
      await device.close();
    }
    await giveName(temporary, path, overwrite);
    await makeNameDurable(path);
    return result;
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
}

/** Before anything is fetched. */
async function refuseExisting(path: string): Promise<void> {
  const info = await lstat(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fileError('open', path, error);
  });
  if (info !== undefined) {
    throw new BackupError('DEVICE_EXISTS', `${path} exists: choose another name, or pass overwrite: true`);
  }
}

const LINKS_UNSUPPORTED: readonly unknown[] = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EXDEV'];

async function giveName(temporary: string, path: string, overwrite: boolean): Promise<void> {
  try {
    if (overwrite) return await rename(temporary, path);
    try {
      // Unlike a look and a rename, this can't replace a file that appeared in between.
      await link(temporary, path);
      return await unlink(temporary);
    } catch (error) {
      if (!LINKS_UNSUPPORTED.includes((error as NodeJS.ErrnoException).code)) throw error;
    }
    // Where there are no hard links, an empty file takes the name first: creating it fails if there is one.
    await (await open(path, 'wx', 0o600)).close();
    await rename(temporary, path);
  } catch (error) {
    throw fileError('give its name to', path, error);
  }
}
