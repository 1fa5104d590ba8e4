import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { BlockDevice, SyncBlockDevice } from '../../../src/device/block-device.ts';
import { FileDevice } from '../../../src/device/file-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { syncDevice } from '../../../src/device/sync-device.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import type { ChangePoint } from '../../../src/volume/epochs/epoch-map.ts';
import type { StateStorage } from '../../../src/volume/state-directory/state-storage.ts';
import type { VolumeState } from '../../../src/volume/state-directory/volume-state.ts';
import { randomForTest, times, withinMs } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { Disk } from './support/disk.ts';
import { StateDisk } from './support/state-disk.ts';

const BLOCK = 4096;
const BLOCKS = 2048;
const block = (fill: number) => new Uint8Array(BLOCK).fill(fill);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'state-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A device with a synchronous door, as each process has its own over the same content. */
function deviceOver(bytes: Uint8Array): SyncBlockDevice {
  return syncDevice({
    size: bytes.length,
    sectorSize: 1,
    readSync: (offset, into) => into.set(bytes.subarray(offset, offset + into.length)),
    writeSync: (offset, from) => bytes.set(from, offset),
    flushSync: () => {},
  });
}

let disks = 0;

async function newDisk(): Promise<{ device: FileDevice; state: string }> {
  const path = join(folder, `disk-${++disks}`);
  return { device: await FileDevice.open(path, { create: { sizeBytes: BLOCKS * BLOCK } }), state: `${path}.state` };
}

const openVolume = (device: FileDevice, stateDirectory: string, blockSize = BLOCK) =>
  CopyOnWriteVolume.open(device, { blockSize, stateDirectory, closeDevice: true });

async function reopened(device: FileDevice, state: string, blockSize = BLOCK): Promise<CopyOnWriteVolume> {
  return openVolume(await FileDevice.open(device.path), state, blockSize);
}

