import { randomBytes } from 'node:crypto';
import { link, lstat, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import { syncDirectory } from '../../common/system-errors.ts';
import { FileDevice } from '../../device/file-device.ts';
import { fileError } from '../../device/file-errors.ts';
import type { RestoreResult } from './restore-options.ts';

/**
 * Creates a file under a temporary name beside `path`, lets `restore` fill it, and renames it to `path` once it is complete
 * and durable. After a failure the temporary file is deleted, and an existing file at `path` is unchanged.
 *
 * @param path - an absolute path, because the process may change its directory before the file is renamed
 * @throws `DEVICE_EXISTS`, `DEVICE_BUSY`, `DEVICE_UNSUPPORTED`, and what `restore` and the file system throw
 */
export async function restoreToNewFile(
  path: string,
  sizeBytes: number,
  overwrite: boolean,
  restore: (device: FileDevice) => Promise<RestoreResult>,
): Promise<RestoreResult> {
  const { final, replaced } = await finalPath(path, overwrite);
  try {
    return await restoreTo(final, sizeBytes, replaced, restore);
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
  // With all of the name, the temporary name could be too long for the file system.
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
    if (process.platform === 'win32') await replaced?.close(); // Windows does not replace open files.
    await giveName(temporary, path, replaced !== undefined);
    await syncDirectory(dirname(path));
    return result;
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
}

/**
 * Decides, before anything is fetched, at which path the file goes. A file that is to be replaced is locked until then: a
 * process that has it open, such as a virtual machine, would go on writing to a file without a name. If the path is a
 * symbolic link, the file that it leads to is replaced.
 */
async function finalPath(path: string, overwrite: boolean): Promise<{ final: string; replaced?: FileDevice }> {
  const isThere = await lstat(path).then(
    () => true,
    (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw fileError('open', path, error);
    },
  );
  if (!isThere) return { final: path };
  if (!overwrite) {
    throw new BackupError('DEVICE_EXISTS', `${path} exists: choose another name, or pass overwrite: true`);
  }
  try {
    const final = await realpath(path);
    if ((await stat(final)).isFile()) return { final, replaced: await FileDevice.open(final, { readOnly: true }) };
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
      // Unlike a check followed by a rename, this can't replace a file that appeared in between.
      await link(temporary, path);
      return await unlink(temporary);
    } catch (error) {
      if (!LINKS_UNSUPPORTED.includes((error as NodeJS.ErrnoException).code)) throw error;
    }
    // Without hard links, an empty file is created first: that fails if there is a file of that name.
    await (await open(path, 'wx', 0o600)).close();
    await rename(temporary, path);
  } catch (error) {
    throw fileError('give its name to', path, error);
  }
}
