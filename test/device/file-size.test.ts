import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { FileDevice } from '../../src/device/file-device.ts';
import { blockSpecialShape, lastReadableByte } from '../../src/device/file-open.ts';
import { folderForFile } from '../support/folders.ts';
import { makeLoopDevice, sayLoudly } from './support/loop-device.ts';

const folder = folderForFile();
const image = join(folder, 'image');
const NO_SYSFS = join(folder, 'nothing-here');

/** A device's number as stat(2) gives it, by the definition of makedev(3). */
function makedev(major: number, minor: number): number {
  const [x, y] = [BigInt(major), BigInt(minor)];
  const bits = ((x & 0xfffn) << 8n) | ((x & 0xfffff000n) << 32n) | (y & 0xffn) | ((y & 0xffffff00n) << 12n);
  return Number(bits);
}

describe('the size of what stat calls 0 bytes long', () => {
  test('is found by looking for the last byte that can be read', async () => {
    for (const size of [0, 1, 2, 511, 512, 513, 1023, 1024, 1025, 4096, 5_000_017, 5 * 2 ** 30 + 3]) {
      writeFileSync(image, '');
      truncateSync(image, size);
      await using file = await open(image);
      expect(await lastReadableByte(file.fd), `${size} bytes`).toBe(size);
    }
  });

  test('is what sysfs says, in units of 512 bytes whatever the sector is', async () => {
    const sysfs = join(folder, 'sys');
    const numbers = [
      [7, 0],
      [259, 3],
      [8, 300],
      [5000, 300_000],
    ] as const;
    for (const [major, minor] of numbers) {
      const queue = join(sysfs, 'dev', 'block', `${major}:${minor}`, 'queue');
      mkdirSync(queue, { recursive: true });
      writeFileSync(join(queue, 'logical_block_size'), '4096\n');
      writeFileSync(join(queue, '..', 'size'), `${1000 + minor}\n`);
      const shape = await blockSpecialShape(-1, makedev(major, minor), sysfs);
      expect(shape).toEqual({ size: (1000 + minor) * 512, sectorSize: 4096 });
    }
  });

  test('a partition has the sector of its disk', async () => {
    const disk = join(folder, 'devices', 'sda');
    mkdirSync(join(disk, 'sda1'), { recursive: true });
    mkdirSync(join(disk, 'queue'));
    writeFileSync(join(disk, 'queue', 'logical_block_size'), '2048\n');
    writeFileSync(join(disk, 'sda1', 'size'), '16\n');
    const sysfs = join(folder, 'partitioned');
    mkdirSync(join(sysfs, 'dev', 'block'), { recursive: true });
    symlinkSync(join(disk, 'sda1'), join(sysfs, 'dev', 'block', '8:1'));
    expect(await blockSpecialShape(-1, makedev(8, 1), sysfs)).toEqual({ size: 8192, sectorSize: 2048 });
  });

  test('without sysfs, or where it says nothing sensible, the device itself is looked at', async () => {
    writeFileSync(image, new Uint8Array(12_288));
    await using file = await open(image);
    const nonsense = join(folder, 'nonsense');
    mkdirSync(join(nonsense, 'dev', 'block', '7:1'), { recursive: true });
    writeFileSync(join(nonsense, 'dev', 'block', '7:1', 'size'), 'many\n');
    for (const sysfs of [NO_SYSFS, nonsense]) {
      expect(await blockSpecialShape(file.fd, makedev(7, 1), sysfs)).toEqual({ size: 12_288, sectorSize: 512 });
    }
  });
});

const loop = makeLoopDevice(join(folder, 'loop'), 3 * 1024 * 1024 + 512);
if (typeof loop === 'string') {
  sayLoudly(`opening block special files. ${loop}`);
  test.skip(`a block special file: ${loop}`);
} else {
  afterAll(() => loop.remove());
  describe('a block special file', () => {
    test('has the same size through sysfs and by looking', async () => {
      const file = await open(loop.path);
      const { rdev } = await file.stat();
      const [told, found] = [await blockSpecialShape(file.fd, rdev), await blockSpecialShape(file.fd, rdev, NO_SYSFS)];
      await file.close();
      expect(told).toEqual({ size: 3 * 1024 * 1024 + 512, sectorSize: 512 });
      expect(found).toEqual(told);
      await using device = await FileDevice.open(loop.path);
      expect([device.size, device.sectorSize]).toEqual([told.size, told.sectorSize]);
    });

    test('is exclusive, also under another name', async () => {
      const other = join(folder, 'other-name');
      const [, minor] = /(\d+)$/.exec(loop.path) as RegExpExecArray;
      execFileSync('mknod', [other, 'b', '7', minor as string]);
      await using _device = await FileDevice.open(loop.path);
      for (const path of [loop.path, other]) {
        await expect(FileDevice.open(path)).rejects.toMatchObject({ code: 'DEVICE_BUSY' });
      }
      await using shared = await FileDevice.open(other, { shared: true });
      expect(shared.size).toBe(3 * 1024 * 1024 + 512);
    });

    test('is not there when nothing is behind its name', async () => {
      const path = join(folder, 'no-driver');
      execFileSync('mknod', [path, 'b', '60', '13']); // Major 60 is for local use.
      await expect(FileDevice.open(path)).rejects.toMatchObject({ code: 'DEVICE_NOT_FOUND' });
    });
  });
}
