import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { CopyOnWriteVolume, MemoryDevice, type PreserveOptions } from '../../src/index.ts';
import { folderForTest } from '../support/folders.ts';
import { turn } from '../support/turn.ts';
import {
  BLOCK,
  codesOf,
  contentOf,
  errorOf,
  expectFilled,
  expectSame,
  filled,
  isSettled,
  numberBlocks,
} from './support/bytes.ts';
import { openVolume } from './support/open-volume.ts';
import { ScriptedDevice } from './support/scripted-device.ts';

/** Where pre-images go, what they count, and that their room comes back. */

const BLOCKS = 16;

afterEach(() => {
  vi.useRealTimers();
});

function open(preserve: PreserveOptions) {
  const isSpillNamed = preserve.spillDevice !== undefined || preserve.spillPath !== undefined;
  return openVolume(BLOCKS, {
    preserve: { onFailure: 'fail-write', ...(isSpillNamed ? {} : { spillBytes: 0 }), ...preserve },
  });
}

async function expectFull(overwrite: () => Promise<void>): Promise<void> {
  expect(codesOf(await errorOf(overwrite(), 'PRESERVE_FAILED'))).toEqual(['PRESERVE_FAILED', 'PREIMAGE_SPACE']);
}

describe('pre-images', () => {
  test('go to memory up to its limit, then to the spill up to its own, then the policy decides', async () => {
    const spillDevice = new ScriptedDevice(8 * BLOCK);
    const { volume, overwrite, initial } = await open({ memoryBytes: 2 * BLOCK, spillDevice, spillBytes: 3 * BLOCK });
    const snapshot = await volume.createSnapshot();
    const spilled: number[] = [];
    for (let block = 0; block < 5; block++) {
      await overwrite(block);
      await turn(); // The spill is written behind.
      spilled.push(spillDevice.count('write'));
    }
    expect(spilled).toEqual([0, 0, 1, 2, 3]);
    await expectFull(() => overwrite(5));
    expectSame(await contentOf(snapshot), initial);
  });

  test("of a large snapshot are freed in many turns of the event loop, and are in nobody's way meanwhile", async () => {
    const blocks = 20_000;
    const device = new MemoryDevice(blocks * 4096);
    for (let block = 0; block < blocks; block++) device.bytes[block * 4096] = 1;
    const preserve = { memoryBytes: (blocks + 1) * 4096, spillBytes: 0, onFailure: 'break-snapshot' } as const;
    const volume = await CopyOnWriteVolume.open(device, { blockSize: 4096, preserve });
    onTestFinished(() => volume.close());
    const first = await volume.createSnapshot();
    const fill = (value: number) => {
      const buffer = new Uint8Array(4096).fill(value);
      for (let block = 0; block < blocks; block++) volume.writeSync(block * 4096, buffer);
    };
    fill(2);
    expect(volume.preimages.heldBytes).toBe(blocks * 4096);
    let turns = 0;
    const count = () => {
      turns++;
      next = setImmediate(count);
    };
    let next = setImmediate(count);
    const closing = first.close();
    expect(volume.preimages.heldBytes).toBeGreaterThan(0);
    await closing;
    clearImmediate(next);
    expect(volume.preimages.heldBytes).toBe(0);
    expect(turns).toBeGreaterThanOrEqual(4);
    const second = await volume.createSnapshot();
    fill(3);
    // Both doors find the room that is about to come back, also for a snapshot of the same turn.
    void second.close();
    const third = volume.createSnapshotSync();
    const waiting = volume.write((blocks - 1) * 4096, filled(4, 4096));
    fill(5);
    await waiting;
    expect(third.status).toBe('live');
    const seen = new Uint8Array(4096);
    await third.read((blocks - 1) * 4096, seen);
    expect(seen.every((byte) => byte === 3)).toBe(true);
    const shared = await third.share();
    expect(shared.states.counts).toMatchObject({ preserved: blocks });
    await Promise.all([third.close(), shared.close()]);
    expect(volume.preimages.heldBytes).toBe(0);
  });

  test('of very many blocks that are marked stored at once are freed in later turns, also where marks follow each other', async () => {
    const blocks = 10_000;
    const device = new MemoryDevice(blocks * 4096);
    device.bytes.fill(1);
    const preserve = { memoryBytes: blocks * 4096, spillBytes: 0 };
    const volume = await CopyOnWriteVolume.open(device, { blockSize: 4096, preserve });
    onTestFinished(() => volume.close());
    const snapshot = await volume.createSnapshot();
    const shared = await snapshot.share();
    for (let block = 0; block < blocks; block++) volume.writeSync(block * 4096, filled(2, 4096));
    const half = { firstBlock: blocks / 2, blockCount: blocks / 2 };
    const everything = { firstBlock: 0, blockCount: blocks };
    snapshot.mark(everything, 'storing');
    snapshot.mark(everything, 'stored');
    shared.mark(half, 'inherited');
    // What one of them wants is kept; of the other half some are left, and are true until they are freed.
    expect(volume.preimages.heldBytes).toBeGreaterThan((blocks / 2) * 4096);
    for (let looks = 0; looks < 20 && volume.preimages.heldBytes > (blocks / 2) * 4096; looks++) await turn();
    expect(volume.preimages.heldBytes).toBe((blocks / 2) * 4096);
    const seen = new Uint8Array(4096);
    await shared.read(0, seen);
    expect(seen.every((byte) => byte === 1)).toBe(true);
    await errorOf(shared.read((blocks / 2) * 4096, seen), 'BLOCK_RELEASED');
    shared.mark({ firstBlock: 0, blockCount: blocks / 2 }, 'inherited');
    for (let looks = 0; looks < 20 && volume.preimages.heldBytes > 0; looks++) await turn();
    expect(volume.preimages.heldBytes).toBe(0);
  });

  test('limits that are not whole blocks are rounded down', async () => {
    const spillDevice = new ScriptedDevice(8 * BLOCK);
    const { volume, overwrite } = await open({ memoryBytes: 2 * BLOCK - 1, spillDevice, spillBytes: 2 * BLOCK - 1 });
    await volume.createSnapshot();
    await overwrite(0);
    await overwrite(1);
    await expectFull(() => overwrite(2));
  });

  test('of zeroes take no room, whichever the door and the limit', async () => {
    const device = new MemoryDevice(4 * BLOCK);
    const volume = await CopyOnWriteVolume.open(device, {
      blockSize: BLOCK,
      preserve: { memoryBytes: BLOCK, spillBytes: 0, onFailure: 'fail-write' },
    });
    const snapshot = await volume.createSnapshot();
    for (let block = 0; block < 4; block++) {
      if (block % 2 === 0) await volume.write(block * BLOCK, filled(1));
      else volume.writeSync(block * BLOCK, filled(1));
    }
    expect(snapshot.states.counts.zero).toBe(4);
    await expectFilled(snapshot, 0, 0, 4 * BLOCK);
  });

  test('of which the only byte that is not zero is the last one are no zeroes', async () => {
    const device = new MemoryDevice(BLOCK + 512);
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    device.bytes[BLOCK - 1] = 1;
    device.bytes[BLOCK + 511] = 1;
    const before = device.bytes.slice();
    const snapshot = await volume.createSnapshot();
    await volume.write(0, filled(7, BLOCK + 512));
    expect(snapshot.states.counts.preserved).toBe(2);
    expectSame(await contentOf(snapshot), before);
  });

  test('the last block, which is short, is preserved and spilled like any other', async () => {
    const device = new MemoryDevice(BLOCK + 512);
    device.bytes.fill(3);
    const spillDevice = new ScriptedDevice(2 * BLOCK);
    const volume = await CopyOnWriteVolume.open(device, {
      blockSize: BLOCK,
      preserve: { memoryBytes: 0, spillDevice },
    });
    const snapshot = await volume.createSnapshot();
    await volume.write(BLOCK, filled(7, 512));
    await expectFilled(snapshot, 3, 0, BLOCK + 512);
  });
});

