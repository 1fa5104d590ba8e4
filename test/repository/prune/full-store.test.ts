import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { RESERVE_BYTES } from '../../../src/repository/context/reserve.ts';
import { RESERVE_KEY } from '../../../src/repository/format/object-keys.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { QuotaTarget } from '../../support/quota-target.ts';
import { randomBytes } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { BLOCK, contentOfBackup, createIn, openIn, openVolume } from '../support/repositories.ts';

const AT_ONCE = { graceMs: 0, repackBelow: 0 } as const;

/** Backs a volume up, each time with half of its blocks new, until the store refuses. */
async function fill(repository: BackupRepository): Promise<string[]> {
  const { volume } = await openVolume(64);
  const ids: string[] = [];
  for (;;) {
    for (let block = ids.length % 2; block < 64; block += 2) await volume.write(block * BLOCK, randomBytes(BLOCK));
    try {
      ids.push((await repository.backup(volume, { volume: 'a' })).id);
    } catch (error) {
      expect(error).toEqual(withCode('NO_SPACE'));
      return ids;
    }
  }
}

/** Takes every byte that is left, in ever smaller objects. */
async function stuff(target: CloudTarget): Promise<void> {
  let count = 0;
  for (let bytes = 2 ** 18; bytes >= 1; bytes >>>= 1) {
    for (;;) {
      try {
        await target.put(`filler/${count++}`, new Uint8Array(randomBytes(bytes)));
      } catch (error) {
        expect(error).toEqual(withCode('NO_SPACE'));
        break;
      }
    }
  }
}

