import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import { folderForTest } from '../../support/folders.ts';

/** File systems that refuse what others do: SMB, DrvFs, FUSE, FAT, and those of Windows. */

const system = vi.hoisted(() => ({ link: undefined as string | undefined, rename: undefined as string | undefined }));
const failure = (code: string) => Object.assign(new Error(`${code}: refused`), { code });

vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const refusing =
    <A extends unknown[], R>(name: keyof typeof system, call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      const code = system[name];
      if (code !== undefined) throw Object.assign(new Error(`${code}: refused`), { code });
      return call(...args);
    };
  return { ...real, link: refusing('link', real.link), rename: refusing('rename', real.rename) };
});

const body = (length = 3) => new Uint8Array(length).fill(7);

let folder: string;
beforeEach(async () => {
  folder = await folderForTest();
});
afterEach(async () => {
  system.link = undefined;
  system.rename = undefined;
  vi.restoreAllMocks();
});

/** Lets no directory be synced: handles of directories fail with `code`. */
async function refuseDirectorySync(code: string): Promise<void> {
  const handle = await open(folder, 'r');
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  const sync = prototype.sync;
  vi.spyOn(prototype, 'sync').mockImplementation(async function (this: typeof handle) {
    if ((await this.stat()).isDirectory()) throw failure(code);
    await sync.call(this);
  });
}

describe('a file system that does not sync directories', () => {
  test.each(['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EACCES', 'EPERM', 'EBADF'])(
    'with %s holds a repository, says so in the capabilities and warns once',
    async (code) => {
      await refuseDirectorySync(code);
      const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
      const target = new FileTarget(folder);
      expect(target.capabilities.durableNames).toBeUndefined();
      await using repository = await BackupRepository.open(target, { createIfMissing: { encryption: 'none' } });
      await using volume = await CopyOnWriteVolume.open(new MemoryDevice(body(65536)), { blockSize: 4096 });
      const { id, size } = await repository.backup(volume, { volume: 'disk' });
      const copy = new MemoryDevice(size);
      await repository.restore(id, copy);
      expect(copy.bytes).toEqual(body(65536));
      expect(target.capabilities.durableNames).toBe(false);
      const ours = warnings.mock.calls.filter(
        ([, options]) => (options as { code?: string })?.code === 'COW_NAMES_NOT_DURABLE',
      );
      expect(ours).toHaveLength(1);
      expect(String(ours[0]?.[0])).toContain(folder);
    },
  );

  test('with EIO has failed, which is no capability: the put rejects', async () => {
    const target = new FileTarget(folder);
    await target.put('a', body());
    expect(target.capabilities.durableNames).toBe(true);
    await refuseDirectorySync('EIO');
    await expect(target.put('a', body())).rejects.toMatchObject({ code: 'TARGET_ERROR' });
    expect(target.capabilities.durableNames).toBe(true);
  });
});

describe('a file system without hard links', () => {
  test.each(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EXDEV', 'EINVAL'])(
    'with %s leads to a single writer',
    async (code) => {
      system.link = code;
      const target = new FileTarget(folder);
      await expect(target.put('a', body(), { createOnly: true })).rejects.toMatchObject({
        code: 'CREATE_ONLY_UNSUPPORTED',
        retryable: false,
        message: expect.stringMatching(/singleWriter: true/),
      });
      expect(target.capabilities.createOnly).toBe(false);
      expect(await Array.fromAsync(target.list(''))).toEqual([]);
      const create = { createIfMissing: { encryption: 'none' } } as const;
      await expect(BackupRepository.open(new FileTarget(folder), create)).rejects.toMatchObject({
        code: 'SINGLE_WRITER_REQUIRED',
        message: expect.stringContaining('singleWriter: true'),
        cause: { code: 'CREATE_ONLY_UNSUPPORTED' },
      });
      await using repository = await BackupRepository.open(new FileTarget(folder), {
        singleWriter: true,
        createIfMissing: { encryption: 'none', singleWriter: true },
      });
      await using volume = await CopyOnWriteVolume.open(new MemoryDevice(body(65536)), { blockSize: 4096 });
      expect((await repository.backup(volume, { volume: 'disk' })).size).toBe(65536);
    },
  );

  test.each([
    ['EIO', 'TARGET_ERROR'],
    ['EACCES', 'PERMISSION_DENIED'],
    ['ENOSPC', 'NO_SPACE'],
    ['EROFS', 'READ_ONLY'],
  ])('is not one that fails with %s: that is %s', async (code, expected) => {
    system.link = code;
    const target = new FileTarget(folder);
    await expect(target.put('a', body(), { createOnly: true })).rejects.toMatchObject({
      code: expected,
      message: expect.stringContaining(folder),
    });
    expect(target.capabilities.createOnly).toBe(true);
  });
});

