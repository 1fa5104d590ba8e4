import { describe, expect, test } from 'vitest';
import { type BlockDevice, deviceStack, hasSyncDoor, underlyingDevice } from '../../src/device/block-device.ts';
import { byteDevice } from '../../src/device/byte-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { sliceDevice } from '../../src/device/slice-device.ts';
import { pageDevice, syncDevice } from '../../src/device/sync-device.ts';
import { CopyOnWriteVolume } from '../../src/volume/copy-on-write-volume.ts';
import { asyncOnly } from './support/doors.ts';
import { SparseDevice } from './support/sparse-device.ts';

const code = (name: string) => expect.objectContaining({ name: 'BackupError', code: name });

describe('sliceDevice', () => {
  test('is the bytes of its range, and writes nothing else', async () => {
    const whole = new MemoryDevice(Uint8Array.from({ length: 100 }, (_, at) => at));
    const slice = sliceDevice(whole, { offset: 30, length: 20 });
    const seen = new Uint8Array(20);
    await slice.read(0, seen);
    expect([...seen]).toEqual([...whole.bytes.subarray(30, 50)]);
    await slice.write(0, new Uint8Array(20).fill(200));
    slice.writeSync(5, new Uint8Array([201]));
    expect(whole.bytes.indexOf(200)).toBe(30);
    expect(whole.bytes.lastIndexOf(200)).toBe(49);
    expect([whole.bytes[29], whole.bytes[35], whole.bytes[50]]).toEqual([29, 201, 50]);
    await expect(slice.write(19, new Uint8Array(2))).rejects.toEqual(code('OUT_OF_RANGE'));
  });

  test('discards and zeroes where it lies, and tells extents by its own offsets', async () => {
    const whole = new SparseDevice(8192, { sectorSize: 512 });
    whole.bytes.fill(1);
    const slice = sliceDevice(whole, { offset: 1024, length: 4096 });
    await slice.writeZeroes?.(512, 1024);
    await slice.discard?.(2048, 512);
    const zero = [...whole.bytes.keys()].filter((at) => whole.bytes[at] === 0);
    expect([zero.length, zero[0], zero[1023], zero[1024], zero.at(-1)]).toEqual([1536, 1536, 2559, 3072, 3583]);
    const extents: [number, number, string][] = [];
    for await (const { offset, length, kind } of slice.extents?.(512, 2560) ?? []) extents.push([offset, length, kind]);
    expect(extents).toEqual([
      [512, 1024, 'zero'],
      [1536, 512, 'data'],
      [2048, 512, 'zero'],
      [2560, 512, 'data'],
    ]);
  });

  test('wants whole sectors within the device', () => {
    const device = new MemoryDevice(4096, { sectorSize: 512 });
    expect(() => sliceDevice(device, { offset: 100, length: 512 })).toThrow(code('MISALIGNED'));
    expect(() => sliceDevice(device, { offset: 3584, length: 1024 })).toThrow(code('OUT_OF_RANGE'));
    expect(() => sliceDevice(device, { offset: 0.5, length: 512 })).toThrow(TypeError);
    expect(sliceDevice(device, { offset: 4096, length: 0 }).size).toBe(0);
  });

  test('is as read-only, and has no more doors, than the device', async () => {
    const readOnly = Object.defineProperty(new MemoryDevice(100), 'readOnly', { value: true });
    expect(sliceDevice(readOnly, { offset: 0, length: 10 }).readOnly).toBe(true);
    const slice = sliceDevice(asyncOnly(new MemoryDevice(100)), { offset: 0, length: 10 });
    expect(hasSyncDoor(slice)).toBe(false);
    expect(slice.extents).toBeUndefined();
  });

  test('closing it closes nothing else', async () => {
    const whole = new MemoryDevice(100);
    const slice = sliceDevice(whole, { offset: 0, length: 10 });
    await slice[Symbol.asyncDispose]();
    expect(() => slice.readSync(0, new Uint8Array(1))).toThrow(code('CLOSED'));
    whole.readSync(0, new Uint8Array(1));
  });
});

