import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { BlockDevice, SyncBlockDevice } from '../../src/device/block-device.ts';
import { byteDevice } from '../../src/device/byte-device.ts';
import { FileDevice } from '../../src/device/file-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { sliceDevice } from '../../src/device/slice-device.ts';
import { pageDevice, syncDevice } from '../../src/device/sync-device.ts';
import { systemCalls } from '../../src/device/system-calls.ts';
import { deviceConformance } from '../../src/testing/device-conformance.ts';
import { FaultyDevice } from '../../src/testing/faulty-device.ts';
import { CopyOnWriteVolume } from '../../src/volume/copy-on-write-volume.ts';
import { folderForFile } from '../support/folders.ts';
import { asyncOnly, limited } from './support/doors.ts';
import { makeLoopDevice, sayLoudly } from './support/loop-device.ts';
import { SparseDevice } from './support/sparse-device.ts';

const folder = folderForFile();

/** What a kind of device has that cases may skip for. A case that is skipped without cause is a case that is lost. */
type Ability = 'sectors' | 'writes' | 'sync' | 'discard' | 'writeZeroes' | 'extents' | 'stamp' | 'bigTransfers';

const ABILITY_OF: readonly (readonly [pattern: RegExp, ability: Ability])[] = [
  [/MISALIGNED/, 'sectors'],
  [/synchronous and asynchronous/, 'sync'],
  [/^write-zeroes/, 'writeZeroes'],
  [/a discarded range/, 'discard'],
  [/discards and write-zeroes side by side/, 'writeZeroes'],
  [/^extents cover/, 'extents'],
  [/^its stamp/, 'stamp'],
  [/overlapping writes/, 'bigTransfers'],
];

function conforms(kind: string, abilities: readonly Ability[], open: (size: number) => Promise<BlockDevice>): void {
  describe(kind, () => {
    for (const { name, run } of deviceConformance({ open: ({ size }) => open(size) })) {
      const needed = ABILITY_OF.find(([pattern]) => pattern.test(name))?.[1];
      const isAsked = needed === undefined || abilities.includes(needed);
      test.runIf(isAsked && (!/READ_ONLY/.test(name) || !abilities.includes('writes')))(name, async () => {
        const skips: (string | undefined)[] = [];
        await run({ skip: (reason) => skips.push(reason) });
        if (abilities.includes('writes')) expect(skips).toEqual([]);
      });
    }
  });
}

const ALL: readonly Ability[] = ['writes', 'sync', 'discard', 'writeZeroes', 'extents', 'bigTransfers'];
/** Holes are seen where the optional package is installed. */
const HOLES: readonly Ability[] = systemCalls() === undefined ? [] : ['extents'];
const STORE: readonly Ability[] = ['writes', 'sync', 'bigTransfers'];
const FILE: readonly Ability[] = [...STORE, ...HOLES];

const file = (size: number) => FileDevice.open(join(folder, randomUUID()), { create: { sizeBytes: size } });

/** A wrapper around a file, which closes the file with it. */
async function overFile<D extends BlockDevice>(
  size: number,
  wrap: (inner: FileDevice) => D | Promise<D>,
): Promise<BlockDevice> {
  const inner = await file(size);
  const device = await wrap(inner);
  const dispose = device[Symbol.asyncDispose].bind(device);
  return Object.defineProperty(device, Symbol.asyncDispose, {
    value: async () => {
      await dispose();
      await inner.close();
    },
  });
}

describe('memory', () => {
  for (const sectorSize of [1, 512, 4096, 65_536]) {
    const abilities = ALL.filter((ability) => ability !== 'extents');
    conforms(
      `MemoryDevice with sectors of ${sectorSize}`,
      sectorSize === 1 ? abilities : [...abilities, 'sectors'],
      async (size) => new MemoryDevice(size, { sectorSize }),
    );
  }
  conforms(
    'a device with everything',
    [...ALL, 'sectors'],
    async (size) => new SparseDevice(size, { sectorSize: 512 }),
  );
  conforms(
    'a device that takes two sectors a call',
    ['sectors', ...ALL.filter((ability) => ability !== 'sync')],
    async (size) => limited(new SparseDevice(size, { sectorSize: 512 }), 1024),
  );
});

describe('files', () => {
  conforms('FileDevice', [...FILE, 'stamp'], file);
  conforms('FileDevice for reading only', [], async (size) => {
    const device = await file(size);
    device.writeSync(0, new Uint8Array(4096).fill(7));
    await device.close();
    return await FileDevice.open(device.path, { readOnly: true });
  });
  for (const sectorSize of [512, 4096]) {
    const loop = makeLoopDevice(join(folder, `loop-${sectorSize}`), 1024 * 1024, sectorSize);
    if (typeof loop === 'string') {
      sayLoudly(`FileDevice over a block special file. ${loop}`);
      test.skip(`FileDevice over a block special file: ${loop}`);
      continue;
    }
    afterAll(() => loop.remove());
    conforms(`FileDevice over a block special file with sectors of ${sectorSize}`, [...STORE, 'sectors'], () =>
      FileDevice.open(loop.path),
    );
  }
});

