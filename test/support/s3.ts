import { randomBytes } from 'node:crypto';
import { Client } from 'minio';
import { inject } from 'vitest';
import type { S3Endpoint } from './s3-endpoint.ts';

/** The S3 server of this run, `null` where there is none: `describe.skipIf(s3 === null)`. */
export const s3: S3Endpoint | null = inject('s3');

/** A client of that server. */
export function s3Client(): Client {
  if (s3 === null) throw new Error('this run has no S3 server; skip what needs one');
  return new Client({ ...s3, region: 'us-east-1' });
}

/** Makes a bucket that nobody else uses and tells its name. */
export async function freshBucket(client: Client): Promise<string> {
  const bucket = `cow-test-${randomBytes(8).toString('hex')}`;
  await client.makeBucket(bucket, 'us-east-1');
  return bucket;
}
