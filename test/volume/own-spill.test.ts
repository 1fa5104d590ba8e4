import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { chmod, mkdir, readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { CopyOnWriteVolume, FileDevice, MemoryDevice, type PreserveOptions } from '../../src/index.ts';
import { openSpill } from '../../src/volume/spill-file.ts';
import { findSpillPlace, spillFolders } from '../../src/volume/spill-place.ts';
import { checkVolumeOptions } from '../../src/volume/volume-options.ts';
import { BLOCK, contentOf, errorOf, expectSame, filled, numberBlocks, turn } from './support/bytes.ts';
import { mountSmallDisk } from './support/full-disk.ts';
import { scratchFolder } from './support/scratch.ts';

/** The spill that a volume has of its own when none is named. */

const BLOCKS = 16;
const smallDisk = mountSmallDisk(1024 * 1024);
const before = process.env.TMPDIR;
afterAll(() => smallDisk?.unmount());
let folder = '';
beforeEach(async () => {
  folder = await scratchFolder();
  process.env.TMPDIR = folder;
});
afterEach(() => {
  if (before === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = before;
  vi.restoreAllMocks();
});

async function open(preserve: PreserveOptions = {}) {
  const device = new MemoryDevice(BLOCKS * BLOCK);
  numberBlocks(device.bytes);
  const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK, preserve: { memoryBytes: 0, ...preserve } });
  onTestFinished(() => volume.close());
  return { device, volume, initial: device.bytes.slice() };
}

/** Open files of this process in the folder, with or without a name. */
function openFiles(): { path: string; descriptor: string }[] {
  return readdirSync('/proc/self/fd').flatMap((name) => {
    const descriptor = `/proc/self/fd/${name}`;
    try {
      const path = readlinkSync(descriptor);
      return path.startsWith(folder) ? [{ path, descriptor }] : [];
    } catch {
      return [];
    }
  });
}

describe("a volume's own spill", () => {
  test('takes what memory has no room for, is made at the first need, and has no name', async () => {
    const { volume, initial } = await open({ memoryBytes: 2 * BLOCK });
    const snapshot = await volume.createSnapshot();
    for (const block of [0, 1]) await volume.write(block * BLOCK, filled(0xaa));
    if (process.platform === 'linux') expect(openFiles()).toEqual([]);
    for (let block = 2; block < BLOCKS; block++) await volume.write(block * BLOCK, filled(0xaa));
    if (process.platform === 'linux') {
      // It is written behind, and so it is made.
      await expect.poll(() => openFiles().map(({ path }) => path)).toEqual([expect.stringMatching(/ \(deleted\)$/)]);
    }
    expectSame(await contentOf(snapshot), initial);
    expect(await readdir(folder)).toEqual([]);
    if (process.platform !== 'linux') return;
    const [spill, ...more] = openFiles();
    expect(more).toEqual([]);
    expect(spill?.path).toMatch(/cow-cloud-backup-.*\.spill \(deleted\)$/);
    expect(statSync(spill?.descriptor ?? '').mode & 0o777).toBe(0o600);
    await volume.close();
    expect(openFiles()).toEqual([]);
  });

  test('serves the synchronous door too, also in the middle of being made for the other one', async () => {
    const { volume, initial } = await open();
    const snapshot = await volume.createSnapshot();
    const writing = volume.write(0, filled(0xaa));
    volume.writeSync(BLOCK, filled(0xaa, 3 * BLOCK));
    await writing;
    await volume.write(5 * BLOCK, filled(0xaa, 2 * BLOCK));
    await turn();
    expectSame(await contentOf(snapshot), initial);
    if (process.platform === 'linux') expect(openFiles()).toHaveLength(1);
    await volume.close();
    expect(await readdir(folder)).toEqual([]);
  });

  test('is bounded: by the volume, by a quarter of what is free, or by the number that was given', async () => {
    const { volume } = await open();
    expect(volume.preimages.spill.limitBytes).toBe(BLOCKS * BLOCK);
    const given = await open({ spillBytes: 3 * BLOCK + 1 });
    expect(given.volume.preimages.spill.limitBytes).toBe(3 * BLOCK);
    const none = await open({ spillBytes: 0, memoryBytes: BLOCK });
    expect(none.volume.preimages.spill.limitBytes).toBe(0);
    const place = await findSpillPlace([folder]);
    if (!('freeBytes' in place)) expect.fail('the scratch folder is in memory');
    const huge = {
      size: 2 ** 45,
      sectorSize: 1,
      read: noted,
      write: noted,
      flush: noted,
      [Symbol.asyncDispose]: noted,
    };
    const large = await CopyOnWriteVolume.open(huge, { blockSize: 4 * 1024 * 1024 });
    onTestFinished(() => large.close());
    const { limitBytes } = large.preimages.spill;
    expect(limitBytes).toBeGreaterThan(0);
    expect(limitBytes).toBeLessThanOrEqual(Math.min(32 * 1024 ** 3, place.freeBytes * 0.3));
  });

  test('that can not be made is a failure of the spill that names the folder', async () => {
    const gone = join(folder, 'gone');
    await mkdir(gone);
    process.env.TMPDIR = gone;
    const late = await open({ onFailure: 'fail-write' });
    await rmdir(gone);
    await late.volume.createSnapshot();
    const error = await errorOf(late.volume.write(0, filled(1)), 'PRESERVE_FAILED');
    expect(String((error.cause as Error).cause)).toContain(gone);
  });
});

