import { execFileSync } from 'node:child_process';
import { mkdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, type TestContext, test, vi } from 'vitest';
import { writtenLater } from '../../../src/targets/file/file-tags.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { targetConformance } from '../../../src/testing/target-conformance.ts';
import { folderForTest } from '../../support/folders.ts';

const body = (fill = 7, length = 64) => new Uint8Array(length).fill(fill);

let folder: string;
beforeEach(async () => {
  folder = await folderForTest();
});

afterEach(() => vi.restoreAllMocks());

const mayMount = process.platform === 'linux' && process.getuid?.() === 0;

function run(program: string, ...args: string[]): void {
  execFileSync(program, args, { stdio: 'pipe' });
}

/** Runs `work` with a file system that is mounted on a folder, or skips the test where that can't be done. */
async function mounted(
  context: TestContext,
  commands: readonly string[][],
  work: (at: string, remount: () => void) => Promise<void>,
): Promise<void> {
  const at = join(folder, 'mounted');
  mkdirSync(at, { recursive: true });
  const mount = commands.at(-1) as string[];
  try {
    for (const [program = '', ...args] of commands) run(program, ...args);
  } catch (error) {
    return context.skip(`it can't be mounted here: ${String(error).slice(0, 200)}`);
  }
  try {
    await work(at, () => {
      run('umount', at);
      run(mount[0] as string, ...mount.slice(1));
    });
  } finally {
    run('umount', at);
  }
}

async function tagOf(target: FileTarget, key: string): Promise<string | undefined> {
  const [listed] = await Array.fromAsync(target.list(key));
  const info = await target.stat(key);
  expect(listed).toEqual(info);
  return info?.tag;
}

/** Runs the cases of the conformance suite about tags. @returns how many were skipped */
async function conforms(open: () => FileTarget): Promise<number> {
  let skipped = 0;
  const cases = targetConformance({ open: async () => open() }).filter(({ name }) => /\btag\b|ifTag/.test(name));
  expect(cases.length).toBe(5);
  for (const { run } of cases) await run({ skip: () => void skipped++ });
  return skipped;
}

/** Some of the conformance suite: a disk that is mounted from a file is slow. */
async function giveTags(target: FileTarget): Promise<void> {
  const tags = new Set<unknown>();
  for (let round = 0; round < 6; round++) {
    const { tag } = (await target.put('a', body(round))) as { tag?: string };
    expect(await tagOf(target, 'a')).toBe(tag);
    tags.add(tag);
    if (round % 2 === 0) await target.delete('a'); // On ext4, the next file has the same inode.
  }
  expect(tags.has(undefined)).toBe(false);
  expect(tags.size).toBe(6);
}

const image = () => join(folder, 'disk.img');
const point = () => join(folder, 'mounted');
const disk = (size: string, ...mkfs: string[]) => [
  ['truncate', '-s', size, image()],
  [...mkfs, image()],
  ['mount', '-o', 'loop', image(), point()],
];