describe('room comes back', () => {
  test.each([
    ['memory', { memoryBytes: 3 * BLOCK }],
    ['the spill', { memoryBytes: 0, spillDevice: new ScriptedDevice(3 * BLOCK) }],
  ])('when blocks are stored, in %s, however often', async (_, preserve) => {
    const { volume, overwrite, initial } = await open(preserve);
    const snapshot = await volume.createSnapshot();
    for (let block = 0; block < BLOCKS; block++) {
      await overwrite(block);
      expectSame(await contentOf(snapshot, block * BLOCK, BLOCK), initial.subarray(block * BLOCK, (block + 1) * BLOCK));
      snapshot.mark(block, 'storing');
      snapshot.mark(block, 'stored');
    }
    expect(snapshot.states.counts.stored).toBe(BLOCKS);
  });

  test.each(['inherited', 'zero'] as const)('when a preserved block turns out to be %s', async (to) => {
    const { volume, overwrite } = await open({ memoryBytes: BLOCK });
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    await expectFull(() => overwrite(1));
    snapshot.mark(0, to);
    await overwrite(1);
  });

  test('when a snapshot closes, for what only it needed', async () => {
    const { volume, overwrite, initial } = await open({ memoryBytes: 2 * BLOCK });
    const older = await volume.createSnapshot();
    await overwrite(0, 0x01);
    const newer = await volume.createSnapshot();
    await overwrite(0, 0x02);
    await expectFull(() => overwrite(1));
    await newer.close();
    await overwrite(1);
    expectSame(await contentOf(older), initial);
    await older.close();
    const next = await volume.createSnapshot();
    await overwrite(2);
    await overwrite(3);
    await expectFilled(next, 3, 2 * BLOCK);
    await expectFull(() => overwrite(4));
  });

  test('and memory is taken before the spill, and slots that were used before new ones', async () => {
    const spillDevice = new ScriptedDevice(8 * BLOCK);
    const { volume, overwrite } = await open({ memoryBytes: BLOCK, spillDevice });
    const snapshot = await volume.createSnapshot();
    for (let block = 0; block < BLOCKS; block++) {
      await overwrite(block);
      if (block === 0) continue;
      snapshot.mark(block, 'storing');
      snapshot.mark(block, 'stored');
    }
    const offsets = new Set(spillDevice.calls.filter(({ kind }) => kind === 'write').map(({ offset }) => offset));
    expect([...offsets]).toEqual([0]);
    snapshot.mark(0, 'inherited');
    const next = await volume.createSnapshot();
    const before = spillDevice.count('write');
    await overwrite(5, 0xbb);
    expect(spillDevice.count('write')).toBe(before);
    await expectFilled(next, 0xaa, 5 * BLOCK);
  });

  test('of a pre-image whose deadline has passed only when its read is at rest', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { device, volume, overwrite } = await open({ memoryBytes: BLOCK, deadlineMs: 50, onFailure: 'lose-block' });
    const snapshot = await volume.createSnapshot();
    const stuck = device.hold({ kind: 'read' }, 1);
    const writing = overwrite(0);
    await stuck.reached;
    await vi.advanceTimersByTimeAsync(50);
    await writing;
    const next = overwrite(1); // The only buffer may still be filled by the device: it is waited for as long.
    await turn();
    await vi.advanceTimersByTimeAsync(49);
    expect(await isSettled(next)).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    await next;
    expect(snapshot.states.counts.lost).toBe(2);
    stuck.release();
    await turn();
    await overwrite(2);
    expect(snapshot.states.get(2)).toBe('preserved');
    await expectFilled(snapshot, 3, 2 * BLOCK);
  });

  test('of an aborted write: its pre-images are kept, not leaked', async () => {
    const { device, volume, overwrite } = await open({ memoryBytes: BLOCK });
    const snapshot = await volume.createSnapshot();
    const slow = device.hold({ kind: 'read' }, 1);
    const controller = new AbortController();
    const writing = volume.write(0, filled(0xaa), { signal: controller.signal });
    writing.catch(() => {});
    await slow.reached;
    controller.abort(new Error('enough'));
    await expect(writing).rejects.toThrow('enough');
    slow.release();
    await turn();
    expect(device.count('write')).toBe(0);
    expect(snapshot.states.get(0)).toBe('preserved');
    await overwrite(0); // The same pre-image serves.
    await expectFilled(snapshot, 1, 0);
    await snapshot.close();
    await volume.createSnapshot();
    await overwrite(1);
  });
});

