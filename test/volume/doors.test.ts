import { describe, expect, test } from 'vitest';
import {
  type BlockDevice,
  byteDevice,
  CopyOnWriteVolume,
  MemoryDevice,
  type PreserveOptions,
  pageDevice,
  type VolumeSnapshot,
} from '../../src/index.ts';
import { randomForTest } from '../support/randomness.ts';
import { turn } from '../support/turn.ts';
import { BLOCK, codesOf, contentOf, errorOf, expectFilled, expectSame, filled, isSettled } from './support/bytes.ts';
import { openSyncVolume } from './support/open-volume.ts';
import { ScriptedDevice, ScriptedSyncDevice } from './support/scripted-device.ts';

/** The synchronous and the asynchronous door of one volume, in use at once. */

const BLOCKS = 8;

const open = (preserve: PreserveOptions = {}) => openSyncVolume(BLOCKS, { preserve });

describe('what doors a volume has', () => {
  test('over a device with a synchronous door it has one too, over any other it has none', async () => {
    const both = await CopyOnWriteVolume.open(new MemoryDevice(BLOCK));
    expect(typeof both.readSync).toBe('function');
    const one = await CopyOnWriteVolume.open(new ScriptedDevice(BLOCK));
    expect(['readSync', 'writeSync', 'flushSync', 'createSnapshotSync'].filter((name) => name in one)).toEqual([]);
  });

  test('the synchronous door reads, writes and flushes the device', async () => {
    const { device, volume } = await open();
    volume.writeSync(BLOCK, filled(0x42));
    const into = new Uint8Array(BLOCK);
    volume.readSync(BLOCK, into);
    expectSame(into, filled(0x42));
    volume.flushSync();
    expect(device.calls.map(({ kind, door }) => `${door} ${kind}`)).toEqual(['sync write', 'sync read', 'sync flush']);
  });

  test('a page store of five lines has both, and snapshots', async () => {
    const pages = Array.from({ length: 16 }, (_, page) => filled(page + 1, 1024));
    const device = pageDevice({
      pageSize: 1024,
      pageCount: pages.length,
      readPage: (page, into) => into.set(pages[page] as Uint8Array),
      writePage: (page, from) => pages[page]?.set(from),
      sync: () => {},
    });
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const before = await contentOf(volume);
    const snapshot = volume.createSnapshotSync();
    volume.writeSync(1024, filled(0xaa, 1024));
    await volume.write(7 * 1024, filled(0xbb, 2048));
    expectSame(await contentOf(snapshot), before);
    expect([1, 7, 8].map((page) => pages[page]?.[0])).toEqual([0xaa, 0xbb, 0xbb]);
  });
});