describe("a host's own store", () => {
  conforms('syncDevice', [...STORE, 'sectors'], async (size) => {
    const bytes = new Uint8Array(size);
    return syncDevice({
      size,
      sectorSize: 512,
      readSync: (offset, into) => into.set(bytes.subarray(offset, offset + into.length)),
      writeSync: (offset, from) => bytes.set(from, offset),
      flushSync: () => {},
    });
  });
  conforms('pageDevice', [...STORE, 'sectors'], async (size) => pages(size, 4096));
  conforms('byteDevice over pageDevice', STORE, async (size) => byteDevice(pages(size, 4096)));
});

function pages(size: number, pageSize: number): SyncBlockDevice {
  const store = Array.from({ length: size / pageSize }, () => new Uint8Array(pageSize));
  return pageDevice({
    pageSize,
    pageCount: store.length,
    readPage: (page, into) => into.set(store[page] as Uint8Array),
    writePage: (page, from) => (store[page] as Uint8Array).set(from),
    sync: () => {},
  });
}

describe('wrappers', () => {
  const sparse = (size: number) => new SparseDevice(size, { sectorSize: 512 });
  const noSync = ALL.filter((ability) => ability !== 'sync');
  conforms('byteDevice', ALL, async (size) => byteDevice(sparse(size)));
  conforms('byteDevice over a device without a synchronous door', noSync, async (size) =>
    byteDevice(asyncOnly(sparse(size))),
  );
  conforms('byteDevice over a device that takes four sectors a call', noSync, async (size) =>
    byteDevice(limited(sparse(size), 2048)),
  );
  conforms('byteDevice over a file', [...FILE, 'stamp'], (size) => overFile(size, (inner) => byteDevice(inner)));
  conforms('sliceDevice', [...ALL, 'sectors'], async (size) =>
    sliceDevice(sparse(size + 4096), { offset: 1536, length: size }),
  );
  conforms('sliceDevice over a device without a synchronous door', [...noSync, 'sectors'], async (size) =>
    sliceDevice(asyncOnly(sparse(size + 4096)), { offset: 1536, length: size }),
  );
  conforms('sliceDevice over a file', [...FILE, 'stamp'], (size) =>
    overFile(size + 999, (inner) => sliceDevice(inner, { offset: 333, length: size })),
  );
  conforms('FaultyDevice without faults', [...ALL, 'sectors'], async (size) => new FaultyDevice(sparse(size)));
  conforms(
    'FaultyDevice without a synchronous door',
    [...noSync, 'sectors'],
    async (size) => new FaultyDevice(asyncOnly(sparse(size))),
  );
  conforms('FaultyDevice over a file', [...FILE, 'stamp'], (size) =>
    overFile(size, (inner) => new FaultyDevice(inner)),
  );
});

describe('volumes', () => {
  const sparse = (size: number) => new SparseDevice(size, { sectorSize: 512 });
  const noSync = ALL.filter((ability) => ability !== 'sync');
  conforms('CopyOnWriteVolume over memory', [...ALL, 'sectors'], (size) => CopyOnWriteVolume.open(sparse(size)));
  conforms('CopyOnWriteVolume over a device without a synchronous door', [...noSync, 'sectors'], (size) =>
    CopyOnWriteVolume.open(asyncOnly(sparse(size)), { blockSize: 4096 }),
  );
  conforms('CopyOnWriteVolume over a file', FILE, async (size) =>
    CopyOnWriteVolume.open(await file(size), { closeDevice: true }),
  );
  conforms('CopyOnWriteVolume with a snapshot and a spill file', [...ALL, 'sectors'], async (size) => {
    const volume = await CopyOnWriteVolume.open(sparse(size), {
      blockSize: 16_384,
      preserve: { memoryBytes: 65_536, spillPath: join(folder, randomUUID()) },
    });
    await volume.createSnapshot();
    return volume;
  });
  conforms('VolumeSnapshot, while its volume has moved on', ['extents', 'sectors'], async (size) => {
    const volume = await CopyOnWriteVolume.open(sparse(size), { blockSize: 16_384 });
    await volume.write(0, new Uint8Array(100 * 512).fill(5));
    const snapshot = await volume.createSnapshot();
    await volume.write(512, new Uint8Array(60 * 512).fill(6));
    return snapshot;
  });
});
