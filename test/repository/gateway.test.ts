import { beforeAll, describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { BackupRepository } from '../../src/repository/backup-repository.ts';
import { withRetries } from '../../src/targets/decorators/with-retries.ts';
import { S3Target } from '../../src/targets/s3/s3-target.ts';
import { CopyOnWriteVolume } from '../../src/volume/copy-on-write-volume.ts';
import { randomBytes } from '../support/randomness.ts';
import { freshBucket, s3, s3Client } from '../support/s3.ts';
import { expectSame } from '../volume/support/bytes.ts';
import { contentOfBackup } from './support/repositories.ts';

describe.skipIf(s3 === null)('a repository on a real gateway', { timeout: 60_000 }, () => {
  let bucket: string;
  beforeAll(async () => {
    bucket = await freshBucket(s3Client());
  });
  const target = (prefix: string) => withRetries(new S3Target({ client: s3Client(), bucket, prefix }));
  const encryption = { passphrase: 'a passphrase' };

  test('from the first backup to the last prune', async () => {
    const bytes = new Uint8Array(8 * 1024 * 1024 + 1000);
    bytes.set(randomBytes(4 * 1024 * 1024), 1024 * 1024);
    const device = new MemoryDevice(bytes);
    await using volume = await CopyOnWriteVolume.open(device);
    await using repository = await BackupRepository.create(target('whole'), { encryption });
    const job = await repository.startBackup(volume, { volume: 'vm' });
    const frozen = bytes.slice();
    await volume.write(1024 * 1024, randomBytes(300_000));
    const first = await job.sweep().done;
    await volume.write(3 * 1024 * 1024, randomBytes(65536));
    const second = await repository.backup(volume, { volume: 'vm' });
    expect(second).toMatchObject({ changeSource: 'tracked', base: first.id, requests: 4 });
    const now = bytes.slice();

    await using other = await BackupRepository.open(target('whole'), { unlock: encryption });
    expectSame(await contentOfBackup(other, first.id), frozen);
    const copy = new MemoryDevice(bytes.length);
    await other.restore(first.id, copy);
    expectSame(copy.bytes, frozen);
    await other.restore(second.id, copy, { deviceHolds: first.id });
    expectSame(copy.bytes, now);
    expect(await other.verify({ depth: 'data' })).toMatchObject({ ok: true, damaged: [] });
    const { id: extra } = await repository.backup(volume, { volume: 'another', base: 'none' });
    await other.forget([first.id, extra]);
    const { freedBytes } = await other.prune({ graceMs: 0, minRepackGainBytes: 0, repackBelow: 0.99 });
    expect(freedBytes).toBeGreaterThan(0);
    // It has not heard of the prune.
    expectSame(await contentOfBackup(repository, second.id), now);
    expect((await Array.fromAsync(repository.listBackups())).map(({ id }) => id)).toEqual([second.id]);
    const slot = await repository.keys.add({ key: new Uint8Array(32).fill(1) });
    await using third = await BackupRepository.open(target('whole'), { unlock: { key: new Uint8Array(32).fill(1) } });
    expectSame(await contentOfBackup(third, second.id), now);
    await repository.keys.remove(slot);
  });

  describe('in a bucket with versioning', () => {
    async function pruned(deleteVersions: boolean) {
      const client = s3Client();
      const versioned = await freshBucket(client);
      await client.setBucketVersioning(versioned, { Status: 'Enabled' });
      // Ceph 16 takes no notice of If-None-Match there.
      await using repository = await BackupRepository.create(
        new S3Target({ client, bucket: versioned, deleteVersions }),
        { encryption: 'none', singleWriter: true },
      );
      await using volume = await CopyOnWriteVolume.open(new MemoryDevice(new Uint8Array(randomBytes(1024 * 1024))));
      const { id } = await repository.backup(volume, { volume: 'vm' });
      await repository.forget([id]);
      const result = await repository.prune({ graceMs: 0 });
      let bytesInPacks = 0;
      for await (const { size } of client.listObjects(versioned, 'packs/', true, { IncludeVersion: true })) {
        bytesInPacks += size ?? 0;
      }
      return { result, bytesInPacks };
    }

    test('prune says that nothing was freed, and how much the store keeps', async () => {
      const { result, bytesInPacks } = await pruned(false);
      expect(result.freedBytes).toBe(0);
      expect(result.keptAsVersionsBytes).toBeGreaterThan(1024 * 1024);
      expect(result.keptAsVersionsBytes).toBe(bytesInPacks);
    });

    test('with deleteVersions it frees what it says', async () => {
      const { result, bytesInPacks } = await pruned(true);
      expect(result.freedBytes).toBeGreaterThan(1024 * 1024);
      expect(result.keptAsVersionsBytes).toBe(0);
      expect(bytesInPacks).toBe(0);
    });
  });
});
