import type { Agent } from 'node:http';
import { booleanArgument, described, integerArgument, optionsArgument, textArgument } from '../../common/arguments.ts';
import { clientArgument, type S3Client } from './s3-client.ts';

/** Options of {@link S3Target}. @public */
export interface S3TargetOptions {
  /**
   * A client of `minio` 8 (`npm install minio@8`), or what signs as it does. It is used as it is, never changed and never
   * closed: it signs the URL of each request, for 15 minutes, with credentials that its provider keeps fresh.
   */
  client: S3Client;
  /** The bucket's name. It must be there; it is never made. */
  bucket: string;
  /**
   * Put before every key, as a folder: a `/` is added unless it ends in one. At most 500 characters of printable ASCII.
   * @defaultValue none
   */
  prefix?: string | undefined;
  /**
   * How long nothing may be heard of the server in the course of a request, in milliseconds from 1 to 2^31 - 1. Every
   * byte either way starts it anew. `TARGET_TIMEOUT` after that. @defaultValue 30_000
   */
  requestTimeoutMs?: number | undefined;
  /**
   * How long one request may take from its beginning to its end, in milliseconds from 1 to 2^31 - 1, also of a server
   * that is never silent for long. `TARGET_TIMEOUT` after that.
   * @defaultValue ten minutes, and one second more for each 64,000 bytes that are sent or may be answered
   */
  totalTimeoutMs?: number | undefined;
  /**
   * Send SHA-256 checksums with bodies, for the server to check and keep, and check what it answers against them.
   * Amazon S3, MinIO and Ceph from version 19 keep them. Where a server ignores them or refuses the request the puts go on
   * without, and `capabilities.checksums` turns false. Content-MD5 guards a body on its way wherever checksums don't.
   * @defaultValue false
   */
  checksums?: boolean | undefined;
  /** `false` for a server that is known to ignore `If-None-Match` on PUT. @defaultValue true */
  createOnly?: boolean | undefined;
  /**
   * In a bucket with versioning, delete all versions of an object when it is deleted, which takes a request more for each.
   * Otherwise the store keeps what is deleted until a lifecycle rule of the bucket removes it, and deleting frees nothing.
   * @defaultValue false
   */
  deleteVersions?: boolean | undefined;
  /**
   * Node's agent for the connections: for a proxy, a certificate authority or a client certificate of one's own. The agent
   * and the request options of the `minio` client are not used. Of `node:https` where the client has `useSSL`.
   * @defaultValue Node's global agent, which keeps connections alive
   */
  agent?: Agent | undefined;
}

/** The options with their defaults. */
export interface S3Settings {
  readonly client: S3Client;
  readonly bucket: string;
  /** Empty, or with a `/` at its end. */
  readonly prefix: string;
  readonly silenceMs: number;
  readonly totalMs: number | undefined;
  readonly checksums: boolean;
  readonly createOnly: boolean;
  readonly deleteVersions: boolean;
  readonly agent: Agent | undefined;
}

const KNOWN = {
  client: true,
  bucket: true,
  prefix: true,
  requestTimeoutMs: true,
  totalTimeoutMs: true,
  checksums: true,
  createOnly: true,
  deleteVersions: true,
  agent: true,
} as const;
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** @throws `TypeError` for an option that is missing, unknown or out of range */
export function s3Settings(options: S3TargetOptions): S3Settings {
  if (options === undefined) throw new TypeError('options must name a client and a bucket');
  const given = optionsArgument('options', options, KNOWN);
  const { requestTimeoutMs = 30_000, totalTimeoutMs: totalMs } = given;
  const client = clientArgument('options.client', given.client);
  const bucket = bucketArgument(given.bucket);
  const silenceMs = integerArgument('options.requestTimeoutMs', requestTimeoutMs, 1, MAX_TIMEOUT_MS);
  if (totalMs !== undefined) integerArgument('options.totalTimeoutMs', totalMs, 1, MAX_TIMEOUT_MS);
  return {
    client,
    bucket,
    prefix: prefixArgument(given.prefix),
    silenceMs,
    totalMs,
    checksums: booleanArgument('options.checksums', given.checksums === undefined ? false : given.checksums),
    createOnly: booleanArgument('options.createOnly', given.createOnly === undefined ? true : given.createOnly),
    deleteVersions: booleanArgument(
      'options.deleteVersions',
      given.deleteVersions === undefined ? false : given.deleteVersions,
    ),
    agent: agentArgument(given.agent),
  };
}

function bucketArgument(bucket: unknown): string {
  const name = textArgument('options.bucket', bucket);
  // As the client has it: it signs nothing for other names.
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(name) || name.includes('..')) {
    const rule = '3 to 63 of a-z 0-9 . -, with a letter or a digit at both ends';
    throw new TypeError(`options.bucket must be the name of a bucket (${rule}), not ${described(name)}`);
  }
  return name;
}

function prefixArgument(prefix: string | undefined): string {
  if (prefix === undefined || prefix === '') return '';
  const path = textArgument('options.prefix', prefix).replace(/\/$/, '');
  const segments = path.split('/');
  if (path.length > 500 || !/^[\x20-\x7e]+$/.test(path) || segments.some((s) => s === '' || s === '.' || s === '..')) {
    throw new TypeError('options.prefix must be a path of printable ASCII without empty segments, "." and ".."');
  }
  return `${path}/`;
}

function agentArgument(agent: unknown): Agent | undefined {
  // By what Node calls of it: agents for proxies don't always inherit from Node's.
  if (agent !== undefined && typeof (agent as { addRequest?: unknown } | null)?.addRequest !== 'function') {
    throw new TypeError(`options.agent must be an Agent of node:http or node:https, not ${described(agent)}`);
  }
  return agent as Agent | undefined;
}
