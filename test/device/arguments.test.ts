import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import {
  BackupError,
  type BlockDevice,
  byteDevice,
  MemoryDevice,
  pageDevice,
  type SyncBlockDevice,
  sliceDevice,
  syncDevice,
} from '../../src/index.ts';

/** What callers pass in is checked at the door of every device, and again where a call has waited. */

const SIZE = 64 * 1024;

function pages(bytes: Uint8Array) {
  return {
    pageSize: 512,
    pageCount: bytes.length / 512,
    readPage: (page: number, into: Uint8Array) => into.set(bytes.subarray(page * 512, page * 512 + 512)),
    writePage: (page: number, from: Uint8Array) => bytes.set(from, page * 512),
    sync: () => {},
  };
}

const DEVICES: Record<string, (bytes: Uint8Array) => SyncBlockDevice> = {
  MemoryDevice: (bytes) => new MemoryDevice(bytes),
  'MemoryDevice of sectors': (bytes) => new MemoryDevice(bytes, { sectorSize: 512 }),
  syncDevice: (bytes) => {
    const store = new MemoryDevice(bytes);
    return syncDevice({
      size: SIZE,
      sectorSize: 1,
      readSync: (offset, into) => store.readSync(offset, into),
      writeSync: (offset, from) => store.writeSync(offset, from),
      flushSync: () => {},
    });
  },
  pageDevice: (bytes) => pageDevice(pages(bytes)),
  byteDevice: (bytes) => byteDevice(new MemoryDevice(bytes, { sectorSize: 512 })),
  sliceDevice: (bytes) => sliceDevice(new MemoryDevice(bytes), { offset: 0, length: SIZE }),
};

const NO_OFFSETS = ['0', '512', null, [512], true, undefined, Number.NaN, 0.5, 512n] as number[];
const NO_BYTES = [undefined, null, 512, 'text', [1, 2], {}, new Uint16Array(256), new ArrayBuffer(512)] as Uint8Array[];

function detached(): Uint8Array {
  const bytes = new Uint8Array(512);
  structuredClone(bytes, { transfer: [bytes.buffer] });
  return bytes;
}

describe.each(Object.entries(DEVICES))('%s', (_, make) => {
  test('refuses what is no offset, no bytes and no options, through both doors, and changes nothing', async () => {
    const memory = new Uint8Array(SIZE);
    const device = make(memory);
    const bytes = new Uint8Array(512).fill(1);
    for (const offset of NO_OFFSETS) {
      await expect(device.write(offset, bytes), `write at ${String(offset)}`).rejects.toThrow(TypeError);
      await expect(device.read(offset, bytes.slice())).rejects.toThrow(TypeError);
      expect(() => device.writeSync(offset, bytes)).toThrow(TypeError);
      expect(() => device.readSync(offset, bytes.slice())).toThrow(TypeError);
      if (device.discard) await expect(device.discard(offset, 512)).rejects.toThrow(TypeError);
      if (device.writeZeroes) await expect(device.writeZeroes(0, offset)).rejects.toThrow(TypeError);
    }
    for (const none of [...NO_BYTES, detached()]) {
      await expect(device.write(0, none)).rejects.toThrow(TypeError);
      await expect(device.read(0, none)).rejects.toThrow(TypeError);
      expect(() => device.writeSync(0, none)).toThrow(TypeError);
      expect(() => device.readSync(0, none)).toThrow(TypeError);
    }
    for (const options of [{ sgnal: undefined }, { signal: {} }, null, 'signal', new Map()] as object[]) {
      await expect(device.write(0, bytes, options)).rejects.toThrow(TypeError);
      await expect(device.read(0, bytes.slice(), options)).rejects.toThrow(TypeError);
      await expect(device.flush(options)).rejects.toThrow(TypeError);
    }
    expect(memory.every((byte) => byte === 0)).toBe(true);
  });

  test('closes once, however often and in whichever way; calls after it are refused by code', async () => {
    const device = make(new Uint8Array(SIZE)) as SyncBlockDevice & { close(): Promise<void> };
    await Promise.all([device.close(), device[Symbol.asyncDispose](), device.close()]);
    const closed = (error: unknown) => BackupError.is(error, 'CLOSED');
    await expect(device.write(0, new Uint8Array(512))).rejects.toSatisfy(closed);
    expect(() => device.writeSync(0, new Uint8Array(512))).toThrow(/closed/);
    await expect(device.flush()).rejects.toSatisfy(closed);
  });

  test('takes bytes of another realm', async () => {
    const memory = new Uint8Array(SIZE);
    await make(memory).write(512, runInNewContext('new Uint8Array(512).fill(3)') as Uint8Array);
    expect(memory.subarray(512, 1024).every((byte) => byte === 3)).toBe(true);
  });
});

