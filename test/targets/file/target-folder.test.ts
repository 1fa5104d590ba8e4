import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { DurableFiles } from '../../../src/targets/file/durable-file.ts';
import { putFile } from '../../../src/targets/file/file-put.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { pathOf, RESERVED } from '../../../src/targets/file/object-path.ts';
import { TargetFolder } from '../../../src/targets/file/target-folder.ts';
import { folderForTest } from '../../support/folders.ts';

const body = (length = 3) => new Uint8Array(length).fill(7);

let parent: string;
let folder: string;
beforeEach(async () => {
  parent = await folderForTest();
  folder = join(parent, 'folder');
});

/** What every call rejects with, or `resolved`. */
async function codes(target: FileTarget): Promise<unknown[]> {
  const calls = [
    target.put('a', body()),
    target.put('new/b', body(), { createOnly: true }),
    target.get('a'),
    target.get('absent'),
    target.stat('a'),
    target.stat('absent/b'),
    Array.fromAsync(target.list('')),
    target.delete('a'),
    target.storeTime(),
    target.removeLeftovers(),
  ];
  return (await Promise.allSettled(calls)).map((outcome) =>
    outcome.status === 'fulfilled' ? 'resolved' : outcome.reason.code,
  );
}

async function opened(): Promise<FileTarget> {
  const target = new FileTarget(folder);
  await target.put('a', body());
  return target;
}

const changed = Array(10).fill('FOLDER_CHANGED');

describe('a folder that was opened', () => {
  test('is not made anew when it has vanished, and is itself when it is back', async () => {
    const target = await opened();
    renameSync(folder, `${folder}-away`);
    expect(await codes(target)).toEqual(changed);
    expect(existsSync(folder)).toBe(false);
    await expect(target.put('a', body())).rejects.toMatchObject({
      code: 'FOLDER_CHANGED',
      retryable: false,
      message: expect.stringContaining(folder),
    });
    renameSync(`${folder}-away`, folder);
    expect(await target.get('a')).toEqual(body());
    await target.put('b', body());
  });

  test('is missed when its disk goes between the naming of an object and the syncing of its name', async () => {
    const modes = { fileMode: 0o600, directoryMode: 0o700 };
    class Unplugged extends DurableFiles {
      override async sync(directory: string): Promise<void> {
        if (existsSync(join(folder, 'a'))) {
          renameSync(folder, `${folder}-away`);
          mkdirSync(folder);
        }
        await super.sync(directory);
      }
    }
    const there = new TargetFolder(folder, true, new DurableFiles('here', modes));
    const bytes = body();
    const put = { key: 'a', at: pathOf(folder, 'a'), body: bytes, length: 3, createOnly: true };
    const putting = putFile(there, new Unplugged('here', modes), { ...put, onSent: undefined, signal: undefined });
    await expect(putting).rejects.toMatchObject({ code: 'FOLDER_CHANGED' });
  });

  test('is not mistaken for another one of its name, empty or another store, and nothing is written there', async () => {
    const target = await opened();
    renameSync(folder, `${folder}-away`);
    mkdirSync(folder);
    expect(await codes(target)).toEqual(changed);
    expect(readdirSync(folder)).toEqual([]);
    const other = new FileTarget(folder);
    await other.put('a', body(5));
    expect(await codes(target)).toEqual(changed);
    expect(await other.get('a')).toEqual(body(5));
    expect(await Array.fromAsync(other.list(''), ({ key }) => key)).toEqual(['a']);
  });

  test('is not mistaken either by an instance that has only read, nor for a folder without a mark', async () => {
    mkdirSync(folder);
    writeFileSync(join(folder, 'a'), 'one');
    const target = new FileTarget(folder);
    await target.get('a');
    renameSync(folder, `${folder}-away`);
    mkdirSync(folder);
    writeFileSync(join(folder, 'a'), 'two');
    expect(await codes(target)).toEqual(changed);
    expect(readdirSync(folder)).toEqual(['a']);
  });

  test('is recognised by its mark where device and inode are others, as of a share that was mounted again', async () => {
    const target = await opened();
    cpSync(folder, `${folder}-copy`, { recursive: true });
    renameSync(folder, `${folder}-away`);
    renameSync(`${folder}-copy`, folder);
    expect(await target.get('a')).toEqual(body());
    await target.put('b', body());
    expect(readdirSync(folder).sort()).toEqual([RESERVED, 'a', 'b']);
    // A reader takes the mark from the folder that it first sees.
    const reader = new FileTarget(folder);
    await reader.stat('a');
    cpSync(folder, `${folder}-copy`, { recursive: true });
    rmSync(folder, { recursive: true });
    renameSync(`${folder}-copy`, folder);
    expect(await reader.get('b')).toEqual(body());
  });

  test('that was emptied is not begun again', async () => {
    const target = await opened();
    for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true });
    await expect(target.put('a', body())).rejects.toMatchObject({ code: 'FOLDER_CHANGED' });
    await expect(target.put('new/b', body(), { createOnly: true })).rejects.toMatchObject({ code: 'FOLDER_CHANGED' });
    expect(readdirSync(folder)).toEqual([]);
    await (await opened()).put('c', body());
    expect(readdirSync(folder).sort()).toEqual([RESERVED, 'a', 'c']);
  });

  test('whose place a file takes while something is put is to blame, and not the key', async () => {
    for (let turns = 0; turns < 8; turns++) {
      const target = await opened();
      const puts = ['b', 'x/c', 'x/y/d'].map((key) => target.put(key, body(100_000)).catch(({ code }) => code));
      for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
      renameSync(folder, `${folder}-away`);
      writeFileSync(folder, 'no directory');
      expect(await Promise.all(puts)).not.toContain('INVALID_KEY');
      rmSync(folder);
      rmSync(`${folder}-away`, { recursive: true });
    }
  });

  test('is known by device and inode alone as long as they are the same', async () => {
    const target = await opened();
    rmSync(join(folder, RESERVED), { recursive: true });
    // Device and inode are as they were: the mark is not looked for.
    expect(await target.get('a')).toEqual(body());
  });
});