describe('one pre-image serves several snapshots', () => {
  test('at once, for one block of room and one read of the device', async () => {
    const { device, volume, overwrite, initial } = await open({ memoryBytes: BLOCK });
    const snapshots = [];
    for (let count = 0; count < 5; count++) snapshots.push(await volume.createSnapshot());
    await overwrite(0);
    expect(device.count('read')).toBe(1);
    for (const snapshot of snapshots) {
      expect(snapshot.states.get(0)).toBe('preserved');
      expectSame(await contentOf(snapshot), initial);
    }
    await expectFull(() => overwrite(1));
    for (const snapshot of snapshots.slice(0, 4)) await snapshot.close();
    await expectFull(() => overwrite(1));
    await expectFilled(snapshots[4] as (typeof snapshots)[0], 1, 0);
    await snapshots[4]?.close();
    await volume.createSnapshot();
    await overwrite(1);
  });

  test('until the last of them has it stored', async () => {
    const { volume, overwrite } = await open({ memoryBytes: BLOCK });
    const [first, second] = [await volume.createSnapshot(), await volume.createSnapshot()];
    await overwrite(0);
    first.mark(0, 'storing');
    const next = overwrite(1);
    for (const snapshot of [first, second]) {
      expect(await isSettled(next)).toBe(false);
      await expectFilled(second, 1, 0);
      if (snapshot === second) second.mark(0, 'storing');
      snapshot.mark(0, 'stored');
    }
    await next;
    await errorOf(contentOf(first, 0, BLOCK), 'BLOCK_RELEASED');
  });

  test('whose interval it covers, and not one that came after the overwrite', async () => {
    const { volume, overwrite } = await open({ memoryBytes: 3 * BLOCK });
    const first = await volume.createSnapshot();
    const second = await volume.createSnapshot();
    await overwrite(0, 0x10);
    const third = await volume.createSnapshot();
    await overwrite(0, 0x20);
    const fourth = await volume.createSnapshot();
    await overwrite(0, 0x30);
    await overwrite(0, 0x40);
    for (const [snapshot, byte] of [
      [first, 1],
      [second, 1],
      [third, 0x10],
      [fourth, 0x20],
    ] as const) {
      await expectFilled(snapshot, byte, 0);
    }
    await third.close();
    await overwrite(1);
    await expectFull(() => overwrite(2));
  });

  test('share() is another handle on the same instant, with states and wants of its own', async () => {
    const { volume, overwrite } = await open({ memoryBytes: 2 * BLOCK });
    const own = await volume.createSnapshot();
    await overwrite(0);
    const shared = await own.share();
    expect(shared.point).toEqual(own.point);
    expect(shared.frozenAt).toEqual(own.frozenAt);
    expect(shared.states.get(0)).toBe('preserved');
    own.mark({ firstBlock: 0, blockCount: BLOCKS }, 'inherited');
    await own.close();
    expect(own.status).toBe('closed');
    await errorOf(contentOf(own), 'CLOSED');
    await overwrite(1);
    await expectFilled(shared, 1, 0);
    await expectFilled(shared, 2, BLOCK);
    await expectFull(() => overwrite(2));
    await shared.close();
    await volume.createSnapshot();
    await overwrite(2);
    await overwrite(3);
  });

  test('share() after a release begins with what is gone as lost, and with the rest as it is', async () => {
    const { device, volume, overwrite } = await open({});
    device.bytes.fill(0, 3 * BLOCK, 5 * BLOCK);
    const own = await volume.createSnapshot();
    for (const block of [0, 1]) {
      own.mark(block, 'storing');
      own.mark(block, 'stored');
    }
    own.mark(4, 'zero');
    for (const block of [1, 2, 3, 4]) await overwrite(block);
    const shared = await own.share();
    expect([0, 1, 2, 3, 4, 5].map((block) => shared.states.get(block))).toEqual([
      'pending', // Stored for the other handle, but on the device still.
      'lost',
      'preserved',
      'zero',
      'zero',
      'pending',
    ]);
    await errorOf(contentOf(shared, BLOCK, BLOCK), 'BLOCK_LOST');
    await errorOf(contentOf(own, BLOCK, BLOCK), 'BLOCK_RELEASED');
    await overwrite(0);
    for (const [block, byte] of [
      [0, 1],
      [2, 3],
      [3, 0],
      [4, 0],
      [5, 6],
    ] as const) {
      await expectFilled(shared, byte, block * BLOCK);
    }
  });

  test('a handle can not be shared once it is closed', async () => {
    const { volume } = await open({});
    const snapshot = await volume.createSnapshot();
    await snapshot.close();
    await errorOf(() => snapshot.share(), 'CLOSED');
  });
});

