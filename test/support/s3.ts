import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'minio';
import { inject, test } from 'vitest';
import type { S3Announcement, S3Endpoint } from './s3-endpoint.ts';

/** The S3 server of this run, `null` where there is none: `describe.skipIf(s3 === null)`. */
export const s3: S3Endpoint | null = await endpoint();

/** Waits until the server of this run answers. One that cannot be started is announced as well, so that this ends. */
async function endpoint(): Promise<S3Endpoint | null> {
  const provided = inject('s3');
  if (provided === null || !('announcedIn' in provided)) return provided;
  while (!existsSync(provided.announcedIn)) await delay(50);
  const announcement: S3Announcement = JSON.parse(await readFile(provided.announcedIn, 'utf8'));
  if ('failure' in announcement) throw new Error(`the S3 gateway could not be started: ${announcement.failure}`);
  return announcement.endpoint;
}

/** A client of that server. */
export function s3Client(): Client {
  if (s3 === null) throw new Error('this run has no S3 server; skip what needs one');
  return new Client({ ...s3, region: 'us-east-1' });
}

/** Makes a bucket that nobody else uses and returns its name. */
export async function freshBucket(client: Client): Promise<string> {
  const bucket = `cow-test-${randomBytes(8).toString('hex')}`;
  await client.makeBucket(bucket, 'us-east-1');
  return bucket;
}

/** A test with a bucket of its own, which is removed afterwards. It is skipped where there is no S3 server. */
export function testOnS3(name: string, work: (client: Client, bucket: string) => Promise<void>): void {
  test.skipIf(s3 === null)(name, async () => {
    const client = s3Client();
    const bucket = await freshBucket(client);
    try {
      await work(client, bucket);
    } finally {
      await removeBucket(client, bucket);
    }
  });
}

async function removeBucket(client: Client, bucket: string): Promise<void> {
  const keys: string[] = [];
  for await (const { name } of client.listObjectsV2(bucket, '', true)) keys.push(name);
  await client.removeObjects(bucket, keys);
  await client.removeBucket(bucket);
}
