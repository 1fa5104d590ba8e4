import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { BackupError } from '../common/errors.ts';
import { ignoreModesUnsupported, syncDirectory } from '../common/system-errors.ts';
import { fileError } from './file-errors.ts';
import { lockingOpenFlags } from './file-lock.ts';
import { blockSpecialShape } from './file-size.ts';

/**
 * Opens a file or block special file, or creates a file.
 *
 * @param createMode - the permissions of a file to create; `undefined` for one that exists
 */
export async function openDescriptor(
  path: string,
  readOnly: boolean,
  shared: boolean,
  createMode: number | undefined,
): Promise<number> {
  const create = createMode !== undefined;
  const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NONBLOCK = 0 } = fs.constants;
  // If a pipe has got the name meanwhile, opening it without O_NONBLOCK would wait for its other end.
  let flags = (readOnly ? O_RDONLY : O_RDWR) | O_NONBLOCK;
  if (create) flags |= O_CREAT | O_EXCL;
  if (!shared) flags |= lockingOpenFlags(readOnly);
  try {
    // On Linux, O_EXCL without O_CREAT means exclusive use of a block special file.
    const there = await promisify(fs.stat)(path).catch(() => undefined);
    // Checked before opening, because opening a terminal or a tape has effects, and a socket can't be opened.
    if (there !== undefined && !create) requireSupported(there, path);
    if (process.platform === 'linux' && there?.isBlockDevice() && !shared && !readOnly) flags |= O_EXCL;
    return await promisify(fs.open)(path, flags, createMode);
  } catch (error) {
    throw fileError('open', path, error);
  }
}

/** The size and the sector of an open file or block special file. */
export async function shapeOf(fd: number, path: string): Promise<{ size: number; sectorSize: number }> {
  const stat = await promisify(fs.fstat)(fd);
  requireSupported(stat, path);
  return stat.isFile() ? { size: stat.size, sectorSize: 1 } : await blockSpecialShape(fd, stat.rdev);
}

/** Gives a new file its mode and size, and makes its name durable. */
export async function makeFile(fd: number, path: string, create: { sizeBytes: number; mode: number }): Promise<void> {
  // The umask may have removed a part of the mode.
  if (process.platform !== 'win32') await promisify(fs.fchmod)(fd, create.mode).catch(ignoreModesUnsupported);
  await promisify(fs.ftruncate)(fd, create.sizeBytes);
  await syncDirectory(dirname(path));
}

function requireSupported(stat: fs.Stats, path: string): void {
  if (stat.isFile() || stat.isBlockDevice()) return;
  throw new BackupError('DEVICE_UNSUPPORTED', `${path} is neither a file nor a block special file`);
}
