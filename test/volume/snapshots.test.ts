import { describe, expect, test } from 'vitest';
import {
  CopyOnWriteVolume,
  type Extent,
  MemoryDevice,
  type PreserveOptions,
  type VolumeSnapshot,
} from '../../src/index.ts';
import { randomForTest } from '../support/randomness.ts';
import { turn } from '../support/turn.ts';
import { BLOCK, contentOf, errorOf, expectFilled, expectSame, filled, isSettled } from './support/bytes.ts';
import { openVolume } from './support/open-volume.ts';
import { ScriptedDevice, ScriptedSyncDevice } from './support/scripted-device.ts';

/** A snapshot as a device, the writes that are not called write, and how volumes and snapshots end. */

const BLOCKS = 8;

const open = (preserve: PreserveOptions = {}, closeDevice = false) => openVolume(BLOCKS, { preserve, closeDevice });

describe.each(['discard', 'writeZeroes'] as const)('%s is a write', (kind) => {
  const left = kind === 'discard' ? 0xdd : 0;

  test.each([
    ['a whole block', 2 * BLOCK, BLOCK],
    ['a part of one', 2 * BLOCK + 100, 200],
    ['parts of two', 3 * BLOCK - 100, 200],
    ['everything', 0, BLOCKS * BLOCK],
  ])('of %s: preserved before, tracked after', async (_, offset, length) => {
    const { device, volume, initial } = await open();
    const snapshot = await volume.createSnapshot();
    await volume[kind]?.(offset, length);
    expectSame(await contentOf(snapshot), initial);
    await expectFilled(volume, left, offset, length);
    expect(device.calls.filter((call) => call.kind === kind)).toEqual([{ kind, offset, length, door: 'async' }]);
    const firstBlock = Math.floor(offset / BLOCK);
    const blockCount = Math.ceil((offset + length) / BLOCK) - firstBlock;
    expect([...(volume.changedSince(snapshot.point) ?? ['unknown'])]).toEqual([{ firstBlock, blockCount }]);
    expect(snapshot.states.counts.preserved).toBe(blockCount);
  });

  test('waits for a pre-image, and for an instant', async () => {
    const { device, volume } = await open();
    const first = await volume.createSnapshot();
    const reading = device.hold({ kind: 'read' }, 1);
    const zapping = volume[kind]?.(0, BLOCK);
    await reading.reached;
    expect(device.count(kind)).toBe(0);
    reading.release();
    await zapping;
    const landing = device.hold({ kind: 'write' }, 1);
    const writing = volume.write(BLOCK, filled(0x22));
    await landing.reached;
    const freezing = volume.createSnapshot();
    const held = volume[kind]?.(BLOCK, BLOCK) as Promise<void>;
    expect(await isSettled(held)).toBe(false);
    landing.release();
    await Promise.all([writing, held]);
    await expectFilled(first, 1, 0);
    await expectFilled(await freezing, 0x22, BLOCK);
  });

  test('is held in flight against an instant like a write', async () => {
    const { device, volume } = await open();
    const landing = device.hold({ kind });
    const zapping = volume[kind]?.(0, BLOCK);
    await landing.reached;
    const freezing = volume.createSnapshot();
    expect(await isSettled(freezing)).toBe(false);
    landing.release();
    await zapping;
    await expectFilled(await freezing, left, 0);
  });

  test('under fail-write is refused where no pre-image can be kept, and does nothing', async () => {
    const { device, volume, initial } = await open({ memoryBytes: 0, spillBytes: 0, onFailure: 'fail-write' });
    const snapshot = await volume.createSnapshot();
    await errorOf(volume[kind]?.(0, BLOCK) as Promise<void>, 'PRESERVE_FAILED');
    expectSame(device.bytes, initial);
    expectSame(await contentOf(snapshot), initial);
  });

  test('is refused out of range, and on a closed volume', async () => {
    const { device, volume } = await open();
    await errorOf(volume[kind]?.(BLOCKS * BLOCK, 1) as Promise<void>, 'OUT_OF_RANGE');
    await volume[kind]?.(0, 0);
    await volume.close();
    await errorOf(volume[kind]?.(0, BLOCK) as Promise<void>, 'CLOSED');
    expect(device.count(kind)).toBe(0);
  });
});

test('a volume offers discard, write-zeroes and extents where its device does', async () => {
  const plain = { size: BLOCK, sectorSize: 1, read: async () => {}, write: async () => {}, flush: async () => {} };
  const volume = await CopyOnWriteVolume.open({ ...plain, [Symbol.asyncDispose]: async () => {} });
  expect([volume.discard, volume.writeZeroes, volume.extents]).toEqual([undefined, undefined, undefined]);
  const all = await CopyOnWriteVolume.open(new ScriptedDevice(BLOCK));
  expect([typeof all.discard, typeof all.writeZeroes, typeof all.extents]).toEqual(Array(3).fill('function'));
});