describe('a synchronous write while an asynchronous one is preserving the same block', () => {
  async function preserving(preserve: Parameters<typeof open>[0]) {
    const { device, volume } = await open(preserve);
    const snapshot = await volume.createSnapshot();
    const reading = device.hold({ kind: 'read', at: 0 }, 1);
    const writing = volume.write(0, filled(0xa5, BLOCK / 2));
    writing.catch(() => {});
    await reading.reached;
    return { device, volume, snapshot, reading, writing };
  }

  test('preserves and writes at once; the other one then finds a pre-image and follows', async () => {
    const { device, volume, snapshot, reading, writing } = await preserving({ memoryBytes: 2 * BLOCK, spillBytes: 0 });
    volume.writeSync(0, filled(0x5a));
    expectSame(device.bytes.subarray(0, BLOCK), filled(0x5a));
    expect(snapshot.states.get(0)).toBe('preserved');
    await expectFilled(snapshot, 1, 0);
    await writing; // It need not wait for its own read of the device, which is still held.
    expect(reading.held).toBe(1);
    expectSame(device.bytes.subarray(0, BLOCK), Buffer.concat([filled(0xa5, BLOCK / 2), filled(0x5a, BLOCK / 2)]));
    reading.release();
    await turn();
    await expectFilled(snapshot, 1, 0);
  });

  test('the room of the first pre-image counts until its read is at rest, and is free then', async () => {
    const { volume, snapshot, reading, writing } = await preserving({
      memoryBytes: 2 * BLOCK,
      spillBytes: 0,
      onFailure: 'fail-write',
    });
    volume.writeSync(0, filled(0x5a));
    await writing;
    const error = await errorOf(() => volume.writeSync(BLOCK, filled(0x5b)), 'PRESERVE_FAILED');
    expect(codesOf(error)).toEqual(['PRESERVE_FAILED', 'PREIMAGE_SPACE']);
    reading.release();
    await turn();
    volume.writeSync(BLOCK, filled(0x5b));
    await expectFilled(snapshot, 1, 0);
    await expectFilled(snapshot, 2, BLOCK);
  });

  test('without room under lose-block the block is lost, and the late read does not bring it back', async () => {
    const { device, volume, snapshot, reading, writing } = await preserving({
      memoryBytes: BLOCK,
      spillBytes: 0,
      onFailure: 'lose-block',
    });
    volume.writeSync(0, filled(0x5a));
    expect(snapshot.states.get(0)).toBe('lost');
    await writing;
    reading.release();
    await turn();
    expect(snapshot.states.get(0)).toBe('lost');
    await errorOf(contentOf(snapshot, 0, BLOCK), 'BLOCK_LOST');
    // Nor does it serve the next snapshot.
    const next = await volume.createSnapshot();
    const before = device.bytes.slice(0, BLOCK);
    volume.writeSync(0, filled(0x5c));
    expectSame(await contentOf(next, 0, BLOCK), before);
  });

  test('without room under fail-write it is refused, and the asynchronous one goes on undisturbed', async () => {
    const { device, volume, snapshot, reading, writing } = await preserving({
      memoryBytes: BLOCK,
      spillBytes: 0,
      onFailure: 'fail-write',
    });
    await errorOf(() => volume.writeSync(0, filled(0x5a)), 'PRESERVE_FAILED');
    expectSame(device.bytes.subarray(0, BLOCK), filled(1));
    expect(await isSettled(writing)).toBe(false);
    reading.release();
    await writing;
    expectSame(device.bytes.subarray(0, BLOCK / 2), filled(0xa5, BLOCK / 2));
    await expectFilled(snapshot, 1, 0);
  });

  test('a block that the device fails to read synchronously leaves the asynchronous one its own chance', async () => {
    const { device, volume, snapshot, reading, writing } = await preserving({ onFailure: 'fail-write' });
    device.failOn({ kind: 'read', door: 'sync' });
    const error = await errorOf(() => volume.writeSync(0, filled(0x5a)), 'PRESERVE_FAILED');
    expect(codesOf(error)).toEqual(['PRESERVE_FAILED', 'DEVICE_IO']);
    reading.release();
    await writing;
    expect(device.count('read')).toBe(2);
    await expectFilled(snapshot, 1, 0);
  });
});

