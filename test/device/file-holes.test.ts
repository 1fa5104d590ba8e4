import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, mkdirSync, openSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { BlockDevice, Extent } from '../../src/device/block-device.ts';
import { FileDevice } from '../../src/device/file-device.ts';
import { FoundData, holesAndData } from '../../src/device/file-holes.ts';
import { ERRNO, type SystemCalls, systemCalls } from '../../src/device/system-calls.ts';
import { CopyOnWriteVolume } from '../../src/volume/copy-on-write-volume.ts';
import { folderForFile } from '../support/folders.ts';
import { sayLoudly } from './support/loop-device.ts';

const folder = folderForFile();
const MIB = 2 ** 20;
const GIB = 2 ** 30;

const calls = systemCalls();
if (calls === undefined && process.platform === 'linux')
  sayLoudly('holes of files: the package koffi is not installed');

/** Makes an image of so many bytes that holds nothing but what is given, each megabyte of it at an offset. */
function sparseImage(sizeBytes: number, ...megabytesAt: number[]): string {
  const path = join(folder, randomUUID());
  const file = openSync(path, 'w');
  for (const at of megabytesAt) writeSync(file, new Uint8Array(MIB).fill(7), 0, MIB, at);
  closeSync(file);
  truncateSync(path, sizeBytes);
  return path;
}

const extentsOf = (device: BlockDevice, offset = 0, length = device.size - offset): Promise<Extent[]> =>
  Array.fromAsync(device.extents?.(offset, length) ?? []);

const dataOf = (extents: readonly Extent[]) =>
  extents.filter(({ kind }) => kind === 'data').reduce((sum, { length }) => sum + length, 0);