describe.skipIf(!mayMount)('objects in a folder', () => {
  test.for<[string, () => string[][]]>([
    ['ext4', () => disk('16M', 'mkfs.ext4', '-q')],
    ['XFS', () => disk('320M', 'mkfs.xfs', '-q')],
    ['Btrfs', () => disk('128M', 'mkfs.btrfs', '-q')],
  ])('on %s have tags, and keep them when the disk is mounted again', ([, commands], context) =>
    mounted(context, commands(), async (path, remount) => {
      await giveTags(new FileTarget(path));
      const { tag } = (await new FileTarget(path).put('packs/a', body())) as { tag?: string };
      expect(tag).toMatch(/./);
      remount();
      const target = new FileTarget(path);
      expect(await tagOf(target, 'packs/a')).toBe(tag);
      expect(await target.get('packs/a', { ifTag: tag })).toEqual(body());
    }),
  );

  test('on tmpfs have tags', (context) =>
    mounted(context, [['mount', '-t', 'tmpfs', 'tmpfs', point()]], async (path) => {
      expect(await conforms(() => new FileTarget(path))).toBe(0);
    }));

  test.for<[string, () => string[][]]>([
    ['ext4 with times in seconds', () => disk('16M', 'mkfs.ext4', '-q', '-I', '128')],
    [
      'an overlay, whose inodes may be others when it is mounted again',
      () => {
        const [lower, upper, work] = ['lower', 'upper', 'work'].map((name) => join(folder, name)) as [
          string,
          string,
          string,
        ];
        const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
        return [
          ['mkdir', lower, upper, work],
          ['mount', '-t', 'overlay', 'overlay', '-o', options, point()],
        ];
      },
    ],
  ])('on %s have none, and no get finds one', ([, commands], context) =>
    mounted(context, commands(), async (path) => {
      expect(await conforms(() => new FileTarget(path))).toBe(5);
      const target = new FileTarget(path);
      expect(await target.put('a', body())).toEqual({});
      expect(await tagOf(target, 'a')).toBeUndefined();
      await expect(target.get('a', { ifTag: '1-1-1' })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
      expect(await target.get('a')).toEqual(body());
    }),
  );

  test('on another file system than the folder have none', (context) => {
    mkdirSync(join(folder, 'mounted'), { recursive: true });
    return mounted(context, [['mount', '-t', 'tmpfs', 'tmpfs', point()]], async (path) => {
      const target = new FileTarget(folder);
      await target.put('a', body());
      writeFileSync(join(path, 'b'), body());
      expect(await tagOf(target, 'mounted/b')).toBeUndefined();
    });
  });
});

/** Whether folders of this system have tags: its temporary folder may be on any file system. */
async function target(): Promise<FileTarget | undefined> {
  const target = new FileTarget(folder);
  const stored = (await target.put('a', body())) as { tag?: string };
  return stored.tag === undefined ? undefined : target;
}

test('a file that another program writes to is another object: the same length, and the same name', async (context) => {
  const tagged = await target();
  if (tagged === undefined) return context.skip('this file system gives no tags');
  const before = await tagOf(tagged, 'a');
  expect(await tagged.get('a', { ifTag: before })).toEqual(body());
  writeFileSync(join(folder, 'a'), body(8)); // The same inode.
  expect(await tagOf(tagged, 'a')).not.toBe(before);
  await expect(tagged.get('a', { ifTag: before })).rejects.toMatchObject({
    code: 'OBJECT_CHANGED',
    retryable: false,
    message: expect.stringContaining('object a'),
  });
});

test('a file that another program writes to while it is read is another object', async (context) => {
  const tagged = await target();
  if (tagged === undefined) return context.skip('this file system gives no tags');
  const handle = await open(join(folder, 'a'), 'r');
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  const { read } = prototype;
  vi.spyOn(prototype, 'read').mockImplementation(async function (this: unknown, ...args) {
    const result = await read.apply(this, args);
    writeFileSync(join(folder, 'a'), body(8));
    return result;
  });
  const before = await tagOf(tagged, 'a');
  await expect(tagged.get('a', { ifTag: before })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
  expect(await tagged.get('a')).toEqual(body(8));
});

test('the time of an object is later than the creation of its file, also of an empty one', async (context) => {
  const tagged = await target();
  if (tagged === undefined) return context.skip('this file system gives no tags');
  for (const length of [0, 64]) {
    await tagged.put('b', body(7, length));
    const { birthtimeNs, mtimeNs } = statSync(join(folder, 'b'), { bigint: true });
    if (birthtimeNs === 0n) return context.skip('this file system keeps no time of creation');
    expect(mtimeNs).toBeGreaterThan(birthtimeNs);
  }
});

test('a file whose time is in whole seconds, as copying tools set it, has no tag', async (context) => {
  const tagged = await target();
  if (tagged === undefined) return context.skip('this file system gives no tags');
  const before = await tagOf(tagged, 'a');
  utimesSync(join(folder, 'a'), 1_700_000_000, 1_700_000_000);
  expect(statSync(join(folder, 'a'), { bigint: true }).mtimeNs % 1_000_000_000n).toBe(0n);
  expect(await tagOf(tagged, 'a')).toBeUndefined();
  await expect(tagged.get('a', { ifTag: before })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
});

test('a file is written to until its time is later than its creation, when the clock has ticked', async () => {
  // As before Linux 6.13, where all that happens within a tick has one time.
  const [created, tick] = [1_700_000_000_004_000_000n, 4_000_000n];
  const fileOf = (writesPerTick: number, from: bigint) => {
    let writes = 0;
    const status = () => ({ size: 64n, mtimeNs: from + tick * BigInt(Math.floor(writes / writesPerTick)) });
    return {
      lengths: [] as (number | undefined)[],
      stat: async () => status() as never,
      async truncate(length?: number) {
        this.lengths.push(length);
        writes++;
      },
    };
  };
  const slow = fileOf(3, created);
  await writtenLater(slow, { mtimeNs: created } as never);
  expect(slow.lengths).toEqual([64, 64, 64]);
  const later = fileOf(3, created + 1n);
  await writtenLater(later, { mtimeNs: created } as never);
  expect(later.lengths).toEqual([]);
  // A file system that rounds to seconds gives no tags, and nothing is waited for.
  const rounded = fileOf(3, 1_700_000_000_000_000_000n);
  await writtenLater(rounded, { mtimeNs: 1_700_000_000_000_000_000n } as never);
  expect(rounded.lengths).toEqual([]);
  const stuck = fileOf(1000, created);
  await writtenLater(stuck, { mtimeNs: created } as never);
  expect(stuck.lengths.length).toBeLessThan(100);
});