describe('a store that is full', () => {
  async function fullStore() {
    const target = new QuotaTarget(new MemoryTarget(), 6 * 2 ** 20);
    const repository = await createIn(target);
    await repository.prune(); // Makes the reserve.
    expect((await target.stat(RESERVE_KEY))?.size).toBe(RESERVE_BYTES);
    const ids = await fill(repository);
    await stuff(target);
    expect(target.usedBytes).toBe(target.quotaBytes);
    return { target, repository, ids };
  }

  const refusals = [
    ['PERMISSION_DENIED', false],
    ['OBJECT_TOO_LARGE', false],
    ['CREDENTIALS_REFUSED', true],
    ['TARGET_UNREACHABLE', true],
  ] as const;
  test.each(refusals)('and one that answers %s to the reserve: whether prune rejects is %s', async (code, rejects) => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { put } = target;
    target.put = async (key, ...rest) => {
      if (key === RESERVE_KEY) throw new BackupError(code, 'injected');
      return put.call(target, key, ...rest);
    };
    const outcome = repository.prune().then(
      () => false,
      (error: unknown) => BackupError.is(error, code),
    );
    expect(await outcome).toBe(rejects);
    expect(await target.stat(RESERVE_KEY)).toBeUndefined();
  });

  test('is freed by forget and prune, which use the reserve, and gets a new one', async () => {
    const { target, repository, ids } = await fullStore();
    await repository.forget([ids[0] as string]); // Its entry goes in the place of the reserve.
    expect(await target.stat(RESERVE_KEY)).toBeUndefined();
    let freed = 0;
    for (let n = 1; (await target.stat(RESERVE_KEY)) === undefined && n < ids.length; n++) {
      freed += (await repository.prune(AT_ONCE)).freedBytes;
      await repository.forget([ids[n] as string]);
    }
    expect(freed).toBeGreaterThan(0);
    expect((await target.stat(RESERVE_KEY))?.size).toBe(RESERVE_BYTES);
    const { volume, device } = await openVolume(8);
    const { id } = await repository.backup(volume, { volume: 'b' });
    await using other = await openIn(target);
    expect(Buffer.compare(await contentOfBackup(other, id), device.bytes)).toBe(0);
  });

  test('is freed by a retention policy, and by a prune of another process', async () => {
    const { target, repository } = await fullStore();
    const used = target.usedBytes;
    await repository.applyRetention({ keepLast: 1 }, { volume: 'a' });
    await using other = await openIn(target);
    const { freedBytes, repackedPacks } = await other.prune(AT_ONCE);
    expect(freedBytes).toBeGreaterThan(2 ** 20);
    expect(repackedPacks).toBe(0);
    expect(target.usedBytes).toBeLessThan(used);
    expect((await Array.fromAsync(other.listBackups())).length).toBe(1);
  });

  test('without a reserve frees what is condemned before it writes anything', async () => {
    const target = new QuotaTarget(new MemoryTarget(), 6 * 2 ** 20);
    await using repository = await createIn(target);
    await target.put('filler/room', new Uint8Array(randomBytes(2 ** 16)));
    const ids = await fill(repository);
    await target.delete('filler/room');
    await repository.forget(ids.slice(0, 4));
    const { condemnedBytes } = await repository.prune({ repackBelow: 0, reserveBytes: 0 });
    expect(condemnedBytes).toBeGreaterThan(0);
    await stuff(target);
    expect(await target.stat(RESERVE_KEY)).toBeUndefined();
    const { freedBytes } = await repository.prune({ ...AT_ONCE, reserveBytes: 0 });
    expect(freedBytes).toBe(condemnedBytes);
  });

  test('without a reserve and with nothing condemned says so at once, and nothing is half done', async () => {
    const target = new QuotaTarget(new MemoryTarget(), 6 * 2 ** 20);
    await using repository = await createIn(target);
    const ids = await fill(repository);
    await stuff(target);
    await expect(repository.forget([ids[0] as string])).rejects.toEqual(withCode('NO_SPACE'));
    await expect(repository.applyRetention({ keepLast: 1 }, { volume: 'a' })).rejects.toThrow('free some space');
    expect((await Array.fromAsync(repository.listBackups())).length).toBe(ids.length);
    target.quotaBytes += 64 * 1024; // The way out of docs/guides/retention.md.
    await repository.forget(ids.slice(0, -1));
    expect((await repository.prune(AT_ONCE)).freedBytes).toBeGreaterThan(0);
  });

  test('loses the cache before it gives up', async () => {
    const { target, repository, ids } = await fullStore();
    await target.delete(RESERVE_KEY);
    // Whatever it is a cache of: a later version may have put it there.
    const caches = ['cache/verified', 'cache/content-index/1'];
    for (const key of caches) await target.put(key, new Uint8Array(32 * 1024));
    await stuff(target);
    await repository.forget([ids[0] as string]);
    for (const key of caches) expect(await target.stat(key), key).toBeUndefined();
  });

  test('is no reason to fail for a prune that has nothing to write', async () => {
    const { repository } = await fullStore();
    await repository.prune({ ...AT_ONCE, fenceAfterMs: 0, keepFencedMs: 0 });
    await expect(repository.prune(AT_ONCE)).resolves.toMatchObject({ condemnedBytes: 0 });
  });
});

test('a disk that is full is freed', async (context) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'cow-full-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'none', folder], { stdio: 'ignore' });
  } catch {
    rmSync(folder, { recursive: true });
    context.skip('a small tmpfs can not be mounted here: it takes root');
  }
  try {
    const target = new FileTarget(path.join(folder, 'backups'));
    await using repository = await createIn(target);
    await repository.prune();
    const ids = await fill(repository);
    await stuff(target);
    await repository.forget(ids.slice(0, -1));
    const { freedBytes } = await repository.prune(AT_ONCE);
    expect(freedBytes).toBeGreaterThan(2 ** 20);
    expect((await target.stat(RESERVE_KEY))?.size).toBe(RESERVE_BYTES);
    const { volume } = await openVolume(8);
    const { id } = await repository.backup(volume, { volume: 'b' });
    await using other = await openIn(new FileTarget(path.join(folder, 'backups')));
    expect((await other.latestBackup('b'))?.id).toBe(id);
    expect((await other.verify({ depth: 'data' })).ok).toBe(true);
  } finally {
    execFileSync('umount', ['-l', folder]);
    rmSync(folder, { recursive: true });
  }
});
