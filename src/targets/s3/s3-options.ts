import type { Agent } from 'node:http';
import { booleanArgument, described, integerArgument, optionsArgument, textArgument } from '../../common/arguments.ts';
import { LONGEST_TIMER_MS } from '../../common/clock.ts';
import { clientArgument, type S3Client } from './s3-client.ts';

/** Options of {@link S3Target}. @public */
export interface S3TargetOptions {
  /**
   * A client of `minio` 8 (`npm install minio@8`), or another object that signs as it does. It is never changed and never
   * closed. It signs the URL of each request, for 15 minutes, with credentials that its provider renews.
   */
  client: S3Client;
  /** The name of the bucket, which must exist. */
  bucket: string;
  /**
   * A folder in the bucket that all objects are in. It has at most 500 characters of printable ASCII; a `/` at its end is added
   * if it is missing.
   * @defaultValue none
   */
  prefix?: string | undefined;
  /**
   * How long a request may pass without a byte in either direction, in milliseconds from 1 to 2^31 - 1, before it fails with
   * `TARGET_TIMEOUT`. @defaultValue 30_000
   */
  requestTimeoutMs?: number | undefined;
  /**
   * How long one request may take as a whole, in milliseconds from 1 to 2^31 - 1, before it fails with `TARGET_TIMEOUT`.
   * @defaultValue ten minutes, and one more second for each 64,000 bytes that are sent or may be received
   */
  totalTimeoutMs?: number | undefined;
  /**
   * Send SHA-256 checksums with bodies, which the server checks and keeps, and check the bodies of answers against them.
   * Amazon S3, MinIO and Ceph from version 19 keep checksums. If a server ignores them or refuses the request, puts continue
   * without them, and `capabilities.checksums` becomes false. Content-MD5 guards a body in transit whenever a checksum does not.
   * @defaultValue false
   */
  checksums?: boolean | undefined;
  /** Set it to `false` for a server that is known to ignore `If-None-Match` on PUT. @defaultValue true */
  createOnly?: boolean | undefined;
  /**
   * Set it to `false` for a server whose ETags do not identify objects, which `targetConformance` shows: objects have no tags then.
   * That listings and headers disagree is found out from the answers. @defaultValue true
   */
  tags?: boolean | undefined;
  /**
   * Delete all versions of an object in a bucket with versioning, which takes one more request for each object. Otherwise the
   * store keeps deleted objects until a lifecycle rule of the bucket removes them, and deleting frees no space.
   * @defaultValue false
   */
  deleteVersions?: boolean | undefined;
  /**
   * Node's agent for the connections, with which a proxy, a certificate authority or a client certificate can be set. It must be
   * an agent of `node:https` if the client has `useSSL`. The agent and the request options of the `minio` client are not used.
   * @defaultValue Node's global agent, which keeps connections alive
   */
  agent?: Agent | undefined;
}

const KNOWN = {
  client: true,
  bucket: true,
  prefix: true,
  requestTimeoutMs: true,
  totalTimeoutMs: true,
  checksums: true,
  createOnly: true,
  tags: true,
  deleteVersions: true,
  agent: true,
} as const;

/** Returns the options with their defaults, or throws a `TypeError`. The prefix is empty or ends with a `/`. */
export function s3Settings(options: S3TargetOptions) {
  if (options === undefined) throw new TypeError('options must name a client and a bucket');
  const given = optionsArgument('options', options, KNOWN);
  const { requestTimeoutMs = 30_000, totalTimeoutMs: totalMs, checksums = false } = given;
  const { createOnly = true, tags = true, deleteVersions = false } = given;
  return {
    client: clientArgument('options.client', given.client),
    bucket: bucketArgument(given.bucket),
    prefix: prefixArgument(given.prefix),
    silenceMs: integerArgument('options.requestTimeoutMs', requestTimeoutMs, 1, LONGEST_TIMER_MS),
    totalMs:
      totalMs === undefined ? undefined : integerArgument('options.totalTimeoutMs', totalMs, 1, LONGEST_TIMER_MS),
    checksums: booleanArgument('options.checksums', checksums),
    createOnly: booleanArgument('options.createOnly', createOnly),
    tags: booleanArgument('options.tags', tags),
    deleteVersions: booleanArgument('options.deleteVersions', deleteVersions),
    agent: agentArgument(given.agent),
  };
}

function bucketArgument(bucket: unknown): string {
  const name = textArgument('options.bucket', bucket);
  // The rule of the client, which refuses to sign for other names.
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
  // Checked by its method, because agents for proxies do not always inherit from Node's class.
  if (agent !== undefined && typeof (agent as { addRequest?: unknown } | null)?.addRequest !== 'function') {
    throw new TypeError(`options.agent must be an Agent of node:http or node:https, not ${described(agent)}`);
  }
  return agent as Agent | undefined;
}
