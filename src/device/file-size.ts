import { read as readCallback } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

const read = promisify(readCallback);

/** The major and minor number of a block special file, from `stat.rdev` as glibc packs them. */
function deviceNumbers(rdev: number): string {
  const packed = BigInt(rdev);
  const major = ((packed >> 8n) & 0xfffn) | ((packed >> 32n) & 0xfffff000n);
  const minor = (packed & 0xffn) | ((packed >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** The size and the sector of a block special file, in bytes. */
export interface BlockSpecialShape {
  readonly size: number;
  readonly sectorSize: number;
}

/**
 * Finds the size and the logical sector of an open block special file, for which `stat` reports 0: from sysfs on Linux, or else by a
 * search for the last byte that can be read.
 *
 * @param sysfs - the folder where sysfs is mounted
 */
export async function blockSpecialShape(fd: number, rdev: number, sysfs = '/sys'): Promise<BlockSpecialShape> {
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
