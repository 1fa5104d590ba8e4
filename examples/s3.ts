// Backs up to a bucket of S3, or of a server that speaks its protocol (MinIO, Ceph, R2), and restores from it.
// It needs `npm install minio@8`, and in the environment where the server is and who you are.
import { randomFillSync } from 'node:crypto';
import { BackupRepository, CopyOnWriteVolume, MemoryDevice, withRetries } from 'cow-cloud-backup';
import { S3Target } from 'cow-cloud-backup/s3';
import { Client } from 'minio';

const { S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY, S3_BUCKET, S3_REGION = 'us-east-1' } = process.env;
if (!S3_ENDPOINT || !S3_ACCESS_KEY || !S3_SECRET_KEY || !S3_BUCKET) {
  throw new Error('set S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY and S3_BUCKET in the environment');
}
const { hostname, port, protocol } = new URL(S3_ENDPOINT);
const client = new Client({
  endPoint: hostname,
  port: Number(port), // 0 is the protocol's own port.
  useSSL: protocol === 'https:',
  region: S3_REGION,
  accessKey: S3_ACCESS_KEY,
  secretKey: S3_SECRET_KEY,
});

// The bucket must exist. Many repositories can share it, each under a prefix of its own.
await using bucket = new S3Target({ client, bucket: S3_BUCKET, prefix: 'examples/s3' });
await using target = withRetries(bucket);
const encryption = { passphrase: 'correct horse battery staple' };
await using repository = await BackupRepository.open(target, { createIfMissing: { encryption } });
console.log(repository.wasCreated ? 'The repository was created.' : 'The repository was there already.');

await using device = new MemoryDevice(randomFillSync(new Uint8Array(4 * 1024 * 1024)));
await using volume = await CopyOnWriteVolume.open(device);
const backup = await repository.backup(volume, { volume: 'disk' });
console.log(`Backup ${backup.id}: uploaded ${backup.uploadedBytes} bytes in ${backup.requests} requests.`);

await using copy = new MemoryDevice(backup.size);
const { fetchedBytes } = await repository.restore(backup.id, copy, { deviceHolds: 'zeroes' });
const isEqual = Buffer.compare(copy.bytes, device.bytes) === 0;
console.log(`Restored from ${fetchedBytes} fetched bytes: the copy is ${isEqual ? 'equal' : 'DIFFERENT'}.`);