describe('extents of a snapshot', () => {
  const extentsOf = (snapshot: VolumeSnapshot, offset = 0, length = snapshot.size - offset) =>
    Array.fromAsync(snapshot.extents(offset, length));

  function expectHonest(extents: readonly Extent[], frozen: Uint8Array, offset: number, length: number): void {
    let at = offset;
    for (const extent of extents) {
      expect(extent.offset).toBe(at);
      expect(extent.length).toBeGreaterThan(0);
      if (extent.kind === 'zero') {
        expectSame(frozen.subarray(at, at + extent.length), filled(0, extent.length), 'what is called zero');
      }
      at += extent.length;
    }
    expect(at).toBe(offset + length);
  }

  async function sparse() {
    const { device, volume } = await open();
    device.bytes.fill(0, 2 * BLOCK, 5 * BLOCK);
    return { device, volume, frozen: device.bytes.slice(), snapshot: await volume.createSnapshot() };
  }

  test('are what the device says, where nothing has been overwritten', async () => {
    const { snapshot } = await sparse();
    const zero = (await extentsOf(snapshot)).filter(({ kind }) => kind === 'zero');
    expect(zero).toEqual([2, 3, 4].map((block) => ({ offset: block * BLOCK, length: BLOCK, kind: 'zero' })));
    expect(await extentsOf(snapshot, 2 * BLOCK + 10, 20)).toEqual([
      { offset: 2 * BLOCK + 10, length: 20, kind: 'zero' },
    ]);
    expect(await extentsOf(snapshot, 0, 0)).toEqual([]);
  });

  test('do not follow the volume: what becomes zeroes stays data, what was zeroes stays zero', async () => {
    const { volume, frozen, snapshot } = await sparse();
    await volume.write(3 * BLOCK, filled(0xaa));
    await volume.writeZeroes?.(6 * BLOCK, BLOCK);
    const extents = await extentsOf(snapshot);
    expectHonest(extents, frozen, 0, frozen.length);
    expect(extents.find(({ offset }) => offset === 3 * BLOCK)?.kind).toBe('zero');
    expect(extents.find(({ offset }) => offset === 6 * BLOCK)?.kind).toBe('data');
  });

  test('of a block that is overwritten while the device is being asked are data, never its new zeroes', async () => {
    const { device, volume, frozen, snapshot } = await sparse();
    const asked = device.hold({ kind: 'extents' });
    const asking = extentsOf(snapshot);
    await asked.reached;
    await volume.writeZeroes?.(6 * BLOCK, BLOCK);
    asked.release();
    const answered = await asking;
    expectHonest(answered, frozen, 0, frozen.length);
    expect(answered.some((extent) => extent.kind === 'zero' && extent.offset === 6 * BLOCK)).toBe(false);
  });

  test('of lost and released blocks are data, of those marked zero are zero', async () => {
    const { device, volume, initial } = await open({ memoryBytes: 0, spillBytes: 0, onFailure: 'lose-block' });
    const snapshot = await volume.createSnapshot();
    snapshot.mark(0, 'inherited');
    snapshot.mark(2, 'zero');
    for (const block of [0, 1, 2]) await volume.write(block * BLOCK, filled(0));
    expect(device.bytes.subarray(0, 3 * BLOCK).every((byte) => byte === 0)).toBe(true);
    const kinds = new Map((await extentsOf(snapshot)).map(({ offset, kind }) => [offset / BLOCK, kind]));
    expect([kinds.get(0), kinds.get(2)]).toEqual(['data', 'zero']);
    expectHonest(await extentsOf(snapshot, 0, BLOCK), initial, 0, BLOCK);
  });

  test('over a device that has none are all data but for what is known', async () => {
    const volume = await CopyOnWriteVolume.open(new MemoryDevice(4 * BLOCK), { blockSize: BLOCK });
    const snapshot = await volume.createSnapshot();
    await volume.write(BLOCK, filled(1));
    expect(await extentsOf(snapshot)).toEqual([
      { offset: 0, length: BLOCK, kind: 'data' },
      { offset: BLOCK, length: BLOCK, kind: 'zero' },
      { offset: 2 * BLOCK, length: 2 * BLOCK, kind: 'data' },
    ]);
  });

  test('are honest at any moment of a random history', async () => {
    const random = randomForTest();
    const { device, volume } = await open();
    device.bytes.fill(0);
    const frozen: { snapshot: VolumeSnapshot; content: Uint8Array }[] = [];
    for (let step = 0; step < 300; step++) {
      const block = random.below(BLOCKS);
      const what = random();
      if (what < 0.4) await volume.write(block * BLOCK + random.below(BLOCK), filled(1 + random.below(255), 1));
      else if (what < 0.7) await volume.writeZeroes?.(block * BLOCK, BLOCK);
      else if (what < 0.85) {
        frozen.push({ content: device.bytes.slice(), snapshot: await volume.createSnapshot() });
      } else if (frozen.length > 2) await frozen.shift()?.snapshot.close();
      for (const { snapshot, content } of frozen) {
        const offset = random.below(snapshot.size);
        const length = random.below(snapshot.size - offset);
        const asking = extentsOf(snapshot, offset, length);
        await volume.writeZeroes?.(random.below(BLOCKS) * BLOCK, BLOCK);
        expectHonest(await asking, content, offset, length);
        expectSame(await contentOf(snapshot), content);
      }
    }
  });

  test('end with the snapshot', async () => {
    const { volume } = await open();
    const snapshot = await volume.createSnapshot();
    const asking = snapshot.extents(0, snapshot.size)[Symbol.asyncIterator]();
    await snapshot.close();
    await errorOf(asking.next(), 'CLOSED');
    await expect(async () => extentsOf(snapshot, 0, snapshot.size + 1)).rejects.toThrow('do not lie within');
  });
});