describe('MemoryDevice', () => {
  test('is made of a size or of memory, and of nothing else', () => {
    for (const wrong of [{ size: 10 }, '10', null, undefined, [1, 2], true, -1, 1.5, Number.NaN, new Uint16Array(4)]) {
      expect(() => new MemoryDevice(wrong as number), JSON.stringify(wrong)).toThrow(TypeError);
    }
    expect(() => new MemoryDevice(detached())).toThrow(TypeError);
    expect(() => new MemoryDevice(512, { sectorsize: 512 } as object)).toThrow(/did you mean sectorSize/);
    expect(() => new MemoryDevice(2 ** 52)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }));
    expect(new MemoryDevice(new SharedArrayBuffer(8)).size).toBe(8);
    expect(new MemoryDevice(runInNewContext('new ArrayBuffer(8)') as ArrayBuffer).size).toBe(8);
  });

  test('whose memory was made smaller says so, and reads or writes nothing', async () => {
    const buffer = new ArrayBuffer(1024, { maxByteLength: 2048 });
    const device = new MemoryDevice(buffer);
    buffer.resize(2048);
    expect(device.size).toBe(1024);
    await device.write(0, new Uint8Array(1024).fill(1));
    buffer.resize(512);
    const lost = (error: unknown) => BackupError.is(error, 'DEVICE_IO');
    await expect(device.write(0, new Uint8Array(100))).rejects.toSatisfy(lost);
    await expect(device.read(900, new Uint8Array(100))).rejects.toSatisfy(lost);
    await expect(device.writeZeroes(0, 100)).rejects.toSatisfy(lost);
  });
});

describe('what devices are made of', () => {
  test('is checked when they are made', () => {
    const memory = new MemoryDevice(SIZE);
    for (const wrong of [undefined, null, {}, 'disk', { ...pages(new Uint8Array(512)), readPage: undefined }]) {
      expect(() => pageDevice(wrong as never)).toThrow(TypeError);
      expect(() => syncDevice(wrong as never)).toThrow(TypeError);
      expect(() => byteDevice(wrong as never)).toThrow(TypeError);
      expect(() => sliceDevice(wrong as never, { offset: 0, length: 0 })).toThrow(TypeError);
      expect(() => sliceDevice(memory, wrong as never)).toThrow(TypeError);
    }
    for (const range of [{ offset: '0', length: 512 }, { offset: 0 }, { offset: Number.NaN, length: 1 }]) {
      expect(() => sliceDevice(memory, range as never)).toThrow(TypeError);
    }
    expect(() => pageDevice({ ...pages(new Uint8Array(512)), pageSize: 2 ** 40, pageCount: 2 ** 40 })).toThrow(
      TypeError,
    );
  });
});

describe('a byteDevice whose write has to wait', () => {
  test('writes nothing of a buffer that was resized meanwhile', async () => {
    const memory = new MemoryDevice(SIZE, { sectorSize: 512 });
    const gate = Promise.withResolvers<void>();
    const slow: BlockDevice = {
      size: SIZE,
      sectorSize: 512,
      read: async (offset, into) => {
        await gate.promise;
        await memory.read(offset, into);
      },
      write: (offset, from) => memory.write(offset, from),
      flush: () => memory.flush(),
      [Symbol.asyncDispose]: async () => {},
    };
    const buffer = new ArrayBuffer(600, { maxByteLength: 4096 });
    const bytes = new Uint8Array(buffer).fill(9);
    const writing = byteDevice(slow).write(100, bytes);
    writing.catch(() => {});
    buffer.resize(4096);
    gate.resolve();
    await expect(writing).rejects.toThrow(/detached or resized/);
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
  });
});
