import { read as readCallback } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

const read = promisify(readCallback);

/** A block special file's major and minor numbers, from `stat.rdev` as glibc packs it. */
function deviceNumbers(rdev: number): string {
  const packed = BigInt(rdev);
  const major = ((packed >> 8n) & 0xfffn) | ((packed >> 32n) & 0xfffff000n);
  const minor = (packed & 0xffn) | ((packed >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** What is known of a block special file, in bytes. */
export interface BlockSpecialShape {
  readonly size: number;
  readonly sectorSize: number;
}

/**
 * Size and logical sector of an open block special file, whose `stat` says 0: from sysfs on Linux, else by looking
 * for the last byte that can be read.
 *
 * @param sysfs - where sysfs is mounted
 */
export async function blockSpecialShape(fd: number, rdev: number, sysfs = '/sys'): Promise<BlockSpecialShape> {
  const folder = `${sysfs}/dev/block/${deviceNumbers(rdev)}`;
  try {
    // sysfs counts in units of 512 bytes whatever the sector is. A partition has its queue a level up.
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

/** The end of what can be read, by doubling and then halving; works for anything seekable. */
export async function lastReadableByte(fd: number): Promise<number> {
  const byte = Buffer.alloc(1);
  const readable = async (offset: number) => {
    try {
      return (await read(fd, byte, 0, 1, offset)).bytesRead === 1;
    } catch {
      return false; // Past the end some systems give an error instead of nothing.
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