describe('createSnapshotSync', () => {
  test('refuses with WRITES_IN_FLIGHT while an asynchronous write is at the device, and not afterwards', async () => {
    const { device, volume } = await open();
    const landing = device.hold({ kind: 'write' });
    const writing = volume.write(0, filled(0x11));
    await landing.reached;
    let ran = false;
    const options = {
      atInstant: () => {
        ran = true;
      },
    };
    const error = await errorOf(() => volume.createSnapshotSync(options), 'WRITES_IN_FLIGHT');
    expect(error.retryable).toBe(true);
    expect(ran).toBe(false);
    expect(volume.snapshots).toEqual([]);
    landing.release();
    await writing;
    const snapshot = volume.createSnapshotSync(options);
    expect(ran).toBe(true);
    await expectFilled(snapshot, 0x11, 0);
  });

  test('does not mind asynchronous writes whose device was done before it returned', async () => {
    const volume = await CopyOnWriteVolume.open(new MemoryDevice(BLOCK));
    const writing = volume.write(0, filled(0x11));
    const snapshot = volume.createSnapshotSync();
    await writing;
    await volume.write(0, filled(0x22));
    await expectFilled(snapshot, 0x11, 0);
  });

  test('freezes while an asynchronous write is still preserving; that write is not in it', async () => {
    const { device, volume } = await open();
    const first = await volume.createSnapshot();
    const reading = device.hold({ kind: 'read' }, 1);
    const writing = volume.write(0, filled(0x11));
    await reading.reached;
    const second = volume.createSnapshotSync();
    reading.release();
    await writing;
    await expectFilled(first, 1, 0);
    await expectFilled(second, 1, 0);
    await expectFilled(volume, 0x11, 0);
  });

  test('refuses while createSnapshot waits for a write, and a synchronous write is not held by that', async () => {
    const { device, volume } = await open();
    const landing = device.hold({ kind: 'write', door: 'async' });
    const writing = volume.write(0, filled(0x11));
    await landing.reached;
    const freezing = volume.createSnapshot();
    await turn();
    volume.writeSync(BLOCK, filled(0x22));
    const held = volume.write(2 * BLOCK, filled(0x33));
    await errorOf(() => volume.createSnapshotSync(), 'WRITES_IN_FLIGHT');
    expect(await isSettled(held)).toBe(false);
    landing.release();
    await writing;
    const snapshot = await freezing;
    await held;
    // Acknowledged before the instant: in it. Held: not in it.
    await expectFilled(snapshot, 0x11, 0);
    await expectFilled(snapshot, 0x22, BLOCK);
    await expectFilled(snapshot, 3, 2 * BLOCK);
    await expectFilled(volume, 0x33, 2 * BLOCK);
  });

  test('of an aborted signal rejects with its reason', async () => {
    const { volume } = await open();
    expect(() => volume.createSnapshotSync({ signal: AbortSignal.abort(new Error('no more')) })).toThrow('no more');
    expect(volume.snapshots).toEqual([]);
  });
});

interface Doors {
  readonly device: BlockDevice;
  writeAsync(offset: number, from: Uint8Array): Promise<void>;
  writeSync(offset: number, from: Uint8Array): void;
}

/** Writes of any alignment through both doors, snapshots by both, each compared with a copy made at its instant. */
async function writeAtRandom(
  volume: CopyOnWriteVolume & { createSnapshotSync(): VolumeSnapshot },
  doors: Doors,
  steps: number,
): Promise<void> {
  const random = randomForTest();
  const { size } = doors.device;
  const model = new Uint8Array(size);
  const frozen: { snapshot: VolumeSnapshot; content: Uint8Array }[] = [];
  for (let step = 0; step < steps; step++) {
    const offset = random.below(size);
    const from = filled(1 + random.below(255), 1 + random.below(Math.min(size - offset, 3 * BLOCK)));
    const what = random();
    if (what < 0.4) {
      await doors.writeAsync(offset, from);
      model.set(from, offset);
    } else if (what < 0.8) {
      doors.writeSync(offset, from);
      model.set(from, offset);
    } else if (what < 0.9) {
      const snapshot = what < 0.85 ? await volume.createSnapshot() : volume.createSnapshotSync();
      frozen.push({ snapshot, content: model.slice() });
    } else if (frozen.length > 3) {
      await frozen.splice(random.below(frozen.length), 1)[0]?.snapshot.close();
    }
  }
  expectSame(await contentOf(doors.device), model, 'the volume');
  expect(frozen.length).toBeGreaterThan(0);
  for (const { snapshot, content } of frozen) expectSame(await contentOf(snapshot), content, 'a snapshot');
}

