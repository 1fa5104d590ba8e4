import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { FileDevice } from '../../src/device/file-device.ts';
import { folderForFile } from '../support/folders.ts';

/** What FileDevice asks of the system, seen and answered in the system's place. */

const folder = folderForFile();
const real = { read: fs.read, write: fs.write, readSync: fs.readSync, writeSync: fs.writeSync };
const GIB = 2 ** 30;

interface SystemCall {
  readonly at: number;
  readonly length: number;
  readonly position: number;
}

/** Answers reads and writes through both doors with what `answer` says, and keeps a list of them. */
function answering(answer: (call: SystemCall) => number | Error): SystemCall[] {
  const calls: SystemCall[] = [];
  const seen = (at: number, length: number, position: number) => {
    calls.push({ at, length, position });
    return answer({ at, length, position });
  };
  const async = (
    ...args: [unknown, unknown, number, number, number, (error: Error | null, count: number) => void]
  ): void => {
    const outcome = seen(args[2], args[3], args[4]);
    setImmediate(() => (typeof outcome === 'number' ? args[5](null, outcome) : args[5](outcome, 0)));
  };
  const sync = (...args: [unknown, unknown, number, number, number]): number => {
    const outcome = seen(args[2], args[3], args[4]);
    if (typeof outcome !== 'number') throw outcome;
    return outcome;
  };
  Object.assign(fs, { read: async, write: async, readSync: sync, writeSync: sync });
  syncBuiltinESMExports();
  return calls;
}

function restore(): void {
  Object.assign(fs, real);
  syncBuiltinESMExports();
}

afterEach(restore);

type Transfer = (device: FileDevice, offset: number, buffer: Uint8Array) => Promise<void>;
const TRANSFERS: readonly (readonly [name: string, 'READ' | 'WRITE', Transfer])[] = [
  ['read', 'READ', (device, offset, buffer) => device.read(offset, buffer)],
  ['readSync', 'READ', async (device, offset, buffer) => device.readSync(offset, buffer)],
  ['write', 'WRITE', (device, offset, buffer) => device.write(offset, buffer)],
  ['writeSync', 'WRITE', async (device, offset, buffer) => device.writeSync(offset, buffer)],
];

describe.each(TRANSFERS)('%s of a FileDevice', (name, kind, transfer) => {
  const open = async (sizeBytes: number) =>
    FileDevice.open(join(folder, name + randomUUID()), { create: { sizeBytes } });

  test('more than a GiB is moved in several system calls of a GiB at most', async () => {
    await using device = await open(4 * GIB);
    const buffer = new Uint8Array(2.5 * GIB); // Never touched, so it takes no memory.
    const calls = answering(({ length }) => length);
    await transfer(device, GIB / 2, buffer);
    expect(calls).toEqual([
      { at: 0, length: GIB, position: 0.5 * GIB },
      { at: GIB, length: GIB, position: 1.5 * GIB },
      { at: 2 * GIB, length: GIB / 2, position: 2.5 * GIB },
    ]);
    restore();
  });

  test('goes on where a system call moved less than it was asked to', async () => {
    await using device = await open(10_000);
    const calls = answering(({ length }) => Math.ceil(length / 2));
    await transfer(device, 100, new Uint8Array(1000));
    expect(calls.slice(0, 3)).toEqual([
      { at: 0, length: 1000, position: 100 },
      { at: 500, length: 500, position: 600 },
      { at: 750, length: 250, position: 850 },
    ]);
    expect(calls.at(-1)).toEqual({ at: 999, length: 1, position: 1099 });
    restore();
  });

  test(`gives SHORT_${kind} when the system moves nothing more`, async () => {
    await using device = await open(10_000);
    answering(({ at }) => (at === 0 ? 400 : 0));
    const outcome = transfer(device, 0, new Uint8Array(1000));
    await expect(outcome).rejects.toMatchObject({
      code: `SHORT_${kind}`,
      message: expect.stringContaining('after 400'),
    });
    restore();
  });

  test("gives the system's error with a code, and its cause", async () => {
    await using device = await open(10_000);
    const cause = Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
    answering(({ at }) => (at === 0 ? 400 : cause));
    await expect(transfer(device, 0, new Uint8Array(1000))).rejects.toMatchObject({ code: 'DEVICE_IO', cause });
    restore();
  });
});

test('a transfer that is aborted between two system calls makes no second one', async () => {
  await using device = await FileDevice.open(join(folder, 'aborted'), { create: { sizeBytes: 10_000 } });
  for (const verb of ['read', 'write'] as const) {
    const controller = new AbortController();
    const calls = answering(() => {
      controller.abort('enough');
      return 400;
    });
    await expect(device[verb](0, new Uint8Array(1000), { signal: controller.signal })).rejects.toBe('enough');
    expect(calls).toHaveLength(1);
    // What was done when the abort came is done.
    await device[verb](0, new Uint8Array(400), { signal: new AbortController().signal });
    restore();
  }
});