describe('a volume with a state directory', () => {
  test('goes on with its change tracking when it is opened again', async () => {
    const { device, state } = await newDisk();
    await using repository = await BackupRepository.create(new MemoryTarget(), { encryption: 'none', threads: 0 });
    let volume: CopyOnWriteVolume = await openVolume(device, state);
    expect(volume.recovery).toEqual({ found: 'new', reason: undefined, overReadBytes: 0 });
    await volume.write(7 * BLOCK, block(1));
    await repository.backup(volume, { volume: 'disk' });
    await volume.write(1000 * BLOCK, block(2));
    await volume.close();
    for (let again = 0; again < 3; again++) {
      volume = await reopened(device, state);
      expect(volume.recovery).toEqual({ found: 'clean', reason: undefined, overReadBytes: 0 });
      const { changeSource, readBytes } = await repository.backup(volume, { volume: 'disk' });
      expect([changeSource, readBytes]).toEqual(['tracked', BLOCK]);
      await volume.write((500 + again) * BLOCK, block(3));
      await volume.close();
    }
    // Of a repository that it has not seen it believes nothing. Rule C20.
    volume = await reopened(device, state);
    await using other = await BackupRepository.create(new MemoryTarget(), { encryption: 'none', threads: 0 });
    expect((await other.backup(volume, { volume: 'disk' })).changeSource).toBe('everything');
    await volume.close();
  });

  test('has few files, however often it was opened', async () => {
    const { device, state } = await newDisk();
    let volume: CopyOnWriteVolume = await openVolume(device, state);
    const { point } = await volume.createSnapshot();
    for (let again = 0; again < 30; again++) {
      await volume.write(again * BLOCK, block(1));
      await volume.close();
      volume = await reopened(device, state);
    }
    expect([...(volume.changedSince(point) ?? [])]).toEqual([{ firstBlock: 0, blockCount: 30 }]);
    await volume.close();
    expect((await readdir(state)).length).toBeLessThan(13);
  });

  test('refuses a storage without synchronous calls for a device that has them', async () => {
    const inner = new StateDisk().open();
    const storage = {
      ...inner,
      create: async (name: string) => ({ ...(await inner.create(name)), writeSync: undefined, syncSync: undefined }),
    } as unknown as StateStorage;
    const device = new MemoryDevice(BLOCK);
    await expect(CopyOnWriteVolume.open(device, { blockSize: BLOCK, stateDirectory: storage })).rejects.toThrow(
      'synchronous calls',
    );
  });

  test('is alone with it', async () => {
    const { device, state } = await newDisk();
    const { device: other } = await newDisk();
    const volume = await openVolume(device, state);
    await expect(openVolume(other, state)).rejects.toEqual(withCode('DEVICE_BUSY'));
    await volume.close();
    await (await openVolume(other, state)).close();
  });

  test('refuses what is neither a path nor a storage', async () => {
    const device = new MemoryDevice(BLOCK);
    for (const stateDirectory of ['', 7, {}, null]) {
      await expect(CopyOnWriteVolume.open(device, { stateDirectory: stateDirectory as string })).rejects.toThrow(
        TypeError,
      );
    }
  });

  test('believes no state of another block size, size or device, no copy, and nothing that a newer program has written', async () => {
    const { device, state } = await newDisk();
    const reasonWith = async (change: () => Promise<void>, blockSize = BLOCK) => {
      await change();
      const volume = await reopened(device, state, blockSize);
      await volume.close();
      return volume.recovery?.reason;
    };
    await (await openVolume(device, state)).close();
    expect(await reasonWith(async () => {})).toBe(undefined);
    expect(await reasonWith(async () => {}, 2 * BLOCK)).toBe('block-size');
    expect(await reasonWith(async () => {}, BLOCK)).toBe('block-size');
    const write = (path: string, bytes: Uint8Array) => writeFile(path, bytes);
    expect(await reasonWith(async () => write(device.path, await readFile(device.path)))).toBe('device-newer');
    expect(await reasonWith(() => write(device.path, new Uint8Array(BLOCK)))).toBe('size');
    const copied = async () => {
      await rename(state, `${state}.original`);
      await cp(`${state}.original`, state, { recursive: true });
    };
    expect(await reasonWith(copied)).toBe('copied');
    const replaced = async () => {
      await write(`${device.path}.other`, await readFile(device.path));
      await rename(`${device.path}.other`, device.path);
    };
    expect(await reasonWith(replaced)).toBe('other-device');
    const checkpoint = async () =>
      join(state, (await readdir(state)).find((name) => name.startsWith('checkpoint-')) as string);
    const newer = async () => {
      const path = await checkpoint();
      const bytes = await readFile(path);
      bytes.writeUInt32LE(2, 4);
      await write(path, bytes);
    };
    expect(await reasonWith(newer)).toBe('newer-version');
  });

  test('believes nothing where any bit of it was flipped, or all that is true (C14)', {
    timeout: withinMs(60_000),
  }, async () => {
    const { below } = randomForTest();
    const bytes = new Uint8Array(BLOCKS * BLOCK);
    const disk = new StateDisk();
    const open = () => CopyOnWriteVolume.open(deviceOver(bytes), { blockSize: BLOCK, stateDirectory: disk.open() });
    const volume = await open();
    const { point } = await volume.createSnapshot();
    for (const at of [3, 70, 500, 2000]) await volume.write(at * BLOCK, block(9));
    await volume.close();
    const image = disk.image();
    let believed = 0;
    for (let nth = 0; nth < times(60); nth++) {
      image();
      const names = await disk.open().list();
      const file = disk.bytesOf(names[below(names.length)] as string);
      // Most bytes are the zeroes that fill a group up.
      const at =
        below(4) === 0 ? below(file.length) : Math.min(file.length - 1, 4096 * below(file.length / 4096) + below(64));
      file[at] = (file[at] as number) ^ (1 << below(8));
      const after = await open();
      const changes = after.changedSince(point);
      if (changes !== undefined) {
        believed++;
        const changed = [...changes].flatMap(({ firstBlock, blockCount }) =>
          Array.from({ length: blockCount }, (_, n) => firstBlock + n),
        );
        for (const written of [3, 70, 500, 2000]) expect(changed).toContain(written);
      }
      await after.close();
    }
    expect(believed).toBeLessThan(times(60));
  });

  test('keeps the same promises through its synchronous door', async () => {
    const bytes = new Uint8Array(BLOCKS * BLOCK);
    const disk = new StateDisk();
    const open = () => CopyOnWriteVolume.open(deviceOver(bytes), { blockSize: BLOCK, stateDirectory: disk.open() });
    const volume = await open();
    const snapshot = volume.createSnapshotSync();
    volume.writeSync(9 * BLOCK, block(1));
    const writing = volume.write(400 * BLOCK, block(1));
    volume.writeSync(800 * BLOCK, block(1)); // While the mark of another region is on its way.
    disk.losePower(() => 1); // Nothing that was not durable is there.
    const after = await open();
    expect(after.recovery).toEqual({ found: 'recovered', reason: undefined, overReadBytes: expect.any(Number) });
    const changed = [...(after.changedSince(snapshot.point) as Iterable<{ firstBlock: number; blockCount: number }>)];
    const covers = (at: number) =>
      changed.some(({ firstBlock, blockCount }) => firstBlock <= at && at < firstBlock + blockCount);
    expect([9, 800, 1500].map(covers)).toEqual([true, true, false]);
    void writing;
    await after.close();
  });
});

