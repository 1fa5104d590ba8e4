import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FileDevice } from '../../src/device/file-device.ts';
import type { FileDeviceOptions } from '../../src/device/file-device-options.ts';
import { systemCalls } from '../../src/device/system-calls.ts';
import { folderForFile } from '../support/folders.ts';
import { openElsewhere } from './support/other-process.ts';

const folder = folderForFile();
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
});

const onLinux = process.platform === 'linux';
const hasKoffi = onLinux && systemCalls() !== undefined;
/** A process that loads no native addons locks by the program. */
const BY_PROGRAM = ['--no-addons'];

describe.runIf(onLinux)('flock(2)', { timeout: 120_000 }, () => {
  test('is one lock, whether the program takes it or koffi', async () => {
    const path = newImage();
    for (const [first, second] of [
      [BY_PROGRAM, BY_PROGRAM],
      [[], BY_PROGRAM],
      [BY_PROGRAM, []],
    ] as const) {
      const holder = await openElsewhere(path, {}, process.env, first);
      expect(holder.outcome).toBe('open');
      expect((await openElsewhere(path, {}, process.env, second)).outcome).toBe('DEVICE_BUSY');
      expect((await openElsewhere(path, { readOnly: true }, process.env, second)).outcome).toBe('DEVICE_BUSY');
      await holder.kill();
      const next = await openElsewhere(path, { readOnly: true }, process.env, second);
      expect(next.outcome).toBe('open');
      const reader = await openElsewhere(path, { readOnly: true }, process.env, first);
      expect(reader.outcome).toBe('open');
      await Promise.all([next.kill(), reader.kill()]);
    }
  });

  test('holds between names of one file, and goes with a killed holder whatever its process id', async () => {
    const path = newImage();
    linkSync(path, `${path}-link`);
    // Each holder is process 1 of a namespace of its own, as in a container that is killed and starts again.
    const asPid1 = ['unshare', '--fork', '--pid'];
    if (spawnSync('unshare', ['--fork', '--pid', 'true']).status !== 0) asPid1.length = 0;
    for (let round = 0; round < 2; round++) {
      const holder = await openElsewhere(path, {}, process.env, [], asPid1);
      expect(holder.outcome).toBe('open');
      await expect(FileDevice.open(`${path}-link`)).rejects.toEqual(busy);
      await holder.kill();
    }
    await using device = await FileDevice.open(`${path}-link`);
    expect(device.size).toBe(1000);
  });

  test('without koffi and the program nothing is opened as if it were locked: LOCK_UNAVAILABLE, but not for shared', async () => {
    const path = newImage();
    const empty = join(folder, 'no-programs');
    mkdirSync(empty);
    const open = (where: string, options: FileDeviceOptions) =>
      openElsewhere(where, options, { PATH: empty }, BY_PROGRAM);
    const refused = await open(path, {});
    expect(refused.outcome).toBe('LOCK_UNAVAILABLE');
    expect(refused.message).toMatch(/koffi.*"flock".*shared: true/);
    const created = join(folder, randomUUID());
    expect((await open(created, { create: { sizeBytes: 5 } })).outcome).toBe('LOCK_UNAVAILABLE');
    expect((await openElsewhere(created)).outcome).toBe('DEVICE_NOT_FOUND');
    const shared = await open(path, { shared: true });
    expect(shared.outcome).toBe('open');
    await shared.kill();
  });

  test.runIf(hasKoffi)('needs no program where koffi is installed', async () => {
    const empty = join(folder, 'none-at-all');
    mkdirSync(empty);
    const holder = await openElsewhere(newImage(), {}, { PATH: empty });
    expect(holder.outcome).toBe('open');
    await holder.kill();
  });

  test('that the permission model does not allow says so', async () => {
    const path = newImage();
    const flags = ['--permission', '--allow-fs-read=*', '--allow-fs-write=*'];
    const refused = await openElsewhere(path, {}, process.env, flags);
    expect(refused.outcome).toBe('LOCK_UNAVAILABLE');
    expect(refused.message).toMatch(/permission model.*--allow-child-process/);
    const allowed = await openElsewhere(path, {}, process.env, [...flags, '--allow-child-process']);
    expect(allowed.outcome).toBe('open');
    await allowed.kill();
    const denied = await openElsewhere(path, {}, process.env, ['--permission', `--allow-fs-read=${process.cwd()}/*`]);
    expect(denied.outcome).toBe('PERMISSION_DENIED');
    expect(denied.message).toMatch(/permission model.*--allow-fs-read/);
  });
});
