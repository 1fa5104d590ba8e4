import { Client } from 'minio';
import { beforeAll, describe, expect, test } from 'vitest';
import { deleteAll } from '../../src/target/delete-all.ts';
import { S3Target } from '../../src/target/s3-target.ts';
import { freshBucket, s3, s3Client } from '../support/s3.ts';
import { bytes, keysOf } from './decorator-support.ts';

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
    const target = new S3Target({
      client: new Client({ ...(s3 as NonNullable<typeof s3>), accessKey: '', secretKey: '' }),
      bucket,
    });
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
    const sockets = new Set<unknown>();
    const client = s3Client();
    const { transport } = client as unknown as { transport: { request(...args: unknown[]): NodeJS.EventEmitter } };
    Object.assign(client, {
      transport: {
        request: (...args: unknown[]) => transport.request(...args).once('socket', (socket) => sockets.add(socket)),
      },
    });
    const target = new S3Target({ client, bucket, prefix: 'connections' });
    for (let round = 0; round < 5; round++) {
      await target.put('a', bytes(1));
      await target.get('a');
      await target.stat('absent');
      await target.get('absent').catch(() => {});
      await target.put('a', bytes(1), { createOnly: true }).catch(() => {});
      await target.delete('a');
    }
    expect(sockets.size).toBeLessThan(4);
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
});
