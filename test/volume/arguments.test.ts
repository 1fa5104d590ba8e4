import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { describe, expect, onTestFinished, test } from 'vitest';
import { CopyOnWriteVolume, FileDevice, MemoryDevice, type VolumeOptions } from '../../src/index.ts';
import { folderForTest } from '../support/folders.ts';
import { turn } from '../support/turn.ts';
import { BLOCK, contentOf, errorOf, expectFilled, expectSame, filled } from './support/bytes.ts';
import { openSyncVolume } from './support/open-volume.ts';

/** What callers pass in is checked at the volume's doors, and again just before the device is called. */

const BLOCKS = 8;

const open = () => openSyncVolume(BLOCKS);

/** Memory of WebAssembly, which detaches its old buffer when it grows. */
interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): void;
}
const { Memory } = (globalThis as unknown as { WebAssembly: { Memory: new (of: { initial: number }) => WasmMemory } })
  .WebAssembly;

/** A buffer whose length the test changes. */
const CHANGES: Record<string, () => { bytes: Uint8Array; change: () => void }> = {
  'memory of WebAssembly that grows': () => {
    const memory = new Memory({ initial: 1 });
    return { bytes: new Uint8Array(memory.buffer, 0, 2 * BLOCK), change: () => memory.grow(1) };
  },
  'a resizable buffer that grows': () => {
    const buffer = new ArrayBuffer(2 * BLOCK, { maxByteLength: 4 * BLOCK });
    return { bytes: new Uint8Array(buffer), change: () => buffer.resize(3 * BLOCK) };
  },
  'a resizable buffer that shrinks': () => {
    const buffer = new ArrayBuffer(2 * BLOCK, { maxByteLength: 4 * BLOCK });
    return { bytes: new Uint8Array(buffer), change: () => buffer.resize(BLOCK) };
  },
  'a view that a resizable buffer ends before': () => {
    const buffer = new ArrayBuffer(2 * BLOCK, { maxByteLength: 4 * BLOCK });
    return { bytes: new Uint8Array(buffer, 0, 2 * BLOCK), change: () => buffer.resize(BLOCK) };
  },
  'a buffer that is transferred': () => {
    const bytes = new Uint8Array(2 * BLOCK);
    return { bytes, change: () => void structuredClone(bytes, { transfer: [bytes.buffer] }) };
  },
};

const NO_OFFSETS = ['4096', null, [4096], true, undefined, Number.NaN, 0.5, { valueOf: () => 0 }, 4096n] as number[];
const NO_BYTES = [
  undefined,
  null,
  4096,
  'text',
  [1, 2],
  {},
  new Uint16Array(8),
  new ArrayBuffer(8),
  new DataView(new ArrayBuffer(8)),
];

describe('a volume over a file', () => {
  test('refuses offsets and bytes that are none, at every door, and writes nothing', async () => {
    const folder = await folderForTest();
    const device = await FileDevice.open(join(folder, 'image'), { create: { sizeBytes: BLOCKS * BLOCK } });
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK, closeDevice: true });
    onTestFinished(() => volume.close());
    const snapshot = await volume.createSnapshot();
    for (const offset of NO_OFFSETS) {
      await expect(volume.write(offset, filled(1)), `write at ${String(offset)}`).rejects.toThrow(TypeError);
      await expect(volume.read(offset, filled(1)), `read at ${String(offset)}`).rejects.toThrow(TypeError);
      await expect(snapshot.read(offset, filled(1))).rejects.toThrow(TypeError);
      expect(() => volume.writeSync(offset, filled(1))).toThrow(TypeError);
      expect(() => volume.readSync(offset, filled(1))).toThrow(TypeError);
    }
    for (const bytes of NO_BYTES as Uint8Array[]) {
      await expect(volume.write(0, bytes)).rejects.toThrow(/from must be a Uint8Array/);
      await expect(volume.read(0, bytes)).rejects.toThrow(/into must be a Uint8Array/);
      await expect(snapshot.read(0, bytes)).rejects.toThrow(/into must be a Uint8Array/);
      expect(() => volume.writeSync(0, bytes)).toThrow(/from must be a Uint8Array/);
      expect(() => volume.readSync(0, bytes)).toThrow(/into must be a Uint8Array/);
    }
    await expectFilled(volume, 0, 0, BLOCKS * BLOCK);
    expect(snapshot.states.counts.pending).toBe(BLOCKS);
  });
});

