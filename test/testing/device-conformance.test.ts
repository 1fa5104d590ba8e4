import { describe, expect, test } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { deviceConformance } from '../../src/testing/device-conformance.ts';
import { SparseDevice } from '../device/support/sparse-device.ts';
import { lifetimeDefects } from './support/lifetime-defects.ts';
import { transferDefects } from './support/transfer-defects.ts';

const DEFECTS = [...transferDefects, ...lifetimeDefects];

/** The names of the cases that a device fails, and of those that skip. */
async function examine(open: (size: number) => BlockDevice): Promise<{ failed: string[]; skipped: string[] }> {
  const failed: string[] = [];
  const skipped: string[] = [];
  for (const { name, run } of deviceConformance({ open: async ({ size }) => open(size) })) {
    await run({ skip: () => skipped.push(name) }).catch(() => failed.push(name));
  }
  return { failed, skipped };
}

const refuse = (): never => {
  throw new BackupError('READ_ONLY', 'for reading only');
};
const pseudoRandom = (size: number) => new Uint8Array(size).map((_, at) => (at * 31) % 251);
const SECTOR = { sectorSize: 512 };

describe('deviceConformance', () => {
  test('finds nothing wrong with a sound device, and asks it everything that it can be asked', async () => {
    const { failed, skipped } = await examine((size) => new SparseDevice(size, SECTOR));
    expect(failed).toEqual([]);
    expect(skipped).toEqual([expect.stringContaining('READ_ONLY'), expect.stringMatching(/^its stamp/)]);
  });

  test('skips what a device has not got', async () => {
    const { failed, skipped } = await examine((size) => {
      const device = new MemoryDevice(size);
      return {
        size,
        sectorSize: 1,
        read: (...call) => device.read(...call),
        write: (...call) => device.write(...call),
        flush: (...call) => device.flush(...call),
        [Symbol.asyncDispose]: () => device.close(),
      };
    });
    expect(failed).toEqual([]);
    expect(skipped).toEqual(
      [
        /MISALIGNED/,
        /READ_ONLY/,
        /synchronous and asynchronous calls/,
        /^write-zeroes/,
        /a discard/,
        /side by side/,
        /^extents/,
        /^its stamp/,
        /closing may be repeated/,
      ].map((pattern) => expect.stringMatching(pattern)),
    );
  });

  test('asks a read-only device what it can still be asked', async () => {
    const { failed, skipped } = await examine((size) =>
      Object.assign(new MemoryDevice(pseudoRandom(size), SECTOR), {
        readOnly: true,
        writeSync: refuse,
        discard: async () => refuse(),
        writeZeroes: async () => refuse(),
        write: async () => refuse(),
      }),
    );
    expect(failed).toEqual([]);
    expect(skipped.some((name) => /READ_ONLY|OUT_OF_RANGE|aborted already|closing twice/.test(name))).toBe(false);
  });

  test('has a name of its own for every case', () => {
    const names = deviceConformance({ open: async ({ size }) => new MemoryDevice(size) }).map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });

  for (const [defect, found, open] of DEFECTS) {
    test(`finds a device of which ${defect}`, async () => {
      const { failed } = await examine(open);
      expect(failed).toContainEqual(expect.stringMatching(found));
    });
  }

  test('every case finds some defect', () => {
    const names = deviceConformance({ open: async ({ size }) => new MemoryDevice(size) }).map(({ name }) => name);
    const idle = names.filter((name) => !DEFECTS.some(([, found]) => found.test(name)));
    expect(idle).toEqual([]);
  });
});