describe('a state that can not be recorded', () => {
  test('is given up, the volume goes on, and the next process finds none', async () => {
    const bytes = new Uint8Array(BLOCKS * BLOCK);
    const disk = new StateDisk();
    const open = () => CopyOnWriteVolume.open(deviceOver(bytes), { blockSize: BLOCK, stateDirectory: disk.open() });
    const volume = await open();
    const lost: unknown[] = [];
    volume.events.on('stateLost', (error) => lost.push(error));
    disk.fault = (call) => (call === 'write' || call === 'create' ? 'before' : undefined);
    await volume.write(0, block(1));
    await volume.write(900 * BLOCK, block(1));
    await (await volume.createSnapshot()).close();
    expect(lost).toEqual([withCode('STATE_FAILED')]);
    disk.fault = () => undefined;
    await volume.close();
    const after = await open();
    expect(after.recovery?.found).toBe('new');
    await after.close();
  });

  test('nor given up: writes to regions that are not marked are refused until it can be', async () => {
    const bytes = new Uint8Array(BLOCKS * BLOCK);
    const disk = new StateDisk();
    const volume = await CopyOnWriteVolume.open(deviceOver(bytes), { blockSize: BLOCK, stateDirectory: disk.open() });
    await volume.write(0, block(1));
    disk.fault = () => 'before';
    await expect(volume.write(900 * BLOCK, block(1))).rejects.toEqual(withCode('STATE_FAILED'));
    await expect(volume.createSnapshot()).rejects.toEqual(withCode('STATE_FAILED'));
    expect(() => volume.writeSync(900 * BLOCK, block(1))).toThrow(withCode('STATE_FAILED'));
    await volume.write(BLOCK, block(2)); // Its region is marked.
    expect(bytes[900 * BLOCK]).toBe(0);
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve)); // Of what is tried in the background.
    disk.fault = () => undefined;
    await volume.write(900 * BLOCK, block(1));
    await volume.close();
    const after = await CopyOnWriteVolume.open(deviceOver(bytes), {
      blockSize: BLOCK,
      stateDirectory: disk.open(),
    });
    expect(after.recovery?.found).toBe('clean');
    await after.close();
  });
});

