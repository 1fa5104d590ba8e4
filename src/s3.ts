/**
 * Object stores that speak the S3 protocol, through the `minio` client.
 *
 * @packageDocumentation
 */

export type { S3Client } from './target/s3-connection.ts';
export { S3RequestError } from './target/s3-errors.ts';
export { S3Target, type S3TargetOptions } from './target/s3-target.ts';
