import { Agent } from 'node:http';
import { Client } from 'minio';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { deleteAll } from '../../../src/targets/delete-all.ts';
import { S3Target } from '../../../src/targets/s3/s3-target.ts';
import { keysOf } from '../../support/keys-of.ts';
import { freshBucket, s3, s3Client } from '../../support/s3.ts';
import { bytes } from '../decorators/support/targets.ts';

describe.skipIf(s3 === null)('on a real gateway', () => {
  let bucket: string;
  beforeAll(async () => {
    bucket = await freshBucket(s3Client());
  });

  test('a missing bucket is BUCKET_NOT_FOUND to every call, and never an absent object', async () => {
    const target = new S3Target({ client: s3Client(), bucket: 'cow-test-no-such-bucket' });
    const missing = { code: 'BUCKET_NOT_FOUND', retryable: false };
    await expect(target.put('a', bytes(1))).rejects.toMatchObject(missing);
    await expect(target.put('a', bytes(1), { createOnly: true })).rejects.toMatchObject(missing);
    await expect(target.get('a')).rejects.toMatchObject(missing);
    await expect(target.get('a', { range: { offset: 0, length: 0 } })).rejects.toMatchObject(missing);
    await expect(target.stat('a')).rejects.toMatchObject(missing);
    await expect(target.delete('a')).rejects.toMatchObject(missing);
    await expect(target.deleteMany(['a'])).rejects.toMatchObject(missing);
    await expect(keysOf(target)).rejects.toMatchObject(missing);
  });

  test('credentials that the server does not know or believe are refused, and are not in the error', async () => {
    const wrong = { ...(s3 as NonNullable<typeof s3>), region: 'us-east-1' };
    const clients = [
      new Client({ ...wrong, secretKey: 'a-secret-that-is-not-the-right-one' }),
      new Client({ ...wrong, accessKey: 'nobodyknowsme' }),
    ];
    for (const client of clients) {
      const target = new S3Target({ client, bucket });
      for (const work of [() => target.put('a', bytes(1)), () => target.get('a'), () => keysOf(target)]) {
        const error = await work().catch((reason: unknown) => reason);
        expect(error).toMatchObject({ code: 'CREDENTIALS_REFUSED', retryable: false });
        expect(JSON.stringify(error) + String(error)).not.toMatch(/not-the-right-one|nobodyknowsme/);
      }
      // HEAD has no body to say which it is.
      await expect(target.stat('a')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    }
  });

  test('a bucket of somebody else is PERMISSION_DENIED, and its objects are not "absent"', async () => {
    const { endPoint, port } = s3 as NonNullable<typeof s3>;
    // Nobody's, since requests without a signature are somebody else's.
    const nobody = {
      region: 'us-east-1',
      presignedUrl: async (_method: string, of: string, name: string) => `http://${endPoint}:${port}/${of}/${name}`,
    };
    const target = new S3Target({ client: nobody, bucket });
    await expect(target.get('a')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await expect(target.stat('a')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await expect(target.put('a', bytes(1))).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  });

  test('two prefixes of one bucket see nothing of each other', async () => {
    const one = new S3Target({ client: s3Client(), bucket, prefix: 'one' });
    const other = new S3Target({ client: s3Client(), bucket, prefix: 'on' });
    await one.put('a', bytes(1));
    await other.put('b', bytes(2));
    expect(await keysOf(one)).toEqual(['a']);
    expect(await keysOf(other)).toEqual(['b']);
    expect(await other.stat('a')).toBeUndefined();
    await deleteAll(one, ['a']);
    expect(await keysOf(one)).toEqual([]);
    expect(await other.get('b')).toEqual(bytes(2));
  });

  test('a client without credentials is CREDENTIALS_REFUSED before anything is sent', async () => {
    const client = new Client({ ...(s3 as NonNullable<typeof s3>), accessKey: '', secretKey: '' });
    const target = new S3Target({ client, bucket });
    await expect(target.get('a')).rejects.toMatchObject({
      code: 'CREDENTIALS_REFUSED',
      message: expect.stringMatching(/no credentials/),
    });
  });

  test('a clock that is hours behind is CLOCK_SKEWED, and no matter of credentials', async () => {
    const target = new S3Target({ client: s3Client(), bucket, prefix: 'clock' });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 5 * 3_600_000 });
    try {
      for (const work of [() => target.put('a', bytes(1)), () => target.stat('a'), () => keysOf(target)]) {
        await expect(work()).rejects.toMatchObject({
          code: 'CLOCK_SKEWED',
          retryable: false,
          message: expect.stringMatching(/set it/),
        });
      }
    } finally {
      vi.useRealTimers();
    }
    await target.put('a', bytes(1));
  });

  test('the time of the store is that of its answers', async () => {
    const target = new S3Target({ client: s3Client(), bucket, prefix: 'time' });
    const time = await target.storeTime();
    expect(Math.abs(Number(time) - Date.now())).toBeLessThan(10_000);
  });

  test('a client without a region asks the bucket', async () => {
    const target = new S3Target({
      client: new Client({ ...(s3 as NonNullable<typeof s3>) }),
      bucket,
      prefix: 'region',
    });
    await target.put('a', bytes(1));
    expect(await target.get('a')).toEqual(bytes(1));
  });

  test('requests that come one after the other use one connection', async () => {
    const agent = new Agent({ keepAlive: true });
    const sockets = new Set<unknown>();
    agent.on('free', (socket) => sockets.add(socket));
    const target = new S3Target({ client: s3Client(), bucket, prefix: 'connections', agent });
    for (let round = 0; round < 5; round++) {
      await target.put('a', bytes(1));
      await target.get('a');
      await target.stat('absent');
      await target.get('absent').catch(() => {});
      await target.put('a', bytes(1), { createOnly: true }).catch(() => {});
      await target.delete('a');
    }
    expect(sockets.size).toBeGreaterThan(0);
    expect(sockets.size).toBeLessThan(4);
    agent.destroy();
  });

  test('16 writers, 20 times over: one wins each', async () => {
    const targets = Array.from({ length: 16 }, () => new S3Target({ client: s3Client(), bucket, prefix: 'race' }));
    for (let round = 0; round < 20; round++) {
      const puts = targets.map((target, writer) =>
        target.put(`log/${round}`, bytes(writer, round), { createOnly: true }),
      );
      const outcomes = await Promise.allSettled(puts);
      const winners = outcomes.flatMap(({ status }, writer) => (status === 'fulfilled' ? [writer] : []));
      expect(winners).toHaveLength(1);
      expect(await targets[0]?.get(`log/${round}`)).toEqual(bytes(winners[0] ?? 0, round));
    }
  });

  describe('with versioning', () => {
    const versioned = async () => {
      const name = await freshBucket(s3Client());
      await s3Client().setBucketVersioning(name, { Status: 'Enabled' });
      return name;
    };
    const versionsIn = async (of: string) => {
      const names: string[] = [];
      for await (const { name, isDeleteMarker } of s3Client().listObjects(of, '', true, { IncludeVersion: true })) {
        names.push(`${name}${isDeleteMarker ? ' (deleted)' : ''}`);
      }
      return names.sort();
    };

    test('deleting keeps what was there, which the capabilities say', async () => {
      const of = await versioned();
      const target = new S3Target({ client: s3Client(), bucket: of });
      expect(target.capabilities.versioned).toBe(false);
      await target.put('a', bytes(1));
      expect(target.capabilities.versioned).toBe(true);
      await target.put('b', bytes(1));
      await target.delete('a');
      await target.deleteMany(['b']);
      expect(await keysOf(target)).toEqual([]);
      expect(await versionsIn(of)).toEqual(['a', 'a (deleted)', 'b', 'b (deleted)']);
    });

    test.each<[string, (target: S3Target) => Promise<unknown>]>([
      ['get', (target) => target.get('a')],
      ['stat', (target) => target.stat('a')],
      ['delete', (target) => target.delete('a')],
      ['deleteMany', (target) => target.deleteMany(['a', 'b'])],
    ])('%s alone shows it', async (_name, call) => {
      const of = await versioned();
      await new S3Target({ client: s3Client(), bucket: of }).put('a', bytes(1));
      const target = new S3Target({ client: s3Client(), bucket: of });
      await call(target);
      expect(target.capabilities.versioned).toBe(true);
    });

    test('deleteVersions leaves nothing of an object, and all of others', async () => {
      const of = await versioned();
      const plain = new S3Target({ client: s3Client(), bucket: of });
      const target = new S3Target({ client: s3Client(), bucket: of, deleteVersions: true });
      for (const key of ['a', 'a', 'a', 'a-more', 'ab', 'b', 'b', 'c']) await plain.put(key, bytes(1));
      await plain.delete('b');
      await target.delete('a');
      await target.delete('absent');
      expect(await versionsIn(of)).toEqual(['a-more', 'ab', 'b', 'b', 'b (deleted)', 'c']);
      await target.deleteMany(['b', 'c', 'absent']);
      expect(await versionsIn(of)).toEqual(['a-more', 'ab']);
      expect(target.capabilities.versioned).toBe(false);
    });

    test('deleteVersions reads on past a page of versions', async () => {
      const of = await versioned();
      const target = new S3Target({ client: s3Client(), bucket: of, deleteVersions: true });
      for (let round = 0; round < 45; round++) {
        await Promise.all(Array.from({ length: 25 }, () => target.put('a', bytes(round))));
      }
      await target.put('a-more', bytes(1));
      await target.delete('a');
      expect(await versionsIn(of)).toEqual(['a-more']);
    });

    test('deleteVersions does the same in a bucket without versions', async () => {
      const of = await freshBucket(s3Client());
      const target = new S3Target({ client: s3Client(), bucket: of, deleteVersions: true });
      for (const key of ['a', 'a-more', 'b']) await target.put(key, bytes(1));
      await target.delete('a');
      await target.deleteMany(['b', 'absent']);
      expect(await keysOf(target)).toEqual(['a-more']);
    });
  });
});
