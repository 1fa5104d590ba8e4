import { type CloudTarget, FileTarget } from 'cow-cloud-backup';

/** The target that `--to` names: `s3://bucket/prefix`, or a folder. */
export async function openTarget(place: string): Promise<CloudTarget> {
  if (!place.startsWith('s3://')) return new FileTarget(place);
  const [bucket = '', ...prefix] = place.slice('s3://'.length).split('/');
  if (bucket === '') throw new Error('no bucket in --to; it goes --to s3://bucket/prefix');
  const endpoint = URL.parse(setting('S3_ENDPOINT'));
  if (endpoint === null || !/^https?:$/.test(endpoint.protocol)) {
    throw new Error(`S3_ENDPOINT is ${setting('S3_ENDPOINT')}; it must be a URL such as http://localhost:9000`);
  }
  const [{ S3Target }, { Client }] = await Promise.all([import('cow-cloud-backup/s3'), import('minio')]);
  const client = new Client({
    endPoint: endpoint.hostname,
    useSSL: endpoint.protocol === 'https:',
    ...(endpoint.port === '' ? {} : { port: Number(endpoint.port) }),
    ...(process.env.S3_REGION === undefined ? {} : { region: process.env.S3_REGION }),
    accessKey: setting('S3_ACCESS_KEY'),
    secretKey: setting('S3_SECRET_KEY'),
  });
  return new S3Target({ client, bucket, prefix: prefix.join('/') || undefined });
}

function setting(name: string): string {
  const value = process.env[name];
  if (value) return value;
  throw new Error(`--to s3://... needs ${name} in the environment (S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY)`);
}