describe('a snapshot as a device', () => {
  test('has the shape of the volume, and is read-only', async () => {
    const device = new ScriptedSyncDevice(3 * BLOCK + 512, { sectorSize: 512, maxTransferBytes: 8 * BLOCK });
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const snapshot = await volume.createSnapshot();
    expect(snapshot).toMatchObject({
      size: 3 * BLOCK + 512,
      sectorSize: 512,
      maxTransferBytes: 8 * BLOCK,
      blockSize: BLOCK,
      readOnly: true,
      volume,
      status: 'live',
      error: undefined,
    });
    expect(snapshot.states.blockCount).toBe(4);
    await errorOf(snapshot.write(), 'READ_ONLY');
    await snapshot.flush();
    expect(device.calls).toEqual([]);
    await errorOf(snapshot.read(0, new Uint8Array(100)), 'MISALIGNED');
    await errorOf(snapshot.read(3 * BLOCK, new Uint8Array(1024)), 'OUT_OF_RANGE');
  });

  test('gives what the device gives when it can not be read, and can be read once the device can', async () => {
    const { device, volume, initial } = await open();
    const snapshot = await volume.createSnapshot();
    device.failOn({ kind: 'read', at: 3 * BLOCK }, 'DEVICE_IO', 1);
    await errorOf(contentOf(snapshot), 'DEVICE_IO');
    expectSame(await contentOf(snapshot), initial);
  });

  test('does not pass on an error about a block that was preserved and overwritten meanwhile', async () => {
    const { device, volume, initial } = await open();
    const snapshot = await volume.createSnapshot();
    const stuck = device.hold({ kind: 'read' }, 1);
    const reading = contentOf(snapshot);
    await stuck.reached;
    await volume.write(3 * BLOCK, filled(0xaa));
    stuck.fail(new Error('the device lost its patience'));
    expectSame(await reading, initial);
  });

  test('an aborted read rejects with the reason', async () => {
    const { volume } = await open();
    const snapshot = await volume.createSnapshot();
    const signal = AbortSignal.abort(new Error('no longer needed'));
    await expect(snapshot.read(0, new Uint8Array(BLOCK), { signal })).rejects.toThrow('no longer needed');
  });

  test('of a read-only device is the device; its volume refuses every write', async () => {
    const device = Object.assign(new MemoryDevice(BLOCK), { readOnly: true });
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    expect(volume.readOnly).toBe(true);
    const snapshot = await volume.createSnapshot();
    await errorOf(volume.write(0, filled(1)), 'READ_ONLY');
    await errorOf(() => volume.writeSync(0, filled(1)), 'READ_ONLY');
    await errorOf(volume.writeZeroes?.(0, BLOCK) as Promise<void>, 'READ_ONLY');
    await expectFilled(snapshot, 0, 0);
  });
});

describe('closing a snapshot', () => {
  test('is idempotent, refuses reads from then on, and lets writers go that were preserving for it', async () => {
    const { device, volume } = await open({ onFailure: 'fail-write' });
    const snapshot = await volume.createSnapshot();
    const stuck = device.hold({ kind: 'read' }, 2);
    const reading = contentOf(snapshot, BLOCK, BLOCK);
    reading.catch(() => {});
    const writing = volume.write(0, filled(0xaa));
    await stuck.reached;
    await Promise.all([snapshot.close(), snapshot.close(), snapshot[Symbol.asyncDispose]()]);
    expect(snapshot.status).toBe('closed');
    expect(volume.snapshots).toEqual([]);
    await volume.write(2 * BLOCK, filled(0xbb)); // Nobody wants it any more.
    expect(stuck.held).toBe(2);
    stuck.release();
    await writing;
    await errorOf(reading, 'CLOSED');
    await errorOf(contentOf(snapshot), 'CLOSED');
    await errorOf(snapshot.flush(), 'CLOSED');
    snapshot.mark(0, 'stored'); // Too late to matter.
    expect(device.bytes[0]).toBe(0xaa);
  });
});