describe.skipIf(calls === undefined)('the extents of a file', () => {
  test('of 4 GiB with 1 MiB of data: the data, and two holes', async () => {
    await using device = await FileDevice.open(sparseImage(4 * GIB, GIB));
    expect(await extentsOf(device)).toEqual([
      { kind: 'zero', offset: 0, length: GIB },
      { kind: 'data', offset: GIB, length: MIB },
      { kind: 'zero', offset: GIB + MIB, length: 3 * GIB - MIB },
    ]);
    expect(await extentsOf(device, GIB + 5, 10)).toEqual([{ kind: 'data', offset: GIB + 5, length: 10 }]);
    expect(await extentsOf(device, 4 * GIB, 0)).toEqual([]);
  });

  test('hold what was written a moment ago, before anything of it is on the disk', async () => {
    await using device = await FileDevice.open(sparseImage(GIB));
    expect(dataOf(await extentsOf(device))).toBe(0);
    for (let round = 0; round < 200; round++) {
      const at = ((round * 7919) % 1000) * MIB + 4096;
      await device.write(at, new Uint8Array([round]));
      const [extent] = await extentsOf(device, at, 1);
      expect(extent?.kind).toBe('data');
    }
  });

  test('of space that was allocated and never written are data once they are written, also through a full file system', async (context) => {
    const path = sparseImage(64 * MIB);
    try {
      execFileSync('fallocate', ['-l', '64M', path], { stdio: 'pipe' });
    } catch {
      return context.skip('no fallocate here');
    }
    await using device = await FileDevice.open(path);
    await device.write(8 * MIB, new Uint8Array(4096).fill(1));
    expect(dataOf(await extentsOf(device, 8 * MIB, 4096))).toBe(4096);
    const covered = (await extentsOf(device)).reduce((sum, { length }) => sum + length, 0);
    expect(covered).toBe(64 * MIB);
  });

  test('never call the end of a file that was cut a hole', async () => {
    const path = sparseImage(GIB, MIB);
    await using device = await FileDevice.open(path);
    truncateSync(path, 512 * MIB);
    await expect(extentsOf(device)).rejects.toMatchObject({ code: 'SHORT_READ' });
    expect(dataOf(await extentsOf(device, 0, 512 * MIB))).toBe(MIB);
  });

  test('are refused once the device is closed, also in the middle, and the signal is heard', async () => {
    const path = sparseImage(GIB, MIB, 3 * MIB);
    const device = await FileDevice.open(path);
    const extents = device.extents?.(0, GIB)[Symbol.asyncIterator]();
    await extents?.next();
    await device.close();
    await expect(extents?.next()).rejects.toMatchObject({ code: 'CLOSED' });
    await using again = await FileDevice.open(path);
    const controller = new AbortController();
    const asking = async () => {
      for await (const _ of again.extents?.(0, GIB, { signal: controller.signal }) ?? [])
        controller.abort(new Error('enough'));
    };
    await expect(asking()).rejects.toThrow('enough');
    await expect(extentsOf(again, GIB, 1)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
  });

  test('are not asked for on a file system that is not known to say the truth', async (context) => {
    const mount = join(folder, 'ramfs');
    mkdirSync(mount);
    try {
      execFileSync('mount', ['-t', 'ramfs', 'ramfs', mount], { stdio: 'pipe' });
    } catch {
      return context.skip('no ramfs can be mounted here');
    }
    try {
      await using device = await FileDevice.open(join(mount, 'image'), { create: { sizeBytes: MIB } });
      expect(device.extents).toBeUndefined();
    } finally {
      execFileSync('umount', [mount]);
    }
  });

  test('are quick to tell of 20,000 pieces, and the event loop turns meanwhile', async () => {
    const path = sparseImage(20_000 * 8192);
    const file = openSync(path, 'r+');
    for (let piece = 0; piece < 20_000; piece++) writeSync(file, new Uint8Array([1]), 0, 1, piece * 8192);
    closeSync(file);
    await using device = await FileDevice.open(path);
    let turns = 0;
    let isDone = false;
    const turn = () => {
      turns++;
      if (!isDone) setImmediate(turn);
    };
    turn();
    const extents = await extentsOf(device);
    isDone = true;
    expect(dataOf(extents)).toBe(20_000 * 4096);
    expect(turns).toBeGreaterThan(1); // How many depends on how fast the machine is.
  });
});

describe('what the kernel answers', () => {
  const size = 100;
  const whileOpen = <T>(work: () => Promise<T>) => work();
  /** Calls that answer from a list, whichever way they are made. */
  const answering = (...answers: number[]): SystemCalls => {
    const next = () => answers.shift() ?? -5;
    return { flock: async () => 0, lseek: async () => next(), lseekSync: next };
  };
  const ask = (...answers: number[]) =>
    Array.fromAsync(holesAndData(answering(...answers), -1, whileOpen, 10, size - 10));

  test('is taken for a hole only where it says so: every error means data', async () => {
    const all = [{ kind: 'data', offset: 10, length: 90 }];
    expect(await ask(-22)).toEqual(all);
    expect(await ask(-5, -5)).toEqual(all);
    expect(await ask(10, -22)).toEqual(all);
    expect(await ask(10, 10)).toEqual(all); // No progress.
    expect(await ask(3, -5)).toEqual(all); // Before what was asked for.
    expect(await ask(20, 30, -22)).toEqual([
      { kind: 'zero', offset: 10, length: 10 },
      { kind: 'data', offset: 20, length: 10 },
      { kind: 'data', offset: 30, length: 70 },
    ]);
    expect(await ask(2 ** 40)).toEqual([{ kind: 'zero', offset: 10, length: 90 }]);
  });

  test('is remembered of data, which whoever goes on behind it need not ask for again', async () => {
    const found = new FoundData();
    const calls = answering(10, 70, 90, -22);
    const within = (offset: number, length: number) =>
      Array.fromAsync(holesAndData(calls, -1, whileOpen, offset, length, found));
    expect(await within(10, 20)).toEqual([{ kind: 'data', offset: 10, length: 20 }]);
    expect(await within(30, 40)).toEqual([{ kind: 'data', offset: 30, length: 40 }]); // Nobody was asked.
    expect(await within(60, 30)).toEqual([
      { kind: 'data', offset: 60, length: 10 },
      { kind: 'zero', offset: 70, length: 20 },
    ]);
    expect(await within(5, 10)).toEqual([{ kind: 'data', offset: 5, length: 10 }]); // It is not behind it, and asking fails.
  });

  test('that there is no data is believed only of a file that is long enough', async () => {
    const path = sparseImage(size);
    const fd = openSync(path, 'r');
    try {
      const zero = await Array.fromAsync(holesAndData(answering(-ERRNO.ENXIO), fd, whileOpen, 10, 90));
      expect(zero).toEqual([{ kind: 'zero', offset: 10, length: 90 }]);
      const beyond = Array.fromAsync(holesAndData(answering(-ERRNO.ENXIO), fd, whileOpen, 10, 91));
      await expect(beyond).rejects.toMatchObject({ code: 'SHORT_READ' });
    } finally {
      closeSync(fd);
    }
  });
});

describe('a hole that is written while a snapshot asks for it', () => {
  const blockSize = 4096;

  /** A device whose extents answer when they are let. */
  function held(device: BlockDevice): { device: BlockDevice; asked: Promise<void>; answer: () => void } {
    const asked = Promise.withResolvers<void>();
    const answered = Promise.withResolvers<void>();
    return {
      asked: asked.promise,
      answer: answered.resolve,
      device: {
        size: device.size,
        sectorSize: device.sectorSize,
        read: (...args) => device.read(...args),
        write: (...args) => device.write(...args),
        flush: () => device.flush(),
        async *extents(offset, length) {
          const extents = await Array.fromAsync(device.extents?.(offset, length) ?? []);
          asked.resolve();
          await answered.promise;
          yield* extents;
        },
        [Symbol.asyncDispose]: () => device[Symbol.asyncDispose](),
      },
    };
  }

  test.skipIf(calls === undefined)(
    'never hides what the instant held: before it, after it, and in between',
    async () => {
      await using file = await FileDevice.open(sparseImage(64 * blockSize));
      const { device, asked, answer } = held(file);
      await using volume = await CopyOnWriteVolume.open(device, { blockSize });
      await volume.write(0, new Uint8Array(blockSize).fill(1)); // Acknowledged before the instant.
      const early = volume.write(blockSize, new Uint8Array(blockSize).fill(2)); // Under way at the instant.
      await using snapshot = await volume.createSnapshot();
      await early;
      const asking = Array.fromAsync(snapshot.extents(0, volume.size));
      await asked;
      await volume.write(0, new Uint8Array(blockSize).fill(9)); // Data of the instant is overwritten,
      await volume.write(2 * blockSize, new Uint8Array(blockSize).fill(9)); // and so is a hole of it.
      answer();
      const extents = await asking;
      const into = new Uint8Array(volume.size);
      await snapshot.read(0, into);
      expect([into[0], into[blockSize], into[2 * blockSize]]).toEqual([1, 2, 0]);
      for (const { kind, offset, length } of extents) {
        const isZero = into.subarray(offset, offset + length).every((byte) => byte === 0);
        expect(kind === 'data' || isZero, `${kind} at ${offset}`).toBe(true);
      }
      expect(extents.reduce((sum, { length }) => sum + length, 0)).toBe(volume.size);
    },
  );
});
