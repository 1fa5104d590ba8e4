import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open, realpath, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { fileError } from '../../../src/targets/file/file-errors.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { readFully, writeFully } from '../../../src/targets/file/file-transfer.ts';
import { RESERVED } from '../../../src/targets/file/object-path.ts';
import { folderForTest } from '../../support/folders.ts';
import { keysOf } from '../../support/keys-of.ts';
import { bodyOf, KEYS } from './support/put-forever.ts';

/** For the Node versions that need to be asked to run TypeScript. */
const execArgv = ['--experimental-strip-types', '--no-warnings'];
const body = (length = 3) => new Uint8Array(length).fill(7);

let folder: string;
beforeEach(async () => {
  folder = await folderForTest();
});

/** Every path below the folder, directories with a slash at their end. */
function treeOf(path = folder, above = ''): string[] {
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory()
      ? [`${above}${entry.name}/`, ...treeOf(join(path, entry.name), `${above}${entry.name}/`)]
      : [above + entry.name],
  );
}

/** What the folder holds apart from this library's own files. */
function objectsTree(): string[] {
  return treeOf().filter((path) => !path.startsWith(RESERVED));
}

describe('where objects are kept', () => {
  test('an object is the file that its key names; what is no object lives in one reserved folder', async () => {
    const target = new FileTarget(folder);
    for (const key of ['a', 'b/c', 'log/000001']) await target.put(key, body());
    expect(objectsTree().sort()).toEqual(['a', 'b/', 'b/c', 'log/', 'log/000001']);
    expect(treeOf(join(folder, RESERVED))).toEqual([expect.stringMatching(/^folder-[0-9a-f]{32}$/)]);
  });

  test('a bucket that was copied with plain files is the same store', async () => {
    const dump: Record<string, string> = {
      format: 'f',
      'log/1': 'one',
      'log/2-c': 'two',
      'packs/1/aa': 'a',
      'packs/2/b': 'b',
    };
    for (const [key, text] of Object.entries(dump)) {
      mkdirSync(join(folder, key, '..'), { recursive: true });
      writeFileSync(join(folder, key), text);
    }
    const target = new FileTarget(folder, { createFolder: false });
    expect(await keysOf(target)).toEqual(Object.keys(dump));
    for (const [key, text] of Object.entries(dump)) expect(Buffer.from(await target.get(key)).toString()).toBe(text);
    expect(readdirSync(folder)).not.toContain(RESERVED);
    await target.put('log/3', body());
    await target.delete('log/1');
    expect(await keysOf(target, 'log/')).toEqual(['log/2-c', 'log/3']);
  });

  test('files and directories that no key can name are passed over', async () => {
    const target = new FileTarget(folder);
    await target.put('a', body());
    for (const name of ['B', '.hidden', '~', 'x+', 'a~', 'con', 'nul.txt', 'y'.repeat(129)])
      writeFileSync(join(folder, name), '');
    for (const name of ['lost+found', 'Upper', '.Trash']) mkdirSync(join(folder, name));
    writeFileSync(join(folder, 'Upper', 'x'), '');
    writeFileSync(join(folder, 'lost+found', 'x'), '');
    expect(await keysOf(target)).toEqual(['a']);
  });

  test('a folder that is not there holds nothing, and is made by the first put', async () => {
    const target = new FileTarget(join(folder, 'deep', 'er'));
    expect(await keysOf(target)).toEqual([]);
    expect(await target.stat('a')).toBeUndefined();
    expect(await target.storeTime()).toBeUndefined();
    expect(await target.removeLeftovers()).toEqual({ count: 0, bytes: 0 });
    await target.delete('a');
    expect(existsSync(join(folder, 'deep'))).toBe(false);
    await target.put('a', body());
    expect(await keysOf(target)).toEqual(['a']);
  });

  test('deleting the last object of a directory takes the directory along, but never the folder', async () => {
    const target = new FileTarget(folder);
    await target.put('a/b/c', body());
    await target.put('a/d', body());
    await target.delete('a/b/c');
    expect(objectsTree().sort()).toEqual(['a/', 'a/d']);
    await target.delete('a/d');
    expect(objectsTree()).toEqual([]);
    expect(existsSync(folder)).toBe(true);
  });
});

test('a put goes through although others take its directory away again and again', async () => {
  const targets = [new FileTarget(folder), new FileTarget(folder)];
  const work = async (worker: number) => {
    const target = targets[worker % 2] as FileTarget;
    for (let round = 0; round < 80; round++) {
      await target.put(`deep/er/k${worker}`, body(), { createOnly: round % 2 === 0 });
      await target.delete(`deep/er/k${worker}`);
    }
  };
  await Promise.all([0, 1, 2, 3, 4, 5].map(work));
  expect(objectsTree()).toEqual([]);
});