const noted = async () => {};

describe('the place of a spill', () => {
  test.runIf(smallDisk !== undefined)('is never a filesystem in memory', async () => {
    const found = await findSpillPlace([smallDisk?.folder ?? '', folder]);
    expect(found).toMatchObject({ folder });
    expect(await findSpillPlace([smallDisk?.folder ?? ''])).toEqual([
      { folder: smallDisk?.folder, reason: 'is, or may be, in memory' },
    ]);
  });

  test.runIf(smallDisk !== undefined)('may be in memory when the host names it', async () => {
    const spillPath = join(smallDisk?.folder ?? '', 'spill');
    const { volume, initial } = await open({ spillPath });
    const snapshot = await volume.createSnapshot();
    await volume.write(0, filled(0xaa, 4 * BLOCK));
    await turn();
    expectSame(await contentOf(snapshot), initial);
  });

  test('is a folder that is there and may be written to', async () => {
    const [missing, locked] = [join(folder, 'missing'), join(folder, 'locked')];
    await mkdir(locked);
    await chmod(locked, 0o500);
    const found = await findSpillPlace([missing, locked]);
    const isRoot = process.getuid?.() === 0;
    if (isRoot) expect(found).toMatchObject({ folder: locked });
    else
      expect(found).toEqual([
        { folder: missing, reason: 'ENOENT' },
        { folder: locked, reason: 'EACCES' },
      ]);
  });

  test('is looked for among temporary folders first, and beside the image last', async () => {
    const images = join(folder, 'images');
    await mkdir(images);
    const device = await FileDevice.open(join(images, 'disk'), { create: { sizeBytes: BLOCK } });
    onTestFinished(() => device.close());
    const expected = process.platform === 'win32' ? [folder, images] : [folder, '/var/tmp', images];
    expect(spillFolders(device)).toEqual(expected);
    expect(spillFolders(new MemoryDevice(BLOCK))).toEqual(expected.slice(0, -1));
  });
});

describe('without any place', () => {
  const nowhere = {
    size: 2 ** 30,
    sectorSize: 1,
    read: noted,
    write: noted,
    flush: noted,
    [Symbol.asyncDispose]: noted,
  };

  test('a volume keeps pre-images in memory, and warns once a process; with no memory either it does not open', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const folders = [join(folder, 'missing')];
    const memoryOnly = checkVolumeOptions(nowhere, {});
    for (let time = 0; time < 2; time++) expect(await openSpill(nowhere, memoryOnly, folders)).toBeUndefined();
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]?.[0]).toMatch(/missing \(ENOENT\).*preserve\.spillPath.*67108864 bytes/);
    expect(warn.mock.calls[0]?.[1]).toMatchObject({ code: 'NO_SPILL' });
    const spillOnly = checkVolumeOptions(nowhere, { preserve: { memoryBytes: 0 } });
    await errorOf(openSpill(nowhere, spillOnly, folders), 'PREIMAGE_SPACE');
    expect(
      await openSpill(nowhere, checkVolumeOptions(nowhere, { preserve: { spillBytes: 0 } }), folders),
    ).toBeUndefined();
  });

  test('room for less than one block is refused; none at all is a choice', async () => {
    const device = new MemoryDevice(BLOCK);
    const preserve = { memoryBytes: BLOCK - 1, spillBytes: 0 };
    await expect(CopyOnWriteVolume.open(device, { blockSize: BLOCK, preserve })).rejects.toThrow(
      /no room for one block/,
    );
    const volume = await CopyOnWriteVolume.open(device, { preserve: { memoryBytes: 0, spillBytes: 0 } });
    expect(volume.preimages.limitBytes).toBe(0);
    await volume.close();
  });
});