describe('a buffer', () => {
  test.each(Object.keys(CHANGES))(
    'that was changed before the call is refused, or is what it is now: %s',
    async (name) => {
      const { volume, initial } = await open();
      const { bytes, change } = (CHANGES[name] as () => ReturnType<(typeof CHANGES)[string]>)();
      change();
      if (bytes.length > 0) return;
      await expect(volume.write(0, bytes)).rejects.toThrow(TypeError);
      await expect(volume.read(0, bytes)).rejects.toThrow(TypeError);
      expect(() => volume.writeSync(0, bytes)).toThrow(TypeError);
      expectSame(await contentOf(volume), initial);
    },
  );

  test.each(Object.keys(CHANGES))('that is resized while the write waits reaches no device: %s', async (name) => {
    const { device, volume, initial } = await open();
    const snapshot = await volume.createSnapshot();
    const { bytes, change } = (CHANGES[name] as () => ReturnType<(typeof CHANGES)[string]>)();
    const preserving = device.hold({ kind: 'read', at: 0 });
    const writing = volume.write(0, bytes);
    writing.catch(() => {});
    await preserving.reached;
    change();
    preserving.release();
    await expect(writing).rejects.toThrow(/detached or resized/);
    expect(device.count('write')).toBe(0);
    expect([...(volume.changedSince(snapshot.point) ?? ['unknown'])]).toEqual([]);
    expectSame(await contentOf(snapshot), initial);
  });

  test.each(Object.keys(CHANGES))(
    'that is resized while a snapshot fills it is not called filled: %s',
    async (name) => {
      const { device, volume, initial } = await open();
      const snapshot = await volume.createSnapshot();
      const { bytes, change } = (CHANGES[name] as () => ReturnType<(typeof CHANGES)[string]>)();
      const reading = device.hold({ kind: 'read', at: 0 });
      const outcome = snapshot.read(0, bytes).then(
        () => 'filled',
        (error: unknown) => error,
      );
      await reading.reached;
      change();
      reading.release();
      if ((await outcome) === 'filled') expectSame(bytes.subarray(0, 2 * BLOCK), initial.subarray(0, 2 * BLOCK));
      else expect(await outcome).toBeInstanceOf(TypeError);
    },
  );

  test('of another realm is as good as one of this', async () => {
    const { device, volume } = await open();
    const foreign = runInNewContext(`new Uint8Array(${BLOCK}).fill(0x77)`) as Uint8Array;
    expect(foreign instanceof Uint8Array).toBe(false);
    await volume.write(0, foreign);
    volume.writeSync(BLOCK, foreign);
    expectSame(device.bytes.subarray(0, 2 * BLOCK), filled(0x77, 2 * BLOCK));
    const into = runInNewContext(`new Uint8Array(${BLOCK})`) as Uint8Array;
    await volume.read(0, into);
    expect(into[BLOCK - 1]).toBe(0x77);
  });
});

