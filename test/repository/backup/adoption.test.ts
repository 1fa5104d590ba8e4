import { describe, expect, test, vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { BackupJob } from '../../../src/repository/backup/backup-job.ts';
import type { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { parseLogKey } from '../../../src/repository/format/object-keys.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { expectSame } from '../../volume/support/bytes.ts';
import {
  BLOCK,
  contentOfBackup,
  createIn,
  notedTarget,
  openIn,
  openVolume,
  until,
  writeBlock,
} from '../support/repositories.ts';
import { WithoutChecksums } from '../verify/support/damaging.ts';
import { interrupted } from './support/interrupted.ts';

vi.mock('../../../src/common/clock.ts', () => import('../histories/support/hasty-clock.ts'));

/** L12: what a dead backup has uploaded is not uploaded again. */

const isPack = (call: string) => call.startsWith('put packs/');

async function expectSound(repository: BackupRepository, backups: number): Promise<void> {
  expect(await Array.fromAsync(repository.listBackups())).toHaveLength(backups);
  expect(await repository.verify({ depth: 'data' })).toMatchObject({ ok: true, damaged: [] });
}

describe.each([false, true])('encrypted: %s', (isEncrypted) => {
  test('a first backup goes on where the one before it died', async () => {
    const { target, calls } = notedTarget();
    await (await createIn(target, isEncrypted)).close();
    const { device, volume } = await openVolume(200);
    await interrupted(target, { disk: volume }, 6, isEncrypted);
    const repository = await openIn(target, isEncrypted);
    calls.length = 0;
    const result = await repository.backup(volume, { volume: 'disk' });
    expect(result.warnings).toEqual([]);
    expect(result.adoptedBytes).toBeGreaterThan(6 * 14 * BLOCK);
    const all = Math.ceil(result.uploadedBytes / (64 * 1024));
    expect(calls.filter(isPack).length).toBeLessThanOrEqual(all - 5);
    expectSame(await contentOfBackup(repository, result.id), device.bytes);
    await expectSound(repository, 1);
    // The next one looks for nothing any more.
    await writeBlock(volume, 7);
    calls.length = 0;
    const next = await repository.backup(volume, { volume: 'disk' });
    expect(next).toMatchObject({ adoptedBytes: 0, requests: 4 });
    expect(calls.filter((call) => call.startsWith('list packs/'))).toEqual([]);
    expectSame(await contentOfBackup(repository, next.id), device.bytes);
  });

  test('those that die one after the other are adopted all', async () => {
    const target = new MemoryTarget();
    await (await createIn(target, isEncrypted)).close();
    const { device, volume } = await openVolume(200);
    for (let died = 0; died < 3; died++) await interrupted(target, { disk: volume }, 3, isEncrypted);
    const repository = await openIn(target, isEncrypted);
    const { id, adoptedBytes } = await repository.backup(volume, { volume: 'disk' });
    expect(adoptedBytes).toBeGreaterThan(9 * 14 * BLOCK);
    expectSame(await contentOfBackup(repository, id), device.bytes);
    await expectSound(repository, 1);
  });

  test('what has been written since is stored anew', async () => {
    const target = new MemoryTarget();
    await (await createIn(target, isEncrypted)).close();
    const { device, volume } = await openVolume(100);
    await interrupted(target, { disk: volume }, 3, isEncrypted);
    for (const block of [1, 8, 22, 31]) await writeBlock(volume, block);
    await volume.write(12 * BLOCK, new Uint8Array(BLOCK));
    const repository = await openIn(target, isEncrypted);
    const { id, adoptedBytes } = await repository.backup(volume, { volume: 'disk' });
    expect(adoptedBytes).toBeGreaterThan(0);
    expectSame(await contentOfBackup(repository, id), device.bytes);
    await expectSound(repository, 1);
  });

  test('a group is adopted by a backup of one of its volumes, and then by one of the other', async () => {
    const { target, calls } = notedTarget();
    await (await createIn(target, isEncrypted)).close();
    const [one, two] = [await openVolume(100), await openVolume(100)];
    await interrupted(target, { one: one.volume, two: two.volume }, 8, isEncrypted);
    const repository = await openIn(target, isEncrypted);
    for (const [volume, of] of [
      ['one', one],
      ['two', two],
    ] as const) {
      const { id, adoptedBytes } = await repository.backup(of.volume, { volume });
      expect(adoptedBytes).toBeGreaterThan(2 * 14 * BLOCK);
      expectSame(await contentOfBackup(repository, id), of.device.bytes);
      await writeBlock(of.volume, 3);
      calls.length = 0;
      const later = await repository.backup(of.volume, { volume });
      expect(later.adoptedBytes).toBe(0);
      expect(calls.filter((call) => !call.endsWith('-c'))).toHaveLength(4);
    }
    await expectSound(repository, 4);
  });

  test('a group that died is adopted by the same group', async () => {
    const target = new MemoryTarget();
    await (await createIn(target, isEncrypted)).close();
    const [one, two] = [await openVolume(60), await openVolume(60)];
    await interrupted(target, { one: one.volume, two: two.volume }, 5, isEncrypted);
    const repository = await openIn(target, isEncrypted);
    const { jobs, done } = await repository.startGroup([
      { source: one.volume, volume: 'one' },
      { source: two.volume, volume: 'two' },
    ]);
    for (const job of jobs) job.sweep();
    const results = await done;
    for (const [index, { id, adoptedBytes, uploadedBytes }] of results.entries()) {
      expect(adoptedBytes).toBeGreaterThan(0);
      expect(uploadedBytes).toBeGreaterThanOrEqual(adoptedBytes);
      expectSame(await contentOfBackup(repository, id), [one, two][index]!.device.bytes);
    }
    await expectSound(repository, 2);
  });

  test('a pack that is damaged is not used, wherever it is damaged', async () => {
    const target = new MemoryTarget();
    await (await createIn(target, isEncrypted)).close();
    const { device, volume } = await openVolume(100);
    await interrupted(target, { disk: volume }, 4, isEncrypted);
    const packs = await Array.fromAsync(target.list('packs/'));
    const places = [100, -5, -20, -600];
    for (const [index, { key }] of packs.entries()) {
      const bytes = Uint8Array.from(await target.get(key));
      const at = places[index] as number;
      bytes[at < 0 ? bytes.length + at : at]! ^= 1;
      await target.put(key, bytes);
    }
    await target.put(packs[0]!.key.replace(/.{32}$/, 'f'.repeat(32)), new Uint8Array(3));
    await target.put(packs[0]!.key.replace(/.{32}$/, 'no-pack-at-all'), new Uint8Array(3));
    const repository = await openIn(target, isEncrypted);
    const result = await repository.backup(volume, { volume: 'disk' });
    expect(result).toMatchObject({ adoptedBytes: 0, warnings: [] });
    expectSame(await contentOfBackup(repository, result.id), device.bytes);
    await expectSound(repository, 1);
  });

  test('a store without digests is not asked for them, and the packs are not read', async () => {
    const { target, calls } = notedTarget();
    const plain = new WithoutChecksums(target);
    await (await createIn(plain, isEncrypted)).close();
    const { device, volume } = await openVolume(200);
    await interrupted(plain, { disk: volume }, 6, isEncrypted);
    const repository = await openIn(plain, isEncrypted);
    calls.length = 0;
    const { id, adoptedBytes } = await repository.backup(volume, { volume: 'disk' });
    expect(adoptedBytes).toBeGreaterThan(6 * 14 * BLOCK);
    expect(calls.filter((call) => call.startsWith('stat '))).toEqual([]);
    expect(calls.filter((call) => call.startsWith('get packs/'))).toHaveLength(6);
    expectSame(await contentOfBackup(repository, id), device.bytes);
    await expectSound(repository, 1); // The digests in its commit are right.
  });
});

test('what lies in folders of others is not adopted', async () => {
  const target = new MemoryTarget();
  await (await createIn(target)).close();
  const [one, two] = [await openVolume(100), await openVolume(100)];
  two.device.bytes.set(one.device.bytes);
  await interrupted(target, { one: one.volume }, 3);
  await interrupted(target, { two: two.volume }, 1);
  const repository = await openIn(target);
  const { id, adoptedBytes } = await repository.backup(two.volume, { volume: 'two' });
  expect(adoptedBytes).toBeLessThan(16 * BLOCK);
  expectSame(await contentOfBackup(repository, id), two.device.bytes);
  await expectSound(repository, 1);
});

test.each([
  ['is suspended', (job: BackupJob) => job.suspend()],
  ['is ended by its signal', (_job: BackupJob, stopping: AbortController) => stopping.abort()],
  ['has its snapshot closed', (job: BackupJob) => job.snapshot.close()],
  ['has its repository closed', (_job: BackupJob, _stopping: AbortController, of: BackupRepository) => of.close()],
])('a backup that %s leaves its uploads to the next one, on any host', async (_name, end) => {
  const target = new MemoryTarget();
  const repository = await createIn(target);
  const { device, volume } = await openVolume(200);
  const stopping = new AbortController();
  const job = await repository.startBackup(volume, { volume: 'disk', signal: stopping.signal });
  job.sweep();
  await until(() => job.states.counts.stored > 50);
  await end(job, stopping, repository);
  await job.done.catch(() => {});
  await repository.close();
  const opened = await openIn(target, false, { owner: 'another host' });
  expect(await Array.fromAsync(opened.listSessions())).toEqual([]);
  const { id, adoptedBytes } = await opened.backup(volume, { volume: 'disk' });
  expect(adoptedBytes).toBeGreaterThan(0);
  expectSame(await contentOfBackup(opened, id), device.bytes);
  await expectSound(opened, 1);
});

test('a backup that fails leaves its uploads to the next one, but where the store is full', async () => {
  for (const code of ['ACCESS_DENIED', 'NO_SPACE'] as const) {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { volume } = await openVolume(200);
    const { put } = target;
    let packs = 0;
    target.put = async (key, ...rest) => {
      if (key.startsWith('packs/') && ++packs > 4) throw new BackupError(code, 'not this one');
      await put.call(target, key, ...rest);
    };
    await expect(repository.backup(volume, { volume: 'disk' })).rejects.toMatchObject({ code });
    await repository.close();
    target.put = put;
    const opened = await openIn(target);
    const { adoptedBytes } = await opened.backup(volume, { volume: 'disk' });
    expect(adoptedBytes > 0, code).toBe(code !== 'NO_SPACE');
  }
});

test('what an aborted backup has uploaded is not adopted', async () => {
  const target = new MemoryTarget();
  const repository = await createIn(target);
  const { volume } = await openVolume(100);
  const job = await repository.startBackup(volume, { volume: 'disk' });
  job.sweep();
  await until(() => job.states.counts.stored > 20);
  await job.cancel();
  await repository.close();
  const opened = await openIn(target);
  expect(await opened.backup(volume, { volume: 'disk' })).toMatchObject({ adoptedBytes: 0 });
});

test('of a budget it takes a half at most, and the backup goes on without it', async () => {
  const target = new MemoryTarget();
  await (await createIn(target)).close();
  const { device, volume } = await openVolume(200);
  await interrupted(target, { disk: volume }, 8);
  const repository = await openIn(target);
  const estimate = await repository.estimate({ backup: { source: volume, volume: 'disk' } });
  expect(estimate.gets).toBeGreaterThanOrEqual(8 * 2 + 2);
  const { id, adoptedBytes, warnings } = await repository.backup(volume, { volume: 'disk', budget: { gets: 10 } });
  expect(warnings).toEqual([]);
  expect(adoptedBytes).toBeLessThan(4 * 14 * BLOCK);
  expectSame(await contentOfBackup(repository, id), device.bytes);
});

test('what can not be listed is stored again, and the result says why', async () => {
  const target = new MemoryTarget();
  await (await createIn(target)).close();
  const { device, volume } = await openVolume(100);
  await interrupted(target, { disk: volume }, 4);
  const { list } = target;
  target.list = (prefix, options) => {
    if (prefix.startsWith('packs/')) throw new BackupError('ACCESS_DENIED', 'listing packs is not allowed');
    return list.call(target, prefix, options);
  };
  const repository = await openIn(target);
  const { id, adoptedBytes, warnings } = await repository.backup(volume, { volume: 'disk' });
  expect(adoptedBytes).toBe(0);
  expect(warnings.map(({ code }) => code)).toEqual(['ACCESS_DENIED']);
  expectSame(await contentOfBackup(repository, id), device.bytes);
});

test('an adopter that sleeps until what it adopted is deleted, and its entries are too, commits nothing', async () => {
  const target = new MemoryTarget();
  await (await createIn(target)).close();
  const { device, volume } = await openVolume(60);
  await interrupted(target, { disk: volume }, 2);
  const [sleeping, awake] = [await openIn(target), await openIn(target)];
  const slow = await sleeping.startBackup(volume, { volume: 'disk' });
  const taker = await awake.startBackup(volume, { volume: 'disk', base: 'none', takeOver: true });
  const ids = [(await taker.sweep().done).id];
  for (let n = 0; n < 24; n++) {
    await writeBlock(volume, n);
    ids.push((await awake.backup(volume, { volume: 'disk' })).id);
  }
  await awake.forget(ids.slice(0, -1));
  const AT_ONCE = { graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0, repackBelow: 1, minRepackGainBytes: 0 };
  for (let run = 0; run < 3; run++) await awake.prune(AT_ONCE);
  const entries = (await Array.fromAsync(target.list('log/'))).filter(({ key }) => !key.endsWith('-c'));
  const oldest = Math.min(...entries.map(({ key }) => parseLogKey(key)?.seq as number));
  expect(oldest).toBeGreaterThan(20); // Those of the sleeper are gone.
  await expect(slow.sweep().done).rejects.toMatchObject({ name: 'BackupError' });
  expectSame(await contentOfBackup(awake, ids.at(-1) as string), device.bytes);
  await expectSound(awake, 1);
});

test('a lazy backup that needs no look commits without it, and ends it', async () => {
  const target = new MemoryTarget();
  await (await createIn(target)).close();
  const { device, volume } = await openVolume(60);
  await interrupted(target, { disk: volume }, 2);
  const signals: (AbortSignal | undefined)[] = [];
  const { list } = target;
  target.list = (prefix, options) => {
    if (!prefix.startsWith('packs/')) return list.call(target, prefix, options);
    signals.push(options?.signal);
    return (async function* () {
      yield await new Promise<never>(() => {});
    })();
  };
  const repository = await openIn(target);
  const job = await repository.startBackup(volume, { volume: 'disk' });
  const frozen = device.bytes.slice();
  await volume.write(0, new Uint8Array(volume.size).fill(0x55));
  const { id, adoptedBytes } = await job.done;
  expect(adoptedBytes).toBe(0);
  expect(signals.map((signal) => signal?.aborted)).toEqual([true]);
  expectSame(await contentOfBackup(repository, id), frozen);
});

test('a writer that was taken over, and then its taker: the last one adopts both', async () => {
  const target = new MemoryTarget();
  await (await createIn(target)).close();
  const { device, volume } = await openVolume(100);
  await interrupted(target, { disk: volume }, 3);
  const [first, second] = [await openIn(target), await openIn(target)];
  const slow = await first.startBackup(volume, { volume: 'disk' });
  const taker = await second.startBackup(volume, { volume: 'disk', takeOver: true });
  const { id, adoptedBytes } = await taker.sweep().done;
  expect(adoptedBytes).toBeGreaterThan(2 * 14 * BLOCK);
  await expect(slow.sweep().done).rejects.toMatchObject({ code: 'SESSION_FENCED' });
  expectSame(await contentOfBackup(second, id), device.bytes);
  await expectSound(second, 1);
});

test('a fault at any request of a backup that adopts', async () => {
  const { volume, device } = await openVolume(60);
  const kinds = ['fail-before', 'fail-after'] as const;
  const faultAt = async (kind: (typeof kinds)[number], index: number) => {
    const store = new MemoryTarget();
    await (await createIn(store)).close();
    await interrupted(store, { disk: volume }, 2);
    let calls = Number.NEGATIVE_INFINITY;
    const target = new FaultyTarget(store, { next: () => (calls++ === index ? { kind } : undefined) });
    const repository = await openIn(target);
    calls = 0;
    const { id, adoptedBytes } = await repository.backup(volume, { volume: 'disk' });
    expect(adoptedBytes).toBeGreaterThan(0);
    expectSame(await contentOfBackup(await openIn(store), id), device.bytes);
    return calls;
  };
  const requests = await faultAt('fail-before', -1);
  for (const kind of kinds) for (let index = 0; index < requests; index++) await faultAt(kind, index);
});
