import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FileDevice } from '../../src/device/file-device.ts';
import { testFolder } from './support/folder.ts';
import { openElsewhere } from './support/other-process.ts';

const folder = testFolder();
const busy = expect.objectContaining({ name: 'BackupError', code: 'DEVICE_BUSY' });

function newImage(): string {
  const path = join(folder, randomUUID());
  writeFileSync(path, new Uint8Array(1000));
  return path;
}

describe('the lock of a FileDevice', () => {
  test('one process can not open a file twice, until the first has closed it', async () => {
    const path = newImage();
    const first = await FileDevice.open(path);
    await expect(FileDevice.open(path)).rejects.toEqual(busy);
    await expect(FileDevice.open(path, { readOnly: true })).rejects.toEqual(busy);
    await first.close();
    await using second = await FileDevice.open(path);
    expect(second.size).toBe(1000);
  });

  test('a file that was just created is locked as well', async () => {
    const path = join(folder, randomUUID());
    await using _first = await FileDevice.open(path, { create: { sizeBytes: 10 } });
    await expect(FileDevice.open(path)).rejects.toEqual(busy);
  });

  test('readers share, and keep writers out', async () => {
    const path = newImage();
    await using one = await FileDevice.open(path, { readOnly: true });
    await using two = await FileDevice.open(path, { readOnly: true });
    await expect(FileDevice.open(path)).rejects.toEqual(busy);
    await Promise.all([one.read(0, new Uint8Array(10)), two.read(0, new Uint8Array(10))]);
  });

  test('shared: true takes no lock and is kept out by none', async () => {
    const path = newImage();
    await using writer = await FileDevice.open(path);
    await using sharer = await FileDevice.open(path, { shared: true });
    await sharer.write(0, new Uint8Array([5]));
    const into = new Uint8Array(1);
    await writer.read(0, into);
    expect(into[0]).toBe(5);
    await writer.close();
    await using again = await FileDevice.open(path);
    expect(again.size).toBe(1000);
  });

  test('another process is kept out as long as we have the file, and not longer', async () => {
    const path = newImage();
    const ours = await FileDevice.open(path);
    expect((await openElsewhere(path)).outcome).toBe('DEVICE_BUSY');
    await ours.close();
    const other = await openElsewhere(path);
    expect(other.outcome).toBe('open');
    await other.kill();
  });

  test('we are kept out by another process, until it is killed without warning', async () => {
    const path = newImage();
    const other = await openElsewhere(path);
    expect(other.outcome).toBe('open');
    await expect(FileDevice.open(path)).rejects.toEqual(busy);
    await other.kill();
    await using ours = await FileDevice.open(path);
    await ours.write(0, new Uint8Array(10));
  });

  test.runIf(process.platform === 'linux')(
    'without the program "flock" nothing is opened as if it were locked: LOCK_UNAVAILABLE, but not for shared',
    async () => {
      const path = newImage();
      const empty = join(folder, 'no-programs');
      mkdirSync(empty);
      const without = { PATH: empty };
      expect((await openElsewhere(path, {}, without)).outcome).toBe('LOCK_UNAVAILABLE');
      const created = join(folder, randomUUID());
      expect((await openElsewhere(created, { create: { sizeBytes: 5 } }, without)).outcome).toBe('LOCK_UNAVAILABLE');
      expect((await openElsewhere(created)).outcome).toBe('DEVICE_NOT_FOUND');
      const shared = await openElsewhere(path, { shared: true }, without);
      expect(shared.outcome).toBe('open');
      await shared.kill();
    },
  );
});