describe('options', () => {
  const unknown = { sginal: AbortSignal.abort() } as object;

  test('that nobody reads are refused by name, at every door', async () => {
    const { device, volume, initial } = await open();
    const snapshot = await volume.createSnapshot();
    for (const call of [
      () => volume.write(0, filled(1), unknown),
      () => volume.read(0, filled(1), unknown),
      () => volume.flush(unknown),
      () => volume.discard?.(0, BLOCK, unknown),
      () => volume.writeZeroes?.(0, BLOCK, unknown),
      () => volume.createSnapshot(unknown),
      () => CopyOnWriteVolume.createSnapshots([volume], unknown),
      async () => volume.createSnapshotSync(unknown),
      async () => volume.extents?.(0, BLOCK, unknown),
      () => snapshot.read(0, filled(1), unknown),
      () => snapshot.flush(unknown),
      async () => snapshot.extents(0, BLOCK, unknown),
    ]) {
      await expect(call(), String(call)).rejects.toThrow(/options has no option "sginal"; did you mean signal\?/);
    }
    expectSame(device.bytes, initial);
    expect(volume.snapshots).toEqual([snapshot]);
  });

  test.each<[string, object, RegExp]>([
    ['a misspelt one', { blocksize: BLOCK }, /did you mean blockSize/],
    ['a misspelt one of preserving', { preserve: { memoryByte: 1 } }, /options\.preserve has no option "memoryByte"/],
    ['a Map', new Map([['blockSize', BLOCK]]), /must be a plain object/],
    ['a Map for preserving', { preserve: new Map() }, /options\.preserve must be a plain object/],
    ['a text', 'blockSize=4096' as unknown as object, /must be a plain object/],
    ['null', null as unknown as object, /must be a plain object/],
    ['a name that is none', { name: 5 }, /name must be a string/],
    ['closeDevice as a text', { closeDevice: 'false' }, /closeDevice must be true or false/],
    ['verifySpill as a text', { preserve: { verifySpill: 'no' } }, /verifySpill must be true or false/],
    ['a spill device that is none', { preserve: { spillDevice: {} } }, /spillDevice must be a BlockDevice/],
  ])('of a volume are checked when it opens: %s', async (_, options, message) => {
    const device = new MemoryDevice(BLOCKS * BLOCK);
    await expect(CopyOnWriteVolume.open(device, options as VolumeOptions)).rejects.toThrow(TypeError);
    await expect(CopyOnWriteVolume.open(device, options as VolumeOptions)).rejects.toThrow(message);
    await (await CopyOnWriteVolume.open(device)).close();
  });

  test('a device that is none is refused by name', async () => {
    for (const device of [undefined, null, 'disk', {}, new Map(), { size: 5 }]) {
      await expect(CopyOnWriteVolume.open(device as unknown as MemoryDevice)).rejects.toThrow(
        /device must be a BlockDevice/,
      );
    }
  });

  test('what is no group of volumes is refused, and nobody is held', async () => {
    const { volume } = await open();
    for (const volumes of [undefined, null, {}, [null], [{}], [volume, 'volume'], [Object.create(volume)]]) {
      await expect(CopyOnWriteVolume.createSnapshots(volumes as [CopyOnWriteVolume])).rejects.toThrow(TypeError);
    }
    await volume.write(0, filled(1));
    expect(volume.snapshots).toEqual([]);
  });
});

describe('atInstant', () => {
  test('that is no function is refused before anything is held', async () => {
    const { volume } = await open();
    for (const atInstant of [null, 'now', {}, 5]) {
      await expect(volume.createSnapshot({ atInstant } as never)).rejects.toThrow(/atInstant must be a function/);
    }
    expect(volume.snapshots).toEqual([]);
  });

  test('that answers with a promise of another realm is refused like any other', async () => {
    const { volume } = await open();
    const atInstant = runInNewContext('async () => { throw new Error("late") }') as () => void;
    await expect(volume.createSnapshot({ atInstant })).rejects.toThrow(/must be synchronous/);
    await turn();
    expect(volume.snapshots).toEqual([]);
  });
});

describe('a point of change', () => {
  test('that this volume has never given out is not known; one that is none is refused', async () => {
    const { volume } = await open();
    const { point } = await volume.createSnapshot();
    await volume.write(0, filled(9));
    expect(volume.changedSince({ ...point, epoch: point.epoch + 1000 })).toBeUndefined();
    expect(volume.changedSince({ ...point, epoch: 0 })).toBeUndefined();
    expect(volume.changedSince({ ...point, trackingId: 'another' })).toBeUndefined();
    const no = [undefined, null, 1, 'point', [], { ...point, epoch: '1' }, { ...point, epoch: 1.5 }, { epoch: 1 }];
    for (const malformed of [
      ...no,
      { ...point, epoch: Number.NaN },
      { ...point, epoch: -1 },
      { ...point, trackingId: 7 },
    ]) {
      expect(() => volume.changedSince(malformed as typeof point), JSON.stringify(malformed)).toThrow(TypeError);
    }
  });
});

describe('marking', () => {
  test('what is no block, no range and no mark is refused and changes nothing', async () => {
    const { volume } = await open();
    const snapshot = await volume.createSnapshot();
    for (const blocks of [
      undefined,
      null,
      '0',
      true,
      [0],
      {},
      -1,
      0.5,
      Number.NaN,
      { firstBlock: 0 },
      { firstBlock: '0', blockCount: 1 },
    ]) {
      expect(() => snapshot.mark(blocks as number, 'inherited'), JSON.stringify(blocks)).toThrow(TypeError);
    }
    for (const to of [undefined, null, 'lost', 'toString', 3])
      expect(() => snapshot.mark(0, to as 'zero')).toThrow(TypeError);
    await errorOf(() => snapshot.mark({ firstBlock: BLOCKS - 1, blockCount: 2 }, 'inherited'), 'OUT_OF_RANGE');
    await errorOf(() => snapshot.mark({ firstBlock: 2 ** 52, blockCount: 0 }, 'inherited'), 'OUT_OF_RANGE');
    expect(snapshot.states.counts.pending).toBe(BLOCKS);
  });
});