describe('writes of any alignment through both doors', () => {
  const SIZE = 9 * BLOCK + 512;

  test('byteDevice over a volume over sectors of 512 bytes', async () => {
    const volume = await CopyOnWriteVolume.open(new MemoryDevice(SIZE, { sectorSize: 512 }), { blockSize: BLOCK });
    const bytes = byteDevice(volume);
    await writeAtRandom(
      volume,
      {
        device: bytes,
        writeAsync: (at, from) => bytes.write(at, from),
        writeSync: (at, from) => bytes.writeSync(at, from),
      },
      400,
    );
  });

  test('a volume over byteDevice over sectors of 512 bytes', async () => {
    const bytes = byteDevice(new MemoryDevice(SIZE, { sectorSize: 512 }));
    const volume = await CopyOnWriteVolume.open(bytes, { blockSize: BLOCK });
    await writeAtRandom(
      volume,
      {
        device: volume,
        writeAsync: (at, from) => volume.write(at, from),
        writeSync: (at, from) => volume.writeSync(at, from),
      },
      400,
    );
  });

  test('a volume over a device of single bytes, asynchronous writes overlapping each other', async () => {
    const random = randomForTest();
    const device = new ScriptedSyncDevice(SIZE);
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const model = new Uint8Array(SIZE);
    // Each writer has a byte of every 16 to itself, so that the end does not depend on their order.
    const writers = Array.from({ length: 16 }, async (_, lane) => {
      for (let turnOf = 0; turnOf < 30; turnOf++) {
        const offset = random.below(Math.floor(SIZE / 16)) * 16 + lane;
        const value = filled(1 + random.below(255), 1);
        if (random() < 0.3) volume.writeSync(offset, value);
        else await volume.write(offset, value);
        model.set(value, offset);
      }
    });
    const frozen: { snapshot: VolumeSnapshot; content: Uint8Array }[] = [];
    for (let count = 0; count < 20; count++) {
      frozen.push(
        await (async () => {
          let content = new Uint8Array(0);
          const atInstant = () => {
            content = device.bytes.slice();
          };
          const snapshot = await volume.createSnapshot({ atInstant });
          return { snapshot, content };
        })(),
      );
    }
    await Promise.all(writers);
    expectSame(device.bytes, model, 'the device');
    for (const { snapshot, content } of frozen) expectSame(await contentOf(snapshot), content, 'a snapshot');
  });

  test('a synchronous unaligned write does not wait for an asynchronous one to the same sector: it is refused', async () => {
    const device = new ScriptedSyncDevice(4 * BLOCK, { sectorSize: 512 });
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const bytes = byteDevice(volume);
    const reading = device.hold({ kind: 'read' }, 1);
    const writing = bytes.write(100, filled(0x11, 10));
    await reading.reached;
    const error = await errorOf(() => bytes.writeSync(200, filled(0x22, 10)), 'WRITES_IN_FLIGHT');
    expect(error.retryable).toBe(true);
    bytes.writeSync(600, filled(0x33, 10));
    reading.release();
    await writing;
    bytes.writeSync(200, filled(0x22, 10));
    expect([100, 200, 600].map((at) => device.bytes[at])).toEqual([0x11, 0x22, 0x33]);
  });

  test('what is not whole sectors is refused by the volume and touches nothing', async () => {
    const device = new MemoryDevice(4 * BLOCK, { sectorSize: 512 });
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const point = (await volume.createSnapshot()).point;
    await errorOf(volume.write(100, filled(1, 512)), 'MISALIGNED');
    await errorOf(volume.write(0, filled(1, 100)), 'MISALIGNED');
    await errorOf(() => volume.writeSync(100, filled(1, 512)), 'MISALIGNED');
    await errorOf(volume.write(4 * BLOCK, filled(1, 512)), 'OUT_OF_RANGE');
    await errorOf(() => volume.writeSync(4 * BLOCK, filled(1, 512)), 'OUT_OF_RANGE');
    await errorOf(volume.write(-512, filled(1, 512)), 'OUT_OF_RANGE');
    await expect(volume.write(0.5, filled(1, 512))).rejects.toThrow(TypeError);
    expectSame(device.bytes, filled(0, 4 * BLOCK));
    expect([...(volume.changedSince(point) ?? ['unknown'])]).toEqual([]);
  });

  test('a refused write leaves a block that is no longer wanted where it was', async () => {
    const device = new MemoryDevice(4 * BLOCK, { sectorSize: 512 });
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const snapshot = await volume.createSnapshot();
    snapshot.mark({ firstBlock: 0, blockCount: 4 }, 'inherited');
    await errorOf(volume.write(100, filled(1, 512)), 'MISALIGNED');
    await volume.write(512, new Uint8Array(0));
    await expectFilled(snapshot, 0, 0, 4 * BLOCK);
    expect([...(volume.changedSince(snapshot.point) ?? ['unknown'])]).toEqual([]);
  });
});
