import { beforeAll, describe } from 'vitest';
import { S3Target } from '../../../src/targets/s3/s3-target.ts';
import { conforms } from '../../support/conforms.ts';
import { freshBucket, s3, s3Client } from '../../support/s3.ts';

describe.skipIf(s3 === null)('S3Target on a real gateway', () => {
  let bucket: string;
  beforeAll(async () => {
    bucket = await freshBucket(s3Client());
  });
  describe('at the root of a bucket', () => conforms(() => new S3Target({ client: s3Client(), bucket })));
  describe('under a prefix, with checksums asked for', () =>
    conforms(() => new S3Target({ client: s3Client(), bucket, prefix: 'Backups of/host (1)', checksums: true })));
  describe('in a bucket with versioning', () => {
    // Ceph 16 takes no notice of If-None-Match there, which a repository finds out by its probe. And a get beside puts of
    // the same key answers NoSuchKey at times; a repository never puts a key twice that it reads.
    const createOnly = false;
    const without = /an object that is being replaced|of puts of one key at once/;
    let versioned: string;
    beforeAll(async () => {
      versioned = await freshBucket(s3Client());
      await s3Client().setBucketVersioning(versioned, { Status: 'Enabled' });
    });
    describe('that keeps what is deleted', () =>
      conforms(() => new S3Target({ client: s3Client(), bucket: versioned, prefix: 'kept', createOnly }), without));
    describe('of which all versions are deleted', () =>
      conforms(
        () => new S3Target({ client: s3Client(), bucket: versioned, prefix: 'gone', createOnly, deleteVersions: true }),
        // Listings are the same as above.
        new RegExp(`${without.source}|a listing goes on past a thousand objects`),
      ));
  });
});
