import { readdirSync, readlinkSync, statSync } from 'node:fs';
import fsPromises, { chmod, mkdir, readdir, rmdir } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { isAbsolute, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { CopyOnWriteVolume, FileDevice, MemoryDevice, type PreserveOptions } from '../../src/index.ts';
import { openSpill, Spill } from '../../src/volume/spill.ts';
import { findSpillFolder, SpillFile, spillFolders } from '../../src/volume/spill-file.ts';
import { checkVolumeOptions } from '../../src/volume/volume-options.ts';
import { folderForTest } from '../support/folders.ts';
import { turn } from '../support/turn.ts';
import { BLOCK, contentOf, errorOf, expectSame, filled, numberBlocks } from './support/bytes.ts';
import { mountSmallDisk } from './support/full-disk.ts';

/** The spill that a volume has of its own when none is named. */

const BLOCKS = 16;
const smallDisk = mountSmallDisk(1024 * 1024);
const before = process.env.TMPDIR;
afterAll(() => smallDisk?.unmount());
let folder = '';
beforeEach(async () => {
  folder = await folderForTest();
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
    const place = await findSpillFolder([folder], 0);
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

describe('the disk of a spill', () => {
  test('that has become full is no room, and no failure: what waits for room may still get some', async () => {
    let hasRoom = true;
    const slot = 65_536;
    const size = 2048 * slot;
    const settings = { slotBytes: slot, limitBytes: size, isVerified: false, disk: { reserve: () => hasRoom } };
    const spill = new Spill({ ...nowhere, size }, settings);
    expect(spill.slotCount).toBe(2048);
    const slots = Array.from({ length: 1024 }, () => spill.allocate());
    hasRoom = false;
    while (slots.at(-1) !== undefined) slots.push(spill.allocate());
    expect(slots.length).toBeLessThan(2048);
    expect(spill.slotCount).toBe(slots.length - 1); // The gauge says it, so that packs are sent.
    spill.release(5);
    expect(spill.allocate()).toBe(5);
    expect(spill.allocate()).toBe(undefined);
    hasRoom = true;
    expect(spill.allocate()).toBe(slots.length - 1);
    expect(spill.slotCount).toBe(2048);
  });

  test.runIf(smallDisk !== undefined)('is asked before it is written to, and left a part for others', async () => {
    let now = 0;
    const file = new SpillFile(smallDisk?.folder ?? '', 256 * 1024, { now: () => now });
    onTestFinished(() => file[Symbol.asyncDispose]());
    await file.measure();
    expect(file.reserve(1000 * 1024)).toBe(false);
    expect(file.reserve(256 * 1024)).toBe(true);
    smallDisk?.fill();
    now = 200;
    await file.measure();
    expect(file.reserve(4096)).toBe(false);
    smallDisk?.clear();
  });

  test('that hangs holds nobody up: what is known of it, less what was taken since, decides', async () => {
    let now = 0;
    const looks: PromiseWithResolvers<{ bavail: number; bsize: number }>[] = [];
    const answer = (mib: number) => looks.shift()?.resolve({ bavail: mib * 256, bsize: 4096 });
    const look = () => {
      const asked = Promise.withResolvers<{ bavail: number; bsize: number }>();
      looks.push(asked);
      return asked.promise;
    };
    const MIB = 2 ** 20;
    const file = new SpillFile(folder, 2 ** 30, { freeBytes: 100 * MIB, now: () => now, statfs: look });
    let calls = 0;
    file.onSpace = () => calls++;
    // 64 MiB are left to others.
    expect([file.reserve(16 * MIB), file.reserve(16 * MIB), file.reserve(16 * MIB)]).toEqual([true, true, false]);
    expect(looks).toHaveLength(0); // Known well enough.
    now = 100;
    file.measureIfStale();
    expect(file.reserve(16 * MIB)).toBe(false);
    now = 10_000;
    file.measureIfStale();
    expect(looks).toHaveLength(1); // One at a time, however long it takes.
    answer(70);
    await turn();
    file.measureIfStale();
    expect(looks).toHaveLength(1);
    expect([file.reserve(16 * MIB), calls]).toEqual([false, 0]);
    answer(80);
    await turn();
    expect(calls).toBe(1); // Claims that wait for room are retried.
    expect([file.reserve(16 * MIB), file.reserve(1)]).toEqual([true, false]);
    now = 20_000;
    file.measureIfStale();
    looks.shift()?.reject(new Error('gone'));
    await turn();
    expect(calls).toBe(2);
    expect(file.reserve(2 ** 40)).toBe(true); // Not known: the write will tell.
  });

  test.runIf(process.platform === 'linux')('has its room back once nothing of a large spill is in use', async () => {
    const blocks = 17;
    const blockSize = 4 * 1024 * 1024;
    const device = new MemoryDevice(blocks * blockSize);
    device.bytes.fill(1);
    const volume = await CopyOnWriteVolume.open(device, { blockSize, preserve: { memoryBytes: 0 } });
    onTestFinished(() => volume.close());
    const buffer = filled(0xaa);
    for (let round = 0; round < 2; round++) {
      const snapshot = await volume.createSnapshot();
      for (let block = 0; block < blocks; block++) volume.writeSync(block * blockSize, buffer);
      expect(openFiles()).toHaveLength(1);
      const first = new Uint8Array(1);
      await snapshot.read((blocks - 1) * blockSize, first);
      expect(first[0]).toBe(round === 0 ? 1 : 0xaa);
      await snapshot.close();
      await expect.poll(openFiles).toEqual([]);
    }
  });
});

const noted = async () => {};
const nowhere = {
  size: 2 ** 30,
  sectorSize: 1,
  read: noted,
  write: noted,
  flush: noted,
  [Symbol.asyncDispose]: noted,
};

describe('the place of a spill', () => {
  test.runIf(smallDisk !== undefined)('is never a filesystem in memory', async () => {
    const found = await findSpillFolder([smallDisk?.folder ?? '', folder], 0);
    expect(found).toMatchObject({ folder });
    expect(await findSpillFolder([smallDisk?.folder ?? ''], 0)).toEqual([
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
    const found = await findSpillFolder([missing, locked], 0);
    const isRoot = process.getuid?.() === 0;
    if (isRoot) expect(found).toMatchObject({ folder: locked });
    else
      expect(found).toEqual([
        { folder: missing, reason: 'ENOENT' },
        { folder: locked, reason: 'EACCES' },
      ]);
  });

  test('is the first with room for all that may be wanted, else the one with the most', async () => {
    const other = join(folder, 'other');
    await mkdir(other);
    const free = new Map([
      [folder, 100],
      [other, 300],
    ]);
    vi.spyOn(fsPromises, 'statfs').mockImplementation((async (path: string) => ({
      type: 0xef53,
      bsize: 1024,
      bavail: free.get(path) ?? 0,
    })) as never);
    syncBuiltinESMExports();
    onTestFinished(() => {
      vi.restoreAllMocks();
      syncBuiltinESMExports();
    });
    const best = (wanted: number) => findSpillFolder([folder, other], wanted);
    expect(await best(50 * 1024)).toMatchObject({ folder });
    expect(await best(200 * 1024)).toMatchObject({ folder: other });
    expect(await best(2 ** 30)).toMatchObject({ folder: other });
    free.set(folder, 0).set(other, 0);
    expect(await best(2 ** 30)).toEqual([folder, other].map((each) => ({ folder: each, reason: 'is full' })));
    // A disk that is full must not keep a volume from the next one.
    free.set(other, 1000);
    const opened = await openSpill(nowhere, checkVolumeOptions(nowhere, {}), [folder, other]);
    onTestFinished(() => opened?.close());
    expect(opened?.slotCount).toBe(Math.floor((1000 * 1024) / 4 / 65_536));
  });

  test('is absolute, since the file is made later', () => {
    process.env.TMPDIR = 'relative';
    expect(spillFolders(new MemoryDevice(BLOCK)).every(isAbsolute)).toBe(true);
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