describe('the spill', () => {
  test('a slot that is being read is not given to anybody else, whatever has become of its block', async () => {
    const spillDevice = new ScriptedDevice(BLOCK);
    const { volume, overwrite } = await open({ memoryBytes: 0, spillDevice });
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    const slow = spillDevice.hold({ kind: 'read' });
    const readings = [contentOf(snapshot, 0, BLOCK), contentOf(snapshot, 512, 512)];
    await slow.reached;
    snapshot.mark(0, 'storing');
    snapshot.mark(0, 'stored');
    const waiting = overwrite(1);
    expect(await isSettled(waiting)).toBe(false);
    slow.release();
    expectSame((await readings[0]) as Uint8Array, filled(1));
    expectSame((await readings[1]) as Uint8Array, filled(1, 512));
    await waiting;
    await expectFilled(snapshot, 2, BLOCK);
  });

  test('of two reads of one slot the last one gives it back, and only once', async () => {
    const spillDevice = new ScriptedDevice(2 * BLOCK);
    const { volume, overwrite } = await open({ memoryBytes: 0, spillDevice });
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    const [first, second] = [spillDevice.hold({ kind: 'read' }, 1), spillDevice.hold({ kind: 'read' })];
    const readings = [contentOf(snapshot, 0, BLOCK), contentOf(snapshot, 0, BLOCK)];
    await second.reached;
    snapshot.mark(0, 'inherited');
    first.release();
    await readings[0];
    await overwrite(1);
    const waiting = overwrite(2);
    expect(await isSettled(waiting)).toBe(false);
    second.release();
    expectSame((await readings[1]) as Uint8Array, filled(1));
    await waiting;
    await expectFull(() => overwrite(3));
    await expectFilled(snapshot, 2, BLOCK);
    await expectFilled(snapshot, 3, 2 * BLOCK);
  });

  test('a read of it that ends after the snapshot has closed gives nothing', async () => {
    const spillDevice = new ScriptedDevice(BLOCK);
    const { volume, overwrite } = await open({ memoryBytes: 0, spillDevice });
    const snapshot = await volume.createSnapshot();
    await overwrite(0);
    const slow = spillDevice.hold({ kind: 'read' });
    const reading = contentOf(snapshot, 0, BLOCK);
    reading.catch(() => {});
    await slow.reached;
    await snapshot.close();
    slow.release();
    await errorOf(reading, 'CLOSED');
  });

  test('takes 1 MiB at a time, or four blocks, so that memory stays bounded whatever is written', async () => {
    for (const { blockSize, atOnce } of [
      { blockSize: 16 * BLOCK, atOnce: 16 },
      { blockSize: 128 * BLOCK, atOnce: 4 },
    ]) {
      const device = new ScriptedDevice(20 * blockSize);
      device.bytes.fill(0x11);
      const spillDevice = new ScriptedDevice(device.size);
      const volume = await CopyOnWriteVolume.open(device, { blockSize, preserve: { memoryBytes: 0, spillDevice } });
      const snapshot = await volume.createSnapshot();
      const slow = spillDevice.hold({ kind: 'write' });
      const writings = Array.from({ length: 20 }, (_, block) => volume.write(block * blockSize, filled(0xaa)));
      await slow.reached;
      await turn();
      expect(device.count('read')).toBe(atOnce);
      expect(slow.held).toBe(atOnce);
      slow.release();
      await Promise.all(writings);
      expectSame(await contentOf(snapshot), filled(0x11, device.size));
      await volume.close();
    }
  });

  test('holds up nobody whose block needs none of it', async () => {
    const spillDevice = new ScriptedDevice(BLOCKS * BLOCK);
    const { volume, overwrite } = await open({ memoryBytes: BLOCK, spillDevice });
    await volume.createSnapshot();
    await overwrite(0);
    const slow = spillDevice.hold({ kind: 'write' });
    const writing = overwrite(1);
    await slow.reached;
    await overwrite(0, 0xbb);
    expect(await isSettled(writing)).toBe(false);
    slow.release();
    await writing;
  });
});