describe('deviceStack', () => {
  test('follows every wrapper of ours down to the device', async () => {
    const memory = new MemoryDevice(65_536, { sectorSize: 512 });
    const slice = sliceDevice(memory, { offset: 512, length: 32_768 });
    const bytes = byteDevice(slice);
    await using volume = await CopyOnWriteVolume.open(bytes);
    const snapshot = await volume.createSnapshot();
    expect([...deviceStack(snapshot)]).toEqual([snapshot, volume, bytes, slice, memory]);
  });

  test('knows nothing of a wrapper that does not tell, and ends where wrappers go round in a circle', () => {
    const memory = new MemoryDevice(1);
    const silent = asyncOnly(memory);
    expect([...deviceStack(silent)]).toEqual([silent]);
    const circle = asyncOnly(memory) as BlockDevice & { [underlyingDevice]?: BlockDevice };
    circle[underlyingDevice] = circle;
    expect([...deviceStack(circle)]).toEqual([circle]);
  });

  test('the key is the same in every copy of the package', () => {
    expect(underlyingDevice).toBe(Symbol.for('cow-cloud-backup.underlyingDevice'));
  });
});

describe('MemoryDevice', () => {
  test('uses the memory that it is given in place', async () => {
    const buffer = new ArrayBuffer(100);
    await new MemoryDevice(buffer).write(10, new Uint8Array([7]));
    expect(new Uint8Array(buffer)[10]).toBe(7);
    const shared = new SharedArrayBuffer(100);
    new MemoryDevice(shared).writeSync(10, new Uint8Array([8]));
    expect(new Uint8Array(shared)[10]).toBe(8);
    const view = new Uint8Array(buffer, 10, 5);
    const device = new MemoryDevice(view);
    expect([device.size, device.bytes]).toEqual([5, view]);
  });

  test('is whole sectors', () => {
    expect(() => new MemoryDevice(1000, { sectorSize: 512 })).toThrow(TypeError);
    expect(() => new MemoryDevice(1000, { sectorSize: 0 })).toThrow(TypeError);
    for (const size of [-1, 1.5, Number.NaN]) expect(() => new MemoryDevice(size)).toThrow(TypeError);
  });
});

describe("a host's own synchronous store", () => {
  const store = (over: object = {}) => ({
    size: 1024,
    sectorSize: 512,
    readSync() {},
    writeSync() {},
    flushSync() {},
    ...over,
  });

  test('is asked for whole sectors within its size only', async () => {
    const seen: [number, number][] = [];
    const device = syncDevice(
      store({ writeSync: (offset: number, from: Uint8Array) => seen.push([offset, from.length]) }),
    );
    await device.write(512, new Uint8Array(512));
    await expect(device.write(512, new Uint8Array(1024))).rejects.toEqual(code('OUT_OF_RANGE'));
    await expect(device.write(1, new Uint8Array(512))).rejects.toEqual(code('MISALIGNED'));
    expect(seen).toEqual([[512, 512]]);
  });

  test('what it throws is what both doors give', async () => {
    const error = new Error('from the store');
    const device = syncDevice(
      store({
        readSync: () => {
          throw error;
        },
      }),
    );
    await expect(device.read(0, new Uint8Array(512))).rejects.toBe(error);
    expect(() => device.readSync(0, new Uint8Array(512))).toThrow(error);
  });

  test('must have a sensible shape', () => {
    for (const wrong of [{ size: -1 }, { size: 1000 }, { size: '1024' }, { sectorSize: 0 }, { sectorSize: 1.5 }]) {
      expect(() => syncDevice(store(wrong))).toThrow(TypeError);
    }
    const pages = { readPage() {}, writePage() {}, sync() {} };
    expect(() => pageDevice({ ...pages, pageSize: 0, pageCount: 1 })).toThrow(TypeError);
    expect(() => pageDevice({ ...pages, pageSize: 512, pageCount: -1 })).toThrow(TypeError);
  });

  test('of pages gets every page whole, in order, and is synced by a flush', async () => {
    const calls: unknown[] = [];
    const device = pageDevice({
      pageSize: 4,
      pageCount: 10,
      readPage: (page, into) => {
        calls.push(['read', page, into.length]);
        into.fill(page);
      },
      writePage: (page, from) => calls.push(['write', page, [...from]]),
      sync: () => calls.push('sync'),
    });
    expect([device.size, device.sectorSize]).toEqual([40, 4]);
    const into = new Uint8Array(8);
    await device.read(12, into);
    expect([...into]).toEqual([3, 3, 3, 3, 4, 4, 4, 4]);
    device.writeSync(36, new Uint8Array([1, 2, 3, 4]));
    await device.flush();
    expect(calls).toEqual([['read', 3, 4], ['read', 4, 4], ['write', 9, [1, 2, 3, 4]], 'sync']);
  });
});