describe('closing a volume', () => {
  test('is idempotent, closes its snapshots, and refuses every call from then on', async () => {
    const device = new ScriptedSyncDevice(BLOCKS * BLOCK);
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const snapshots = [await volume.createSnapshot(), volume.createSnapshotSync()];
    const closing = volume.close();
    expect(volume.close()).toBe(closing);
    await closing;
    await volume[Symbol.asyncDispose]();
    expect(snapshots.map(({ status }) => status)).toEqual(['closed', 'closed']);
    expect(volume.snapshots).toEqual([]);
    const calls: (() => unknown)[] = [
      () => volume.read(0, new Uint8Array(1)),
      () => volume.write(0, filled(1)),
      () => volume.write(0, filled(1), { signal: new AbortController().signal }),
      () => volume.flush(),
      () => volume.discard?.(0, 1),
      () => volume.writeZeroes?.(0, 1),
      () => volume.extents?.(0, 1),
      () => volume.createSnapshot(),
      () => volume.createSnapshotSync(),
      () => volume.readSync(0, new Uint8Array(1)),
      () => volume.writeSync(0, filled(1)),
      () => volume.flushSync(),
      () => volume.changedSince(snapshots[0]?.point as never),
      () => snapshots[0]?.read(0, new Uint8Array(1)),
      () => snapshots[0]?.share(),
    ];
    for (const call of calls) await errorOf(call, 'CLOSED');
    expect(device.calls).toEqual([]);
    expect(device.isClosed).toBe(false);
  });

  test('waits for writes at the device, and lets them land', async () => {
    const { device, volume } = await open({}, true);
    const landing = device.hold({ kind: 'write' });
    const writing = volume.write(0, filled(0xaa));
    await landing.reached;
    const closing = volume.close();
    expect(await isSettled(closing)).toBe(false);
    expect(device.isClosed).toBe(false);
    landing.release();
    await Promise.all([writing, closing]);
    expect(device.bytes[0]).toBe(0xaa);
    expect(device.isClosed).toBe(true);
  });

  test('refuses what is still preserving or held, and waits for the reads that this had begun', async () => {
    const { device, volume, initial } = await open();
    await volume.createSnapshot();
    const reading = device.hold({ kind: 'read' });
    const preserving = volume.write(0, filled(0xaa));
    preserving.catch(() => {});
    await reading.reached;
    const otherDevice = new ScriptedDevice(8 * BLOCK);
    const landing = otherDevice.hold({ kind: 'write' });
    const other = await CopyOnWriteVolume.open(otherDevice, { blockSize: BLOCK });
    const slow = other.write(7 * BLOCK, filled(0x77));
    await landing.reached;
    const freezing = CopyOnWriteVolume.createSnapshots([volume, other]);
    freezing.catch(() => {});
    const held = volume.write(BLOCK, filled(0xbb));
    held.catch(() => {});
    await turn();
    const closing = volume.close();
    await errorOf(preserving, 'CLOSED');
    expect(await isSettled(closing)).toBe(false);
    reading.release();
    await closing;
    landing.release();
    await slow;
    await errorOf(freezing, 'CLOSED');
    await errorOf(held, 'CLOSED');
    expectSame(device.bytes.subarray(0, 7 * BLOCK), initial.subarray(0, 7 * BLOCK));
  });

  test('lets its device go: until then no other volume may have it', async () => {
    const { device, volume } = await open();
    await errorOf(CopyOnWriteVolume.open(device), 'DEVICE_BUSY');
    await volume.close();
    await (await CopyOnWriteVolume.open(device)).close();
  });

  test('closes the device only with closeDevice', async () => {
    for (const closeDevice of [false, true]) {
      const { device, volume } = await open({}, closeDevice);
      await volume.close();
      expect(device.isClosed).toBe(closeDevice);
    }
  });

  test('leaves a spill device open: it was given, not made', async () => {
    const spillDevice = new ScriptedDevice(BLOCK);
    const { volume } = await open({ memoryBytes: 0, spillDevice }, true);
    await volume.createSnapshot();
    await volume.write(0, filled(0xaa));
    await turn(); // The spill is written behind.
    await volume.close();
    expect(spillDevice.isClosed).toBe(false);
    expect(spillDevice.count('write')).toBe(1);
  });
});