describe('what is not a plain file is no object', () => {
  test('a symbolic link is neither followed nor listed nor taken for absent', async () => {
    const target = new FileTarget(folder);
    const secret = join(folder, 'Secret.txt');
    writeFileSync(secret, 'secret');
    symlinkSync(secret, join(folder, 'link'));
    await expect(target.get('link')).rejects.toMatchObject({
      code: 'TARGET_ERROR',
      message: expect.stringMatching(/symbolic link/),
    });
    await expect(target.stat('link')).rejects.toMatchObject({ code: 'TARGET_ERROR' });
    const refused = { code: 'TARGET_ERROR', retryable: false };
    await expect(keysOf(target)).rejects.toMatchObject(refused);
    await expect(target.put('link', body(), { createOnly: true })).rejects.toMatchObject(refused);
    await expect(target.put('link', body())).rejects.toMatchObject(refused);
    await expect(target.delete('link')).rejects.toMatchObject(refused);
    expect(objectsTree().sort()).toEqual(['Secret.txt', 'link']);
    expect(readFileSync(secret, 'utf8')).toBe('secret');
  });

  /** Every call that leads to the key, as what it gives or the code that it rejects with. */
  async function everyCall(target: FileTarget, key: string, prefix: string): Promise<unknown[]> {
    const calls = [
      keysOf(target, prefix),
      target.get(key),
      target.stat(key),
      target.put(key, body()),
      target.put(key, body(), { createOnly: true }),
      target.delete(key),
    ];
    return (await Promise.allSettled(calls)).map((outcome) =>
      outcome.status === 'fulfilled' ? outcome.value : outcome.reason.code,
    );
  }
  const refusedByAll = Array(6).fill('TARGET_ERROR');

  test('a symbolic link in the place of a directory is refused by every call, and nothing happens behind it', async () => {
    const elsewhere = join(folder, 'Elsewhere');
    mkdirSync(join(elsewhere, 'b'), { recursive: true });
    writeFileSync(join(elsewhere, 'b', 'c'), 'object');
    symlinkSync(elsewhere, join(folder, 'a'));
    const target = new FileTarget(folder);
    expect(await everyCall(target, 'a/b/c', '')).toEqual(refusedByAll);
    expect(await everyCall(target, 'a/b/c', 'a/b/')).toEqual(refusedByAll);
    expect(await everyCall(target, 'a/new/d', 'a/')).toEqual(refusedByAll);
    expect(treeOf(elsewhere).sort()).toEqual(['b/', 'b/c']);
    // What is not asked for is not looked at.
    await target.put('log/1', body());
    expect(await keysOf(target, 'log/')).toEqual(['log/1']);
    expect(await keysOf(target, 'a0')).toEqual([]);
  });

  test('nor may a link lead nowhere, nor a pipe be a directory', async () => {
    symlinkSync(join(folder, 'Nowhere'), join(folder, 'a'));
    expect(await everyCall(new FileTarget(folder), 'a/b', '')).toEqual(refusedByAll);
    rmSync(join(folder, 'a'));
    execFileSync('mkfifo', [join(folder, 'a')]);
    expect(await everyCall(new FileTarget(folder), 'a/b', '')).toEqual(refusedByAll);
  });

  test('an object is no folder, and a folder no object: a put that would need it is refused, all else is absent', async () => {
    const target = new FileTarget(folder);
    await target.put('a', body());
    await target.put('b/c', body());
    for (const createOnly of [false, true]) {
      for (const key of ['a/b', 'a/b/c', 'b']) {
        await expect(target.put(key, body(), { createOnly }), key).rejects.toMatchObject({ code: 'INVALID_KEY' });
      }
    }
    for (const key of ['a/b', 'a/b/c', 'b']) {
      await expect(target.get(key)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' });
      expect(await target.stat(key)).toBeUndefined();
      await target.delete(key);
    }
    expect(await keysOf(target)).toEqual(['a', 'b/c']);
    expect(await keysOf(target, 'a/')).toEqual([]);
  });

  test('the folder itself may be a link to a directory, but to nothing else', async () => {
    mkdirSync(join(folder, 'there'));
    symlinkSync(join(folder, 'there'), join(folder, 'link'));
    const target = new FileTarget(join(folder, 'link'));
    await target.put('a/b', body());
    expect(await keysOf(target)).toEqual(['a/b']);
    expect(
      treeOf(join(folder, 'there'))
        .filter((path) => !path.startsWith(RESERVED))
        .sort(),
    ).toEqual(['a/', 'a/b']);
    symlinkSync(join(folder, 'gone'), join(folder, 'dangling'));
    expect(await everyCall(new FileTarget(join(folder, 'dangling')), 'a', '')).toEqual(refusedByAll);
    writeFileSync(join(folder, 'file'), '');
    expect(await everyCall(new FileTarget(join(folder, 'file')), 'a', '')).toEqual(refusedByAll);
  });

  test('neither is a pipe, and nobody waits for its other end', async () => {
    execFileSync('mkfifo', [join(folder, 'a')]);
    await expect(new FileTarget(folder).get('a')).rejects.toMatchObject({ code: 'TARGET_ERROR' });
  });
});

test('an object that is cut short while it is read is an error, not a short answer', async () => {
  const target = new FileTarget(folder);
  await target.put('a', body(3_000_000));
  const outcomes = new Set<string>();
  for (let round = 0; round < 50; round++) {
    await writeFile(join(folder, 'a'), body(3_000_000));
    await Promise.all([
      target.get('a').then(
        (bytes) => expect([0, 3_000_000]).toContain(bytes.length),
        (error: { code: string }) => outcomes.add(error.code),
      ),
      truncate(join(folder, 'a'), 0),
    ]);
  }
  expect([...outcomes].every((code) => code === 'TARGET_ERROR')).toBe(true);
});

describe('bodies of 2 GiB and more', () => {
  const GIB = 1024 ** 3;
  // Never touched, so it takes up no memory.
  const huge = () => new Uint8Array(2 * GIB + 5);

  test('are read in pieces, however short the system’s answers are', async () => {
    const calls: number[][] = [];
    const read = async (_into: unknown, at: number, length: number, offset: number) => {
      calls.push([at, length, offset]);
      return { bytesRead: calls.length === 1 ? length - 7 : length };
    };
    expect(await readFully({ read } as never, huge(), 100)).toBe(2 * GIB + 5);
    expect(calls).toEqual([
      [0, GIB, 100],
      [GIB - 7, GIB, GIB + 93],
      [2 * GIB - 7, 12, 2 * GIB + 93],
    ]);
  });

  test('are written in pieces', async () => {
    const calls: number[][] = [];
    const write = async (_from: unknown, at: number, length: number, offset: number) => {
      calls.push([at, length, offset]);
      return { bytesWritten: calls.length === 1 ? length - 7 : length };
    };
    await writeFully({ write } as never, huge(), 2 * GIB + 5);
    expect(calls).toEqual([
      [0, GIB, 0],
      [GIB - 7, GIB, GIB - 7],
      [2 * GIB - 7, 12, 2 * GIB - 7],
    ]);
  });

  test('are told of as they are written', async () => {
    const target = new FileTarget(folder);
    const sent: number[] = [];
    await target.put('a', body(3 * 1024 ** 2 + 5), { onSent: (bytes) => sent.push(bytes) });
    expect(sent.length).toBeGreaterThan(3);
    expect(sent.reduce((sum, bytes) => sum + bytes, 0)).toBe(3 * 1024 ** 2 + 5);
    expect((await target.stat('a'))?.size).toBe(3 * 1024 ** 2 + 5);
  });

  test('that are larger than memory are OBJECT_TOO_LARGE', async () => {
    const target = new FileTarget(folder);
    await target.put('a', body());
    await truncate(join(folder, 'a'), 2 ** 43);
    await expect(target.get('a')).rejects.toMatchObject({ code: 'OBJECT_TOO_LARGE', retryable: false });
    const range = { offset: 2 ** 31 - 2, length: 4 };
    expect(await target.get('a', { range })).toEqual(new Uint8Array(4));
  });
});

test.skipIf(process.platform !== 'linux')(
  'names are made durable up to the folder’s own, whoever made it: its own once, the directories below with each put',
  async () => {
    const handle = await open(folder, 'r');
    const prototype = Object.getPrototypeOf(handle);
    await handle.close();
    const synced: string[] = [];
    const sync = prototype.sync;
    const spy = vi.spyOn(prototype, 'sync').mockImplementation(function (this: { fd: number }) {
      synced.push(readlinkSync(`/proc/self/fd/${this.fd}`));
      return sync.call(this);
    });
    try {
      const parent = await realpath(folder);
      const made = join(parent, 'made');
      const reserved = join(made, RESERVED);
      mkdirSync(join(made, 'a'), { recursive: true });
      const target = new FileTarget(made);
      await target.put('a/b', body());
      const directories = () => synced.filter((path) => !/put-[^/]*$/.test(path));
      expect(new Set(directories())).toEqual(new Set([reserved, parent, made, join(made, 'a')]));
      expect(directories().slice(-2)).toEqual([join(made, 'a'), made]);
      expect(synced.length - directories().length).toBe(1);
      synced.length = 0;
      await target.put('a/b', body());
      expect(directories()).toEqual([join(made, 'a'), made]);
    } finally {
      spy.mockRestore();
    }
  },
);

test('a process killed at any moment leaves whole objects, each as it was before a put or after it', async () => {
  for (let round = 0; round < 8; round++) {
    const writer = fork(join(import.meta.dirname, 'support/put-forever.ts'), [folder, String(round)], {
      silent: true,
      execArgv,
    });
    const exited = once(writer, 'exit');
    // It reports after each put; killed upon some report, it is somewhere within the next ones.
    let reports = 0;
    writer.on('message', () => {
      if (++reports === 3 + round * 2) writer.kill('SIGKILL');
    });
    const [, signal] = await exited;
    expect(signal).toBe('SIGKILL');
    const target = new FileTarget(folder);
    const listed = await keysOf(target);
    expect(listed.every((key) => KEYS.includes(key))).toBe(true);
    for (const key of listed) {
      const bytes = await target.get(key);
      expect(Buffer.compare(bytes, bodyOf(bytes[0] ?? 0)), `${key} after ${reports} puts`).toBe(0);
    }
    await target.put('after/the/crash', bodyOf(1));
    await target.delete('after/the/crash');
  }
}, 60_000);

test('two processes that create one object: one wins', async () => {
  const racers = [0, 1, 2, 3].map((seed) =>
    fork(join(import.meta.dirname, 'support/put-forever.ts'), [folder, String(seed), 'create'], {
      silent: true,
      execArgv,
    }),
  );
  const wins = await Promise.all(
    racers.map(async (racer) => {
      const [won] = (await once(racer, 'message')) as [number[]];
      await once(racer, 'exit');
      return won;
    }),
  );
  const winners = wins.flat();
  expect(winners.length).toBe(20);
  expect(new Set(winners).size).toBe(20);
});

describe('errors of the system', () => {
  function systemError(code: string): Error {
    return Object.assign(new Error(code), { code });
  }

  test.each([
    ['ENOSPC', 'NO_SPACE', false],
    ['EDQUOT', 'NO_SPACE', false],
    ['EACCES', 'PERMISSION_DENIED', false],
    ['EPERM', 'PERMISSION_DENIED', false],
    ['EROFS', 'READ_ONLY', false],
    ['EFBIG', 'OBJECT_TOO_LARGE', false],
    ['EMFILE', 'TARGET_UNAVAILABLE', true],
    ['ETIMEDOUT', 'TARGET_TIMEOUT', true],
    ['EIO', 'TARGET_ERROR', false],
  ])('%s is %s', (system, code, retryable) => {
    const cause = systemError(system);
    expect(fileError(cause, 'put')).toMatchObject({ code, retryable, cause });
  });

  test('what is no error of the system stays as it is', () => {
    const error = new TypeError('x');
    expect(fileError(error, 'put')).toBe(error);
  });

  test('a folder that is a file is TARGET_ERROR', async () => {
    writeFileSync(join(folder, 'file'), '');
    const error = {
      code: 'TARGET_ERROR',
      message: expect.stringMatching(/file is a file, and a target needs a folder: pass the path/),
    };
    await expect(new FileTarget(join(folder, 'file')).put('a', body())).rejects.toMatchObject(error);
  });

  const mounted = process.platform === 'linux' && process.getuid?.() === 0;
  test.skipIf(!mounted)('a full file system is NO_SPACE, and what was there stays', async (context) => {
    const mount = join(folder, 'small');
    mkdirSync(mount);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', mount], { stdio: 'ignore' });
    } catch {
      return context.skip('this container may not mount');
    }
    try {
      const target = new FileTarget(mount);
      await target.put('a', body(100_000));
      await expect(target.put('a', body(400_000))).rejects.toMatchObject({ code: 'NO_SPACE', retryable: false });
      expect(await target.get('a')).toEqual(body(100_000));
      expect(readdirSync(mount).sort()).toEqual([RESERVED, 'a']);
      expect(readdirSync(join(mount, RESERVED))).toHaveLength(1);
      // Full to the last page, what makes room still works.
      const fill = await open(join(mount, 'Fill'), 'w');
      await expect(fill.writeFile(body(400_000))).rejects.toThrow('ENOSPC');
      await fill.close();
      writeFileSync(join(mount, RESERVED, `put-${'0'.repeat(16)}-1-1-${'a'.repeat(32)}`), '');
      expect(await target.removeLeftovers({ olderThanMs: 0 })).toEqual({ count: 1, bytes: 0 });
      expect(await target.removeLeftovers()).toEqual({ count: 0, bytes: 0 });
      await target.storeTime();
      await target.delete('a');
      await target.put('b', body());
    } finally {
      execFileSync('umount', [mount]);
    }
  });
});

test('a folder without a name is a TypeError', () => {
  expect(() => new FileTarget('')).toThrow(TypeError);
});