describe('a mount point', () => {
  const mayMount = process.platform === 'linux' && process.getuid?.() === 0;

  test.skipIf(!mayMount)(
    'whose disk is unmounted takes no object, and the disk is recognised when it is back',
    async (context) => {
      const image = join(parent, 'disk.img');
      mkdirSync(folder);
      const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: 'pipe' });
      try {
        run('truncate', '-s', '16M', image);
        run('mkfs.ext4', '-q', image);
        run('mount', '-o', 'loop', image, folder);
      } catch (error) {
        return context.skip(`no disk image can be mounted here: ${String(error).slice(0, 200)}`);
      }
      let isMounted = true;
      try {
        const target = await opened();
        run('umount', folder);
        isMounted = false;
        expect(await codes(target)).toEqual(changed);
        expect(readdirSync(folder)).toEqual([]);
        // Another file system in its place, whose device number may even be the same.
        run('mount', '-t', 'tmpfs', 'tmpfs', folder);
        isMounted = true;
        expect(await codes(target)).toEqual(changed);
        expect(readdirSync(folder)).toEqual([]);
        run('umount', folder);
        isMounted = false;
        run('mount', '-o', 'loop', image, folder);
        isMounted = true;
        expect(await target.get('a')).toEqual(body());
        await target.put('b', body());
        expect(await Array.fromAsync(target.list(''), ({ key }) => key)).toEqual(['a', 'b']);
      } finally {
        if (isMounted) run('umount', folder);
      }
    },
  );

  test('with nothing mounted is not taken for a new store where the folder has to be there', async () => {
    const target = new FileTarget(folder, { createFolder: false });
    expect(await codes(target)).toEqual(Array(10).fill('FOLDER_NOT_FOUND'));
    expect(existsSync(folder)).toBe(false);
    mkdirSync(folder);
    const empty = new FileTarget(folder, { createFolder: false });
    await expect(empty.put('a', body())).rejects.toMatchObject({ code: 'FOLDER_NOT_FOUND' });
    expect(readdirSync(folder)).toEqual([]);
    await opened();
    await empty.put('b', body());
    expect(readdirSync(folder).sort()).toEqual([RESERVED, 'a', 'b']);
  });
});

describe.skipIf(process.platform === 'win32')('permissions', () => {
  const modeOf = (path: string) => statSync(path).mode & 0o7777;

  test('folders are 0700 and files 0600 under any umask', async () => {
    for (const umask of [0o022, 0o000, 0o077, 0o277, 0o777]) {
      const before = process.umask(umask);
      try {
        const path = join(folder, String(umask), 'deep');
        const target = new FileTarget(path);
        await target.put('packs/a', body());
        await target.put('packs/a', body());
        await target.put('b', body(), { createOnly: true });
        for (const name of ['..', '.', 'packs', RESERVED]) expect(modeOf(join(path, name)), name).toBe(0o700);
        for (const name of ['b', 'packs/a']) expect(modeOf(join(path, name)), name).toBe(0o600);
        const [mark = ''] = readdirSync(join(path, RESERVED));
        expect(modeOf(join(path, RESERVED, mark)) & 0o077).toBe(0);
      } finally {
        process.umask(before);
      }
    }
  });

  test('are as the options say, and those of a folder that is there stay', async () => {
    mkdirSync(folder);
    chmodSync(folder, 0o755);
    const before = process.umask(0o077);
    try {
      await new FileTarget(folder, { fileMode: 0o640, directoryMode: 0o750 }).put('packs/a', body());
    } finally {
      process.umask(before);
    }
    expect(['.', 'packs', 'packs/a'].map((name) => modeOf(join(folder, name)))).toEqual([0o755, 0o750, 0o640]);
  });
});

test('options that are none are a TypeError', () => {
  const wrong = [{ createFolder: 1 }, { fileMode: '0600' }, { directoryMode: 0o10000 }, { mode: 0o600 }, new Map(), 5];
  for (const options of wrong) expect(() => new FileTarget(folder, options as never)).toThrow(TypeError);
});
