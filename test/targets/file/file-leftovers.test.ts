import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { fanOut } from '../../../src/targets/decorators/fan-out.ts';
import { readOnlyTarget } from '../../../src/targets/decorators/read-only.ts';
import { withRetries } from '../../../src/targets/decorators/with-retries.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { RESERVED } from '../../../src/targets/file/object-path.ts';
import { writerProcess } from '../../../src/targets/file/unfinished-files.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { folderForTest } from '../../support/folders.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const body = (length = 3) => new Uint8Array(length).fill(7);
const digits = (digit: string) => digit.repeat(32);

let folder: string;
let reserved: string;
beforeEach(async () => {
  folder = await folderForTest();
  reserved = join(folder, RESERVED);
});

function leave(name: string, ageMs = 0): void {
  mkdirSync(reserved, { recursive: true });
  writeFileSync(join(reserved, name), 'half');
  const then = new Date(Date.now() - ageMs);
  utimesSync(join(reserved, name), then, then);
}

const unfinished = () => readdirSync(reserved).filter((name) => name.startsWith('put-'));

describe('what a killed writer left', () => {
  test.skipIf(process.platform !== 'linux')(
    'is removed at once when it died on this machine, and counted first',
    async () => {
      let left = 0;
      mkdirSync(reserved);
      for (let round = 0; left === 0 && round < 20; round++) {
        const writer = fork(join(import.meta.dirname, 'support/put-forever.ts'), [folder, String(round)], {
          silent: true,
          execArgv: ['--experimental-strip-types', '--no-warnings'],
        });
        const exited = once(writer, 'exit');
        await once(writer, 'message');
        // Killed when its file is seen: whether it is there still is what the loop is for.
        for (let look = 0; look < 10_000 && left === 0; look++) left = unfinished().length;
        writer.kill('SIGKILL');
        await exited;
        left = unfinished().length;
      }
      expect(left).toBe(1);
      const target = new FileTarget(folder);
      expect(await target.removeLeftovers({ dryRun: true })).toMatchObject({ count: 1 });
      expect(await readOnlyTarget(target).removeLeftovers?.({ dryRun: true })).toMatchObject({ count: 1 });
      await expect(readOnlyTarget(target).removeLeftovers?.()).rejects.toMatchObject({ code: 'READ_ONLY' });
      expect(unfinished()).toHaveLength(1);
      expect(await withRetries(target).removeLeftovers?.()).toMatchObject({ count: 1 });
      expect(unfinished()).toEqual([]);
      expect(await target.removeLeftovers()).toEqual({ count: 0, bytes: 0 });
    },
  );

  test.skipIf(process.platform !== 'linux')(
    'is told from what a living one writes, also where the process id is used again',
    async () => {
      const own = writerProcess();
      if (own === undefined) throw new Error('no /proc here');
      const { namespace, pid, startedAt } = own;
      const alive = `put-${namespace}-${pid}-${startedAt}-${digits('a')}`;
      leave(alive, 400 * DAY_MS);
      leave(`put-${namespace}-${pid}-${Number(startedAt) - 1}-${digits('b')}`); // The same id, as in a container that restarts.
      leave(`put-${namespace}-4194304-1-${digits('c')}`); // No such process.
      leave(`put-${'0'.repeat(16)}-${pid}-${startedAt}-${digits('d')}`); // Another machine, or container.
      const target = new FileTarget(folder);
      expect(await target.removeLeftovers()).toEqual({ count: 2, bytes: 8 });
      expect(unfinished()).toEqual([`put-${'0'.repeat(16)}-${pid}-${startedAt}-${digits('d')}`, alive]);
      expect(await target.removeLeftovers({ olderThanMs: 0 })).toEqual({ count: 1, bytes: 4 });
      expect(unfinished()).toEqual([alive]);
    },
  );

  test('goes by age where nothing is known of its writer, and by the file system’s clock', async () => {
    leave(`put-${digits('a')}`, DAY_MS + 60_000);
    leave(`put-${digits('b')}`, DAY_MS - 60_000);
    leave('put-something-else', 2 * DAY_MS);
    vi.spyOn(Date, 'now').mockReturnValue(0); // This machine's clock is decades behind.
    try {
      expect(await new FileTarget(folder).removeLeftovers()).toEqual({ count: 1, bytes: 4 });
    } finally {
      vi.restoreAllMocks();
    }
    expect(unfinished()).toEqual([`put-${digits('b')}`, 'put-something-else']);
    expect(await new FileTarget(folder).removeLeftovers({ olderThanMs: 60_000 })).toEqual({ count: 1, bytes: 4 });
  });

  test('goes with the first put of an instance, and is never listed', async () => {
    leave(`put-${digits('a')}`, 2 * DAY_MS);
    leave(`put-${digits('b')}`);
    const target = new FileTarget(folder);
    expect(await Array.fromAsync(target.list(''))).toEqual([]);
    await target.put('packs/1', body());
    expect(unfinished()).toEqual([`put-${digits('b')}`]);
  });

  test('is removed from every member of a fan-out', async () => {
    leave(`put-${digits('a')}`, 2 * DAY_MS);
    const targets = [new FileTarget(folder), new MemoryTarget()] as const;
    expect(await fanOut(targets[0], [targets[1], new FileTarget(folder)]).removeLeftovers?.()).toEqual({
      count: 1,
      bytes: 4,
    });
  });

  test('is nothing after a put that failed or was refused', async () => {
    const target = new FileTarget(folder);
    await target.put('a', body());
    await expect(target.put('a', body(), { createOnly: true })).rejects.toMatchObject({ code: 'OBJECT_EXISTS' });
    await expect(target.put('a/b', body())).rejects.toMatchObject({ code: 'INVALID_KEY' });
    expect(unfinished()).toEqual([]);
  });

  test('is not removed with options that are none: a TypeError', async () => {
    const target = new FileTarget(folder);
    for (const options of [{ olderThanMs: -1 }, { dryrun: true }, { dryRun: 1 }]) {
      await expect(target.removeLeftovers(options as never)).rejects.toThrow(TypeError);
    }
  });
});

test.each([false, true])(
  'a put whose unfinished file somebody removes writes it again (createOnly: %s)',
  async (createOnly) => {
    const target = new FileTarget(folder);
    await target.put('first', body());
    const handle = await open(join(folder, 'first'), 'r');
    const prototype = Object.getPrototypeOf(handle);
    await handle.close();
    const sync = prototype.sync;
    let removed = 0;
    const spy = vi.spyOn(prototype, 'sync').mockImplementation(async function (this: unknown) {
      await sync.call(this);
      if (removed++ > 0) return;
      for (const name of unfinished()) rmSync(join(reserved, name));
    });
    try {
      await target.put('packs/a', body(100_000), { createOnly });
    } finally {
      spy.mockRestore();
    }
    expect(readFileSync(join(folder, 'packs/a'))).toEqual(Buffer.from(body(100_000)));
    expect(unfinished()).toEqual([]);
  },
);
