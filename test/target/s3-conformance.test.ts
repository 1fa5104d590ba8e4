import { beforeAll, describe } from 'vitest';
import { S3Target } from '../../src/target/s3-target.ts';
import { conforms } from '../support/conforms.ts';
import { freshBucket, s3, s3Client } from '../support/s3.ts';

describe.skipIf(s3 === null)('S3Target on a real gateway', () => {
  let bucket: string;
  beforeAll(async () => {
    bucket = await freshBucket(s3Client());
  });
  describe('at the root of a bucket', () => conforms(() => new S3Target({ client: s3Client(), bucket })));
  describe('under a prefix, with checksums asked for', () =>
    conforms(() => new S3Target({ client: s3Client(), bucket, prefix: 'Backups of/host (1)', checksums: true })));
});
