/**
 * Object stores that speak the S3 protocol, through the `minio` client.
 *
 * @packageDocumentation
 */

export type { S3Client } from './target/s3-client.ts';
export { S3RequestError } from './target/s3-errors.ts';
export type { S3TargetOptions } from './target/s3-options.ts';
export { S3Target } from './target/s3-target.ts';
