import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { BackupProgress } from '../../../src/repository/backup/backup-job.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { randomBytes } from '../../support/randomness.ts';
import { errorOf, expectSame } from '../../volume/support/bytes.ts';
import {
  BLOCK,
  contentOfBackup,
  createIn,
  openIn,
  openVolume,
  SMALL,
  until,
  writeBlock,
} from '../support/repositories.ts';

vi.mock('../../../src/common/clock.ts', () => import('../histories/support/hasty-clock.ts'));

type Call = 'put' | 'get' | 'list' | 'lost put';

/** A target that can go away. `fails` says which calls fail; a lost put has happened all the same. */
function awayTarget(createOnly = true) {
  const target = new MemoryTarget({ createOnly });
  const away = { fails: (_call: Call, _key: string): boolean => false, failed: 0 };
  const check = (call: Call, key: string) => {
    if (!away.fails(call, key)) return;
    away.failed++;
    throw new BackupError('TARGET_UNREACHABLE', 'the network is gone', { retryable: true });
  };
  const { put, get, list } = target;
  target.put = async (key, ...rest) => {
    check('put', key);
    await put.call(target, key, ...rest);
    check('lost put', key);
  };
  target.get = async (key, options) => {
    check('get', key);
    return get.call(target, key, options);
  };
  target.list = (prefix, options) => {
    check('list', prefix);
    return list.call(target, prefix, options);
  };
  return { target, away };
}

type Away = ReturnType<typeof awayTarget>['away'];

/** Backs up `rounds` times, and each time the calls of one kind fail from a later one on, for longer than the log's own tries. */
async function backUpWhileAway(
  repository: BackupRepository,
  { device, volume }: Awaited<ReturnType<typeof openVolume>>,
  away: Away,
  what: Call,
  rounds: number,
): Promise<void> {
  for (let at = 0; at < rounds; at++) {
    await writeBlock(volume, 7 + at, randomBytes(BLOCK));
    let n = 0;
    away.fails = (call) => call === what && ++n > at && n < at + 25;
    const { id } = await repository.backup(volume, { volume: 'disk' });
    away.fails = () => false;
    expectSame(await contentOfBackup(repository, id), device.bytes);
  }
}

async function expectWhole(repository: BackupRepository, backups: number): Promise<void> {
  expect(await Array.fromAsync(repository.listBackups())).toHaveLength(backups);
  expect((await repository.verify({ depth: 'data' })).ok).toBe(true);
}