describe('Windows, as far as it can be played', () => {
  const platform = Object.getOwnPropertyDescriptor(process, 'platform') as PropertyDescriptor;
  beforeEach(() => Object.defineProperty(process, 'platform', { ...platform, value: 'win32' }));
  afterEach(() => Object.defineProperty(process, 'platform', platform));

  test('objects are put, replaced and deleted without a directory being synced, and names count as not durable', async () => {
    await refuseDirectorySync('EPERM');
    const target = new FileTarget(join(folder, 'made'), { fileMode: 0o400 });
    await target.put('packs/a', body());
    await target.put('packs/a', body(5));
    await target.put('b', body(), { createOnly: true });
    await target.delete('b');
    expect(await target.get('packs/a')).toEqual(body(5));
    expect(target.capabilities).toMatchObject({ createOnly: true, durableNames: false });
  });

  test('a name that a reader holds open passes by itself: it is retryable, and the object stays', async () => {
    const target = new FileTarget(folder);
    await target.put('a', body());
    for (const code of ['EPERM', 'EACCES', 'EBUSY']) {
      system.rename = code;
      await expect(target.put('a', body(5))).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE', retryable: true });
    }
    system.rename = undefined;
    expect(await target.get('a')).toEqual(body());
    await target.put('a', body(5));
  });

  test('no key is a device, ends in a dot, or differs from another one by its case', async () => {
    const target = new FileTarget(folder);
    for (const key of [
      'con',
      'nul',
      'aux.txt',
      'packs/prn',
      'com1/a',
      'lpt9.x.y',
      'a.',
      'a./b',
      'A',
      'Packs/a',
      'a:b',
      'a\\b',
    ]) {
      await expect(target.put(key, body()), key).rejects.toMatchObject({ code: 'INVALID_KEY' });
    }
    for (const key of ['console', 'com', 'com10', 'nul-1', 'a.con']) await target.put(key, body());
  });
});

test('a body whose length changes under a put is refused, and no object is made of a half', async () => {
  const target = new FileTarget(folder);
  await target.put('first', body());
  for (const change of [
    (buffer: ArrayBuffer) => buffer.resize(10),
    (buffer: ArrayBuffer) => buffer.resize(8192),
    (buffer: ArrayBuffer) => structuredClone(buffer, { transfer: [buffer] }),
  ]) {
    const buffer = new ArrayBuffer(4096, { maxByteLength: 8192 });
    const put = target.put('a', new Uint8Array(buffer));
    change(buffer);
    await expect(put).rejects.toThrow(/had 4096 bytes/);
  }
  for (const none of ['text', null, [1], new Uint16Array(4)]) {
    await expect(target.put('a', none as never)).rejects.toThrow(TypeError);
  }
  for (const none of [null, 5, ['a'], undefined]) {
    await expect(target.put(none as never, body())).rejects.toThrow(TypeError);
    await expect(target.get(none as never)).rejects.toThrow(TypeError);
  }
  expect(await Array.fromAsync(target.list(''), ({ key }) => key)).toEqual(['first']);
});

test('a repository that was copied as keys and values, with plain writes, opens and goes on', async () => {
  const source = new FileTarget(join(folder, 'source'));
  const unlock = { key: new Uint8Array(32).fill(1) };
  await using repository = await BackupRepository.open(source, { unlock, createIfMissing: { encryption: unlock } });
  await using volume = await CopyOnWriteVolume.open(new MemoryDevice(body(65536)), { blockSize: 4096 });
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const dump = new Map<string, Uint8Array>();
  for await (const { key } of source.list('')) dump.set(key, await source.get(key));
  const copied = join(folder, 'copied');
  for (const [key, bytes] of dump) {
    mkdirSync(join(copied, key, '..'), { recursive: true });
    writeFileSync(join(copied, key), bytes);
  }
  await using copy = await BackupRepository.open(new FileTarget(copied, { createFolder: false }), { unlock });
  const restored = new MemoryDevice(65536);
  await copy.restore(id, restored);
  expect(restored.bytes).toEqual(body(65536));
  await copy.backup(volume, { volume: 'disk' });
  // And back again: every file that is not this library's own is an object of its path.
  const files = readdirSync(copied, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes('.cow-cloud-backup'))
    .map((entry) => join(entry.parentPath, entry.name).slice(copied.length + 1));
  const listed = await Array.fromAsync(new FileTarget(copied).list(''), ({ key }) => key);
  expect(listed).toEqual(files.sort());
  for (const [key, bytes] of dump) expect(readFileSync(join(copied, key))).toEqual(Buffer.from(bytes));
});
