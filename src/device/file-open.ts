import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { BackupError } from '../common/errors.ts';
import { systemCode } from '../common/system-errors.ts';
import { makeNameDurable } from './durable-name.ts';
import { fileError } from './file-errors.ts';
import { lockingOpenFlags } from './file-lock.ts';
import { blockSpecialShape } from './file-size.ts';

/**
 * Opens a file or block special file, or makes a file.
 *
 * @param createMode - permissions of the file to make, undefined for one that is there
 */
export async function openDescriptor(
  path: string,
  readOnly: boolean,
  shared: boolean,
  createMode: number | undefined,
): Promise<number> {
  const create = createMode !== undefined;
  const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NONBLOCK = 0 } = fs.constants;
  // Without O_NONBLOCK the opening of a pipe that took a file's place meanwhile waits for its other end.
  let flags = (readOnly ? O_RDONLY : O_RDWR) | O_NONBLOCK;
  if (create) flags |= O_CREAT | O_EXCL;
  if (!shared) flags |= lockingOpenFlags(readOnly);
  try {
    // On Linux, O_EXCL without O_CREAT means exclusive use of a block special file.
    const there = await promisify(fs.stat)(path).catch(() => undefined);
    // Found out before it is opened: opening a terminal or a tape has effects, and a socket can't be opened at all.
    if (there !== undefined && !create) requireSupported(there, path);
    if (process.platform === 'linux' && there?.isBlockDevice() && !shared && !readOnly) flags |= O_EXCL;
    return await promisify(fs.open)(path, flags, createMode);
  } catch (error) {
    throw fileError('open', path, error);
  }
}

/** Size and sector of an open file or block special file. */
export async function shapeOf(fd: number, path: string): Promise<{ size: number; sectorSize: number }> {
  const stat = await promisify(fs.fstat)(fd);
  requireSupported(stat, path);
  return stat.isFile() ? { size: stat.size, sectorSize: 1 } : await blockSpecialShape(fd, stat.rdev);
}

/** Gives a file that was just made its mode and size, and makes its name durable. */
export async function makeFile(fd: number, path: string, create: { sizeBytes: number; mode: number }): Promise<void> {
  // The umask may have taken a part of the mode; on file systems without modes there is nothing to take.
  if (process.platform !== 'win32') await promisify(fs.fchmod)(fd, create.mode).catch(ignoreUnsupported);
  await promisify(fs.ftruncate)(fd, create.sizeBytes);
  await makeNameDurable(path);
}

function requireSupported(stat: fs.Stats, path: string): void {
  if (stat.isFile() || stat.isBlockDevice()) return;
  throw new BackupError('DEVICE_UNSUPPORTED', `${path} is neither a file nor a block special file`);
}

function ignoreUnsupported(error: unknown): void {
  if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL'].includes(systemCode(error) ?? '')) throw error;
}