describe('a store that goes away', () => {
  test('while packs are on their way is waited for, and what was sent is kept', async () => {
    const { target, away } = awayTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume(100);
    let packs = 0;
    away.fails = (call, key) => call === 'put' && key.startsWith('packs/') && ++packs > 3 && packs < 30;
    const seen: BackupProgress[] = [];
    const job = await repository.startBackup(volume, { volume: 'disk', onProgress: (each) => seen.push(each) });
    const watching = Array.fromAsync(job.watch({ intervalMs: 0 }));
    const { id } = await job.sweep().done;
    expect(away.failed).toBeGreaterThan(10);
    expectSame(await contentOfBackup(repository, id), device.bytes);
    const waiting = (await watching).find(({ phase }) => phase === 'waiting');
    expect(waiting).toMatchObject({ status: 'sweeping', outage: { error: { code: 'TARGET_UNREACHABLE' } } });
    expect(waiting?.outage?.since).toBeInstanceOf(Date);
    expect(seen.at(-1)).toMatchObject({ phase: 'committed', outage: undefined });
  });

  test.each(['put', 'lost put', 'get', 'list'] as const)('at every request (%s) of an incremental', async (what) => {
    const { target, away } = awayTarget();
    const repository = await createIn(target);
    const opened = await openVolume(60);
    await repository.backup(opened.volume, { volume: 'disk' });
    await backUpWhileAway(repository, opened, away, what, 4);
    await expectWhole(await openIn(target), 5);
  });

  test.each(['put', 'lost put', 'list'] as const)('at every request (%s) of a single writer', async (what) => {
    const { target, away } = awayTarget(false);
    const options = { encryption: 'none', singleWriter: true, ...SMALL } as const;
    const repository = await BackupRepository.create(target, options);
    await backUpWhileAway(repository, await openVolume(60), away, what, 5);
    await expectWhole(await BackupRepository.open(target, { singleWriter: true, ...SMALL }), 5);
  });

  test('while the base is read', async () => {
    const { target, away } = awayTarget();
    const first = await createIn(target);
    const { device, volume } = await openVolume(300);
    await first.backup(volume, { volume: 'disk' });
    const second = await openIn(target); // Nothing of the map is in its memory.
    await volume.close();
    const again = await openVolume(300);
    again.device.bytes.set(device.bytes);
    await writeBlock(again.volume, 100);
    let reads = 0;
    away.fails = (call, key) => call === 'get' && key.startsWith('packs/') && ++reads < 20;
    const result = await second.backup(again.volume, { volume: 'disk' });
    expect(away.failed).toBe(19);
    expect(result.changeSource).toBe('compared');
    expectSame(await contentOfBackup(second, result.id), again.device.bytes);
  });

  test('for longer than outageMs fails the job; another try is a good one', async () => {
    const { target, away } = awayTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume();
    const packs = new Set<string>();
    away.fails = (call, key) => call === 'put' && key.startsWith('packs/') && packs.add(key) !== undefined;
    await errorOf(repository.backup(volume, { volume: 'disk', outageMs: 0 }), 'TARGET_UNREACHABLE');
    expect(packs.size).toBeGreaterThan(0);
    expect(away.failed).toBe(packs.size); // Two packs may be under way at once, and no put was repeated.
    expect(volume.snapshots).toEqual([]);
    away.fails = () => false;
    const { id } = await repository.backup(volume, { volume: 'disk' });
    expectSame(await contentOfBackup(repository, id), device.bytes);
  });

  test('is waited for until the job is cancelled or the repository closed, which need no network', async () => {
    const { target, away } = awayTarget();
    const repository = await createIn(target);
    const { volume } = await openVolume();
    away.fails = () => true;
    const starting = repository.startBackup(volume, { volume: 'disk', outageMs: Number.POSITIVE_INFINITY });
    starting.catch(() => {});
    await until(() => away.failed > 20);
    expect(volume.snapshots).toHaveLength(1);
    await repository.close();
    await errorOf(starting, 'CLOSED');
    expect(volume.snapshots).toEqual([]);
  });

  test('after the commit was sent: the outcome is learned, and there is one backup', async () => {
    const { target, away } = awayTarget();
    const repository = await createIn(target);
    const { device, volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    let lost = 0;
    away.fails = (call, key) => key.startsWith('log/') && (call !== 'put' || lost > 0) && ++lost < 40;
    const { id } = await job.sweep().done;
    expect(lost).toBeGreaterThanOrEqual(40);
    away.fails = () => false;
    const other = await openIn(target);
    expect((await Array.fromAsync(other.listBackups())).map((each) => each.id)).toEqual([id]);
    expectSame(await contentOfBackup(other, id), device.bytes);
  });

  test('for good after the commit was sent: its outcome is unknown, also to one who cancels', async () => {
    const { target, away } = awayTarget();
    const repository = await createIn(target);
    const { volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    let isSent = false;
    away.fails = (call, key) => {
      if (key.startsWith('log/') && call === 'lost put') isSent = true;
      return isSent;
    };
    job.sweep();
    await until(() => away.failed > 20);
    await job.cancel();
    await errorOf(job.done, 'COMMIT_UNKNOWN');
    expect(job.status).toBe('failed');
    away.fails = () => false;
    expect(await Array.fromAsync((await openIn(target)).listBackups())).toHaveLength(1);
  });
});

test('a job that is cancelled while its commit is sent for the first time does not say that nothing was committed', async () => {
  const { target, away } = awayTarget();
  const repository = await createIn(target);
  const { volume } = await openVolume();
  const job = await repository.startBackup(volume, { volume: 'disk' });
  let isSent = false;
  away.fails = (call, key) => {
    if (key.startsWith('log/') && call === 'lost put' && !isSent) {
      isSent = true;
      void job.cancel();
    }
    return isSent;
  };
  await errorOf(job.sweep().done, 'COMMIT_UNKNOWN');
  expect(job.status).toBe('failed');
  expect(away.failed).toBeLessThan(5); // The commit, once more, and what gives the session up.
  away.fails = () => false;
  expect(await Array.fromAsync((await openIn(target)).listBackups())).toHaveLength(1);
});

describe('a target that never answers', () => {
  test('when a cancelled job gives its session up keeps the log from nobody for long', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    const { put } = target;
    const asked = Promise.withResolvers<void>();
    target.put = () => {
      asked.resolve();
      return new Promise<never>(() => {});
    };
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    await job.cancel();
    await asked.promise;
    target.put = put;
    const next = repository.backup(volume, { volume: 'disk' });
    await vi.advanceTimersByTimeAsync(60_000);
    await vi.advanceTimersByTimeAsync(10_000);
    vi.useRealTimers();
    expect((await next).volume).toBe('disk');
  });

  test.each(['log/', 'packs/'])('and ignores its signal (%s): close ends what waits for it', async (prefix) => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { volume } = await openVolume();
    const { put, get } = target;
    let silent = 0;
    const answer = (key: string) => {
      if (!key.startsWith(prefix)) return undefined;
      silent++;
      return new Promise<never>(() => {});
    };
    target.put = (key, ...rest) => answer(key) ?? put.call(target, key, ...rest);
    target.get = (key, options) => answer(key) ?? get.call(target, key, options);
    const outcome = repository.backup(volume, { volume: 'disk' }).catch((error: unknown) => error);
    await until(() => silent > 0);
    await repository.close();
    expect(await outcome).toBeInstanceOf(Error);
    expect(volume.snapshots).toEqual([]);
  });
});