describe('the spill file', () => {
  test('has no name while the volume is open where the system allows that, and is gone when it closes', async () => {
    const folder = await folderForTest();
    const { volume, overwrite, initial } = await open({ memoryBytes: 0, spillPath: join(folder, 'spill') });
    const snapshot = await volume.createSnapshot();
    for (let block = 0; block < BLOCKS; block++) await overwrite(block);
    expectSame(await contentOf(snapshot), initial);
    if (process.platform !== 'win32') expect(await readdir(folder)).toEqual([]);
    await volume.close();
    expect(await readdir(folder)).toEqual([]);
  });

  test('is gone after SIGKILL', async () => {
    const folder = await folderForTest();
    const program = fileURLToPath(new URL('support/spilling-process.ts', import.meta.url));
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', program, join(folder, 'spill')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    const [said] = await once(child.stdout, 'data');
    expect(String(said)).toBe('16 blocks are spilled, full of 1\n');
    child.kill('SIGKILL');
    expect(await exited).toEqual([null, 'SIGKILL']);
    expect(await readdir(folder)).toEqual([]);
  });

  test('must not be there yet: DEVICE_EXISTS, and it is left as it was', async () => {
    const folder = await folderForTest();
    const spillPath = join(folder, 'precious');
    await writeFile(spillPath, 'precious');
    const device = new ScriptedDevice(BLOCK);
    await errorOf(CopyOnWriteVolume.open(device, { closeDevice: true, preserve: { spillPath } }), 'DEVICE_EXISTS');
    expect(await readFile(spillPath, 'utf8')).toBe('precious');
    expect(device.isClosed).toBe(false);
    await errorOf(
      CopyOnWriteVolume.open(device, { preserve: { spillPath: join(folder, 'no', 'such') } }),
      'DEVICE_NOT_FOUND',
    );
  });

  test('and a spill device at once are too much', async () => {
    const preserve = { spillPath: 'spill', spillDevice: new ScriptedDevice(BLOCK) };
    await expect(CopyOnWriteVolume.open(new MemoryDevice(BLOCK), { preserve })).rejects.toThrow(TypeError);
  });
});

