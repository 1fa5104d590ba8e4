import { lstat, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { beforeEach, expect, test, vi } from 'vitest';
import { FileDevice } from '../../../src/device/file-device.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { folderForTest } from '../../support/folders.ts';
import { errorOf, expectSame } from '../../volume/support/bytes.ts';
import { createIn, openIn, openVolume } from '../support/repositories.ts';

let folder: string;
beforeEach(async () => {
  folder = await folderForTest();
});

test('a backup becomes a new file with its name once it is whole', async () => {
  const repository = await createIn(new MemoryTarget());
  const { device, volume } = await openVolume();
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const path = join(folder, 'restored.img');
  const seen: string[][] = [];
  const result = await repository.restoreToFile(id, path, {
    verifyWrites: true,
    onProgress: async () => seen.push(await readdir(folder)),
  });
  expectSame(new Uint8Array(await readFile(path)), device.bytes);
  expect(await readdir(folder)).toEqual(['restored.img']);
  expect(result.writtenBytes).toBeLessThan(device.size); // What is zero is a hole.
  expect((await stat(path)).size).toBe(device.size);
});

test('a file that has the name is left alone, before anything is fetched, unless it is to be overwritten', async () => {
  const target = new MemoryTarget();
  const repository = await createIn(target);
  const { device, volume } = await openVolume();
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const path = join(folder, 'restored.img');
  await writeFile(path, 'precious');
  const error = await errorOf(repository.restoreToFile(id, path), 'DEVICE_EXISTS');
  expect(error.message).toContain(path);
  expect(await readFile(path, 'utf8')).toBe('precious');
  expect(await readdir(folder)).toEqual(['restored.img']);
  await repository.restoreToFile(id, path, { overwrite: true });
  expectSame(new Uint8Array(await readFile(path)), device.bytes);
});

test('after a failure nothing is left, and a file that was to be overwritten is as it was', async () => {
  const target = new MemoryTarget();
  const { volume } = await openVolume();
  const { id } = await (await createIn(target)).backup(volume, { volume: 'disk' });
  const faulty = new FaultyTarget(target, scriptedFaults([]));
  const repository = await openIn(faulty);
  for (const { key } of await Array.fromAsync(target.list('packs/'))) await target.delete(key);
  const path = join(folder, 'restored.img');
  await errorOf(repository.restoreToFile(id, path), 'PACK_MISSING');
  expect(await readdir(folder)).toEqual([]);
  await writeFile(path, 'precious');
  await errorOf(repository.restoreToFile(id, path, { overwrite: true }), 'PACK_MISSING');
  expect(await readFile(path, 'utf8')).toBe('precious');
  expect(await readdir(folder)).toEqual(['restored.img']);
  await errorOf(repository.restoreToFile(id, join(folder, 'not/there.img')), 'DEVICE_NOT_FOUND');
});

test('only a file that nobody has open is replaced, which is found out before anything is fetched', async () => {
  const target = new MemoryTarget();
  const { device, volume } = await openVolume();
  const { id } = await (await createIn(target)).backup(volume, { volume: 'disk' });
  const repository = await openIn(target);
  for (const { key } of await Array.fromAsync(target.list('packs/'))) await target.delete(key);
  await mkdir(join(folder, 'a folder'));
  const isFolder = await errorOf(
    repository.restoreToFile(id, join(folder, 'a folder'), { overwrite: true }),
    'DEVICE_UNSUPPORTED',
  );
  expect(isFolder.message).toContain('a folder');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(join(folder, 'socket'), resolve));
  try {
    await errorOf(repository.restoreToFile(id, join(folder, 'socket'), { overwrite: true }), 'DEVICE_UNSUPPORTED');
  } finally {
    server.close();
  }
  const path = join(folder, 'in-use.img');
  await writeFile(path, 'precious');
  const inUse = await FileDevice.open(path);
  await errorOf(repository.restoreToFile(id, path, { overwrite: true }), 'DEVICE_BUSY');
  await inUse.close();
  expect(await readFile(path, 'utf8')).toBe('precious');
  expect((await readdir(folder)).filter((name) => name.includes('partial'))).toEqual([]);
  expect(device.size).toBeGreaterThan(0);
});

test('of a symbolic link the file that it leads to is replaced, in its own folder', async () => {
  const repository = await createIn(new MemoryTarget());
  const { device, volume } = await openVolume();
  const { id } = await repository.backup(volume, { volume: 'disk' });
  await mkdir(join(folder, 'big disk'));
  await writeFile(join(folder, 'big disk', 'image'), 'old');
  const path = join(folder, 'link.img');
  await symlink(join('big disk', 'image'), path);
  await errorOf(repository.restoreToFile(id, path), 'DEVICE_EXISTS');
  await repository.restoreToFile(id, path, { overwrite: true });
  expect((await lstat(path)).isSymbolicLink()).toBe(true);
  expectSame(new Uint8Array(await readFile(join(folder, 'big disk', 'image'))), device.bytes);
  expect(await readdir(join(folder, 'big disk'))).toEqual(['image']);
  await symlink('nowhere', join(folder, 'dangling'));
  await errorOf(repository.restoreToFile(id, join(folder, 'dangling'), { overwrite: true }), 'DEVICE_NOT_FOUND');
});

test('a name as long as names may be, and a process that goes to another folder meanwhile', async () => {
  const repository = await createIn(new MemoryTarget());
  const { device, volume } = await openVolume();
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const long = 'n'.repeat(255);
  await repository.restoreToFile(id, join(folder, long));
  expectSame(new Uint8Array(await readFile(join(folder, long))), device.bytes);
  await rm(join(folder, long));
  const cwd = vi.spyOn(process, 'cwd').mockReturnValue(folder); // Threads of a test run can't change it.
  const restoring = repository.restoreToFile(id, 'relative.img');
  cwd.mockRestore();
  await restoring;
  expect(await readdir(folder)).toEqual(['relative.img']);
});

test('of several that want a name at once one gets it, and nothing is left of the others', async () => {
  const repository = await createIn(new MemoryTarget());
  const { device, volume } = await openVolume();
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const path = join(folder, 'restored.img');
  const outcomes = await Promise.allSettled([1, 2, 3].map(() => repository.restoreToFile(id, path)));
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason.code).toBe('DEVICE_EXISTS');
  expectSame(new Uint8Array(await readFile(path)), device.bytes);
  expect(await readdir(folder)).toEqual(['restored.img']);
});

test('its arguments are checked at the door', async () => {
  const repository = await createIn(new MemoryTarget());
  const path = join(folder, 'restored.img');
  await expect(repository.restoreToFile('a', 5 as never)).rejects.toThrow(/path must be/);
  await expect(repository.restoreToFile('a', path, { overwite: true } as never)).rejects.toThrow(
    /did you mean overwrite/,
  );
  await expect(repository.restoreToFile('a', path, { overwrite: 1 as never })).rejects.toThrow(TypeError);
  await errorOf(repository.restoreToFile('a'.repeat(32), path), 'BACKUP_NOT_FOUND');
  expect(await readdir(folder)).toEqual([]);
});
