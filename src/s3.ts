/**
 * Object stores that speak the S3 protocol, through the `minio` client.
 *
 * @packageDocumentation
 */

export type { S3Client } from './targets/s3/s3-client.ts';
export { S3RequestError } from './targets/s3/s3-errors.ts';
export type { S3TargetOptions } from './targets/s3/s3-options.ts';
export { S3Target } from './targets/s3/s3-target.ts';
