import * as fs from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { BackupError } from '../common/errors.ts';
import { ignoreModesUnsupported, syncDirectory } from '../common/system-errors.ts';
import { fileError } from './file-errors.ts';
import { lockingOpenFlags } from './file-lock.ts';
import type { Bounds } from './span.ts';

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
export async function shapeOf(fd: number, path: string): Promise<Bounds> {
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

const read = promisify(fs.read);

/** The major and minor number of a block special file, from `stat.rdev` as glibc packs them. */
function deviceNumbers(rdev: number): string {
  const packed = BigInt(rdev);
  const major = ((packed >> 8n) & 0xfffn) | ((packed >> 32n) & 0xfffff000n);
  const minor = (packed & 0xffn) | ((packed >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/**
 * Finds the size and the logical sector of an open block special file, for which `stat` reports 0: from sysfs on Linux, or else by a
 * search for the last byte that can be read.
 *
 * @param sysfs - the folder where sysfs is mounted
 */
export async function blockSpecialShape(fd: number, rdev: number, sysfs = '/sys'): Promise<Bounds> {
  const folder = `${sysfs}/dev/block/${deviceNumbers(rdev)}`;
  try {
    // The unit of sysfs is 512 bytes, whatever the sector is. The queue of a partition is one level up.
    const size = parseCount(await readFile(`${folder}/size`, 'utf8')) * 512;
    const queue = await readFile(`${folder}/queue/logical_block_size`, 'utf8').catch(() =>
      readFile(`${folder}/../queue/logical_block_size`, 'utf8'),
    );
    return { size, sectorSize: parseCount(queue) };
  } catch {
    return { size: await lastReadableByte(fd), sectorSize: 512 };
  }
}

function parseCount(text: string): number {
  const count = Number.parseInt(text, 10);
  if (!Number.isSafeInteger(count) || count < 0) throw new Error(`not a count: ${text}`);
  return count;
}

/** The number of bytes that can be read from a seekable file, by doubling and then halving. */
export async function lastReadableByte(fd: number): Promise<number> {
  const byte = Buffer.alloc(1);
  const readable = async (offset: number) => {
    try {
      return (await read(fd, byte, 0, 1, offset)).bytesRead === 1;
    } catch {
      return false; // Some systems throw an error after the end.
    }
  };
  if (!(await readable(0))) return 0;
  let there = 0;
  let beyond = 512;
  while (beyond < 2 ** 52 && (await readable(beyond))) {
    there = beyond;
    beyond *= 2;
  }
  while (beyond - there > 1) {
    const middle = there + Math.floor((beyond - there) / 2);
    if (await readable(middle)) there = middle;
    else beyond = middle;
  }
  return beyond;
}