describe('a device that takes few bytes a call', () => {
  const small = new ScriptedDevice(8 * BLOCK, { maxTransferBytes: BLOCK });

  test('is not opened with blocks of more: every pre-image would fail', async () => {
    await expect(CopyOnWriteVolume.open(small, { blockSize: 2 * BLOCK })).rejects.toThrow(TypeError);
    const preserve = { spillDevice: small };
    const opening = CopyOnWriteVolume.open(new MemoryDevice(8 * BLOCK), { blockSize: 2 * BLOCK, preserve });
    await expect(opening).rejects.toThrow(TypeError);
  });

  test('is never asked for more with blocks of as many', async () => {
    numberBlocks(small.bytes);
    const initial = small.bytes.slice();
    const spillDevice = new ScriptedDevice(8 * BLOCK, { maxTransferBytes: BLOCK });
    const preserve = { memoryBytes: BLOCK, spillDevice, onFailure: 'fail-write' } as const;
    const volume = await CopyOnWriteVolume.open(small, { blockSize: BLOCK, preserve });
    expect(volume.maxTransferBytes).toBe(BLOCK);
    const snapshot = await volume.createSnapshot();
    for (let block = 0; block < 8; block++) await volume.write(block * BLOCK, filled(0xaa));
    for (let at = 0; at < snapshot.size; at += BLOCK) {
      expectSame(await contentOf(snapshot, at, BLOCK), initial.subarray(at, at + BLOCK));
    }
  });
});
