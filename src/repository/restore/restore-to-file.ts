import { randomBytes } from 'node:crypto';
import { link, lstat, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import { syncDirectory } from '../../common/system-errors.ts';
import { FileDevice } from '../../device/file-device.ts';
import { fileError } from '../../device/file-errors.ts';
import type { RestoreResult } from './restore-options.ts';

/**
 * Makes a file under a temporary name beside `path`, lets `restore` fill it, and gives it its name once it is whole and
 * durable. After a failure nothing is left, and a file that had the name is as it was.
 *
 * @param path - an absolute one: the process may go to another directory before the file gets its name
 * @throws `DEVICE_EXISTS`, `DEVICE_BUSY`, `DEVICE_UNSUPPORTED`, and what `restore` and the file system give
 */
export async function restoreToNewFile(
  path: string,
  sizeBytes: number,
  overwrite: boolean,
  restore: (device: FileDevice) => Promise<RestoreResult>,
): Promise<RestoreResult> {
  const { place, replaced } = await placeFor(path, overwrite);
  try {
    return await restoreTo(place, sizeBytes, replaced, restore);
  } finally {
    await replaced?.close();
  }
}

async function restoreTo(
  path: string,
  sizeBytes: number,
  replaced: FileDevice | undefined,
  restore: (device: FileDevice) => Promise<RestoreResult>,
): Promise<RestoreResult> {
  // A part of the name: with all of it, this one could be longer than names may be.
  const name = `.${basename(path).slice(0, 60)}.${randomBytes(6).toString('hex')}.partial`;
  const temporary = join(dirname(path), name);
  const device = await FileDevice.open(temporary, { create: { sizeBytes } });
  try {
    let result: RestoreResult;
    try {
      result = await restore(device);
    } finally {
      await device.close();
    }
    if (process.platform === 'win32') await replaced?.close(); // What is open is not replaced there.
    await giveName(temporary, path, replaced !== undefined);
    await syncDirectory(dirname(path));
    return result;
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
}

/**
 * Where the file is to be, before anything is fetched. One that is to be replaced is locked until it has been: whoever has
 * it open, a virtual machine perhaps, would go on writing to what has no name any more. Of a symbolic link the file that
 * it leads to is replaced.
 */
async function placeFor(path: string, overwrite: boolean): Promise<{ place: string; replaced?: FileDevice }> {
  const isThere = await lstat(path).then(
    () => true,
    (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw fileError('open', path, error);
    },
  );
  if (!isThere) return { place: path };
  if (!overwrite) {
    throw new BackupError('DEVICE_EXISTS', `${path} exists: choose another name, or pass overwrite: true`);
  }
  try {
    const place = await realpath(path);
    if ((await stat(place)).isFile()) return { place, replaced: await FileDevice.open(place, { readOnly: true }) };
  } catch (error) {
    throw fileError('replace', path, error);
  }
  const message = `${path} is not a regular file, so it can't be replaced: open the device and use restore()`;
  throw new BackupError('DEVICE_UNSUPPORTED', message);
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