describe('after a crash', () => {
  const NOW = 1.8e12;
  beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'], now: NOW }));
  afterEach(() => void vi.useRealTimers());

  const world = () => {
    const disk = new Disk(BLOCKS * BLOCK, Date.now);
    const stateDisk = new StateDisk();
    const kill = () => {
      disk.kill();
      stateDisk.kill();
    };
    const open = () =>
      CopyOnWriteVolume.open(disk.open(), {
        blockSize: BLOCK,
        stateDirectory: stateDisk.open(),
        preserve: { spillBytes: 0 },
      });
    return { disk, stateDisk, open, kill };
  };
  const changesOf = (volume: CopyOnWriteVolume, point: ChangePoint) =>
    [...(volume.changedSince(point) ?? [])].flatMap(({ firstBlock, blockCount }) =>
      Array.from({ length: blockCount }, (_, n) => firstBlock + n),
    );

  test('a device that was reverted to what it was before the newest instant is not believed (C22)', async () => {
    const { disk, open, kill } = world();
    const revert = disk.image();
    const volume = await open();
    vi.setSystemTime(NOW + 30 * 60_000);
    await volume.write(5 * BLOCK, block(1));
    await volume.createSnapshot();
    kill();
    revert();
    expect((await open()).recovery).toMatchObject({ found: 'discarded', reason: 'device-older' });
  });

  test('renumbered epochs (C12) are those of later processes too', async () => {
    const { open, kill } = world();
    let volume = await open();
    const points: ChangePoint[] = [];
    for (let n = 0; n < 300; n++) {
      const snapshot = await volume.createSnapshot();
      points.push(snapshot.point);
      await snapshot.close();
    }
    await volume.write(5 * BLOCK, block(1));
    kill();
    volume = await open();
    for (const point of points.slice(100)) expect(changesOf(volume, point)).toContain(5);
    expect(changesOf(volume, points.at(-1) as ChangePoint)).not.toContain(500);
  });

  test('a checkpoint that has its name is whole (C16)', async () => {
    const { stateDisk, disk, open } = world();
    let volume = await open();
    const { point } = await volume.createSnapshot();
    await volume.write(5 * BLOCK, block(1));
    const { state } = (volume as unknown as { core: { state: VolumeState } }).core;
    await state.compact();
    stateDisk.losePower(() => 1);
    disk.losePower(() => 1);
    volume = await open();
    expect(volume.recovery?.found).toBe('recovered');
    expect(changesOf(volume, point)).toContain(5);
  });

  test('a mark that a process has found is durable before it is relied on (C15)', async () => {
    const { stateDisk, open, kill, disk } = world();
    let volume = await open();
    const { point } = await volume.createSnapshot();
    // The process is killed when the mark was written and not synced: the next one finds it.
    stateDisk.fault = (call) => {
      if (call === 'syncFile') kill();
      return undefined;
    };
    void volume.write(5 * BLOCK, block(1));
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    stateDisk.fault = () => undefined;
    volume = await open();
    expect(volume.recovery?.overReadBytes).toBe(64 * BLOCK);
    await volume.write(6 * BLOCK, block(1)); // Under that mark.
    disk.losePower(() => 0);
    stateDisk.losePower(() => 1); // Nothing that was not durable is there.
    volume = await open();
    expect(changesOf(volume, point)).toContain(6);
  });

  test('a group that continues another one than that before it is not read (C13)', async () => {
    const { stateDisk, open, kill } = world();
    const volume = await open();
    const { point } = await volume.createSnapshot();
    await volume.write(5 * BLOCK, block(1));
    await volume.write(900 * BLOCK, block(1));
    kill();
    const [name] = (await stateDisk.open().list()).filter((each) => each.startsWith('journal-')) as [string];
    // The newest group, of the second mark, stands where that of the first one was.
    const journal = stateDisk.bytesOf(name);
    const last = journal.length - 4096;
    journal.copyWithin(last - 4096, last);
    journal.fill(0, last);
    const after = await open();
    if (after.changedSince(point) !== undefined) expect(changesOf(after, point)).toContain(5);
  });

  test('a write that is made while a failed state is renewed is recorded', async () => {
    const { stateDisk, open, kill } = world();
    const volume = await open();
    const { point } = await volume.createSnapshot();
    stateDisk.fault = () => 'before';
    await expect(volume.write(5 * BLOCK, block(1))).rejects.toEqual(withCode('STATE_FAILED'));
    stateDisk.fault = () => undefined;
    const written = [900, 1000, 1064, 1128, 1192, 1256, 1320];
    const writing: Promise<void>[] = [];
    for (const at of written) {
      writing.push(volume.write(at * BLOCK, block(1)));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(writing);
    kill();
    const after = await open();
    expect(after.recovery?.found).toBe('recovered');
    expect(changesOf(after, point)).toEqual(expect.arrayContaining(written));
  });

  test('a call that ends behind the close of its volume leaves the next process alone', async () => {
    const { disk, stateDisk, kill } = world();
    let flushed = () => {};
    const slow = disk.open();
    const options = { blockSize: BLOCK, stateDirectory: stateDisk.open(), preserve: { spillBytes: 0 } };
    const device: BlockDevice = {
      ...slow,
      flush: () => new Promise<void>((resolve) => (flushed = resolve)),
    };
    const volume = await CopyOnWriteVolume.open(device, options);
    const sealing = volume.createSnapshot();
    sealing.catch(() => {});
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    const release = flushed;
    const closing = volume.close();
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    flushed();
    await closing;
    const next = () =>
      CopyOnWriteVolume.open(disk.open(), {
        blockSize: BLOCK,
        stateDirectory: stateDisk.open(),
        preserve: { spillBytes: 0 },
      });
    const other = await next();
    const { point } = await other.createSnapshot();
    release();
    await expect(sealing).rejects.toEqual(withCode('CLOSED'));
    await other.write(5 * BLOCK, block(1));
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    kill();
    const after = await next();
    expect(after.recovery?.found).toBe('recovered');
    expect(changesOf(after, point)).toContain(5);
  });

  test('a file that is missing is noticed, also the newest one of the journal', async () => {
    const { stateDisk, open } = world();
    for (const missing of ['journal', 'checkpoint']) {
      const volume = await open();
      await volume.createSnapshot();
      await volume.write(5 * BLOCK, block(1));
      await volume.close();
      const storage = stateDisk.open();
      const newest = (await storage.list())
        .filter((name) => name.startsWith(missing))
        .sort()
        .at(-1) as string;
      await storage.remove(newest);
      const after = await open();
      expect(after.recovery).toMatchObject({ found: 'discarded', reason: 'damaged' });
      await after.close();
    }
  });

  test('of a state that had to be given up, leaves none that is older, wherever that stops', async () => {
    for (let removals = 0; removals < 8; removals++) {
      const { stateDisk, open, kill, disk } = world();
      const volume = await open();
      const { state } = (volume as unknown as { core: { state: VolumeState } }).core;
      const { point } = await volume.createSnapshot();
      stateDisk.fault = (call) => (call === 'remove' ? 'before' : undefined);
      await state.compact(); // The older files stay.
      await volume.write(5 * BLOCK, block(1));
      let left = removals;
      stateDisk.fault = (call) => {
        if (call === 'list' || call === 'sync') return undefined;
        return call === 'remove' && left-- > 0 ? undefined : 'before';
      };
      await volume.write(900 * BLOCK, block(1)).catch(() => {});
      kill();
      stateDisk.fault = () => undefined;
      const after = await open();
      if (after.changedSince(point) !== undefined) expect(changesOf(after, point)).toContain(5);
      expect(disk.content[5 * BLOCK]).toBe(1);
    }
  });

  test('acknowledges nothing behind a file that failed before that is found again (C17)', async () => {
    const { stateDisk, disk, open } = world();
    const volume = await open();
    const { point } = await volume.createSnapshot();
    let isOver = false;
    stateDisk.fault = (call) => {
      if (call === 'rename') {
        // The power fails before the new checkpoint has its name. Nothing is there that was not durable.
        stateDisk.losePower(() => 1);
        disk.losePower(() => 0);
      }
      if (call !== 'syncFile' || isOver) return undefined;
      isOver = true;
      return 'before';
    };
    const acknowledged: number[] = [];
    const write = (at: number) => volume.write(at * BLOCK, block(1)).then(() => acknowledged.push(at));
    void write(5);
    for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
    for (const at of [500, 900, 1300]) void write(at);
    for (let turn = 0; turn < 40; turn++) await new Promise((resolve) => setImmediate(resolve));
    stateDisk.fault = () => undefined;
    const after = await open();
    for (const at of acknowledged) expect(changesOf(after, point)).toContain(at);
    expect(after.changedSince(point)).toBeDefined();
  });
});

test('of a process that is killed while it writes, no change is missed', { timeout: withinMs(120_000) }, async () => {
  const { below } = randomForTest();
  const path = await mkdtemp(join(folder, 'killed-'));
  await (await FileDevice.open(join(path, 'disk.img'), { create: { sizeBytes: 512 * BLOCK } })).close();
  const target = new FileTarget(join(path, 'store'));
  await (await BackupRepository.create(target, { encryption: 'none', threads: 0 })).close();
  const program = fileURLToPath(new URL('./support/killed-writer.ts', import.meta.url));
  for (let nth = 0; nth < times(3); nth++) {
    const args = ['--experimental-strip-types', '--disable-warning=ExperimentalWarning', program, path, String(nth)];
    const child = spawn(process.execPath, args, {
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [changeSource] = (await once(createInterface(child.stdout), 'line')) as [string];
    expect(changeSource).toBe(nth === 0 ? 'everything' : 'tracked');
    await delay(20 + below(150));
    child.kill('SIGKILL');
    await once(child, 'close');
    await using device = await FileDevice.open(join(path, 'disk.img'));
    await using volume = await CopyOnWriteVolume.open(device, {
      blockSize: BLOCK,
      stateDirectory: join(path, 'state'),
    });
    expect(volume.recovery?.found).toBe('recovered');
    await using repository = await BackupRepository.open(target, { threads: 0 });
    const result = await repository.backup(volume, { volume: 'disk' });
    expect(result.changeSource).toBe('tracked');
    const copy = new MemoryDevice(volume.size);
    await repository.restore(result.id, copy);
    expect(Buffer.compare(copy.bytes, await readFile(device.path))).toBe(0);
  }
});
