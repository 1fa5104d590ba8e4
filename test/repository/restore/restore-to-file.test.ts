import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryTarget } from '../../../src/target/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { errorOf, expectSame } from '../../volume/support/bytes.ts';
import { createIn, openIn, openVolume } from '../support/repositories.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'restore-to-file-'));
});
afterEach(() => rm(folder, { recursive: true }));

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
