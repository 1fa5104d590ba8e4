import { createHash, webcrypto } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { setImmediate } from 'node:timers/promises';
import { BackupError } from '../../common/errors.ts';
import type { StoredObject } from '../cloud-target.ts';
import type { S3Query } from './s3-client.ts';
import { type S3Connection, statusOf } from './s3-connection.ts';
import type { S3Tags } from './s3-tags.ts';

/**
 * How objects are stored: with or without `If-None-Match`, and guarded by a checksum in the way that the server accepts. What a
 * server supports is learned from its answers to puts.
 */

/** An object to store. */
interface S3Put {
  readonly what: string;
  readonly name: string;
  readonly body: Uint8Array<ArrayBuffer>;
  readonly createOnly: boolean;
  readonly onSent: ((bytes: number) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Stores objects, and learns whether the server supports create-only puts and checksums. */
export class S3Puts {
  readonly #connection: S3Connection;
  readonly #checksums: S3Checksums;
  readonly #tags: S3Tags;
  /** Whether the server has accepted a create-only put. Later refusals then have other reasons. */
  #hasCreatedOnly = false;

  constructor(connection: S3Connection, checksums: S3Checksums, tags: S3Tags) {
    this.#tags = tags;
    this.#connection = connection;
    this.#checksums = checksums;
  }

  async put(put: S3Put): Promise<StoredObject> {
    // A resizable buffer is copied, because it may change its length before it has been sent.
    const body = put.body.buffer.resizable ? new Uint8Array(put.body) : put.body;
    const ways = [...this.#checksums.ways];
    for (;;) {
      const way = ways.shift() ?? 'none'; // Which is never refused.
      try {
        return await this.#once({ ...put, body }, way);
      } catch (error) {
        // The server has refused the request, so nothing was stored, and another way may be tried.
        if (this.#checksums.mayBeRefused(way, error)) continue;
        throw put.createOnly && !this.#hasCreatedOnly ? ofCreateOnly(put.what, error) : error;
      }
    }
  }

  async #once({ what, name, body, createOnly, onSent, signal }: S3Put, way: ChecksumWay): Promise<StoredObject> {
    const length = body.byteLength;
    const sums = await this.#checksums.ofBody(body, way);
    signal?.throwIfAborted();
    if (body.byteLength !== length) throw new TypeError(`${what}: the buffer of the body was detached during the call`);
    const headers: Record<string, string> = { 'content-type': 'application/octet-stream', ...sums.headers };
    if (createOnly) headers['if-none-match'] = '*';
    const { query } = sums;
    const answer = await this.#connection.send({ what, method: 'PUT', name, query, headers, body, onSent, signal });
    this.#checksums.answered(way, answer.headers);
    if (createOnly) this.#hasCreatedOnly = true;
    return { tag: this.#tags.ofPut(answer.headers) };
  }
}

/** The error of a create-only put that failed before any has succeeded: servers refuse a header that they don't support. */
function ofCreateOnly(what: string, error: unknown): unknown {
  const status = statusOf(error);
  const isRefusal = status === 400 || status === 405 || status === 501;
  if (!isRefusal || !BackupError.is(error, 'TARGET_ERROR')) return error;
  const hint = 'open the repository with singleWriter where no other host writes to it, or choose another store';
  const message = `${what}: the server does not seem to support If-None-Match, it answers ${status} (${hint})`;
  return new BackupError('CREATE_ONLY_UNSUPPORTED', message, { cause: error });
}

/**
 * Where a request carries a checksum: in the signed query, as Amazon S3 requires for a signed URL; in an unsigned header, which
 * other servers require and Amazon refuses; or nowhere.
 */
type ChecksumWay = 'query' | 'header' | 'none';

/** Query parameters and headers that carry a checksum. */
interface ChecksumFields {
  readonly query: S3Query;
  readonly headers: Readonly<Record<string, string>>;
}

const WAYS: readonly ChecksumWay[] = ['query', 'header', 'none'];
/** The statuses with which servers refuse a request that has a part that they don't support. */
const REFUSALS = new Set([400, 403, 405, 501]);
const SLICE_BYTES = 1024 * 1024;

/** What is known about the checksums of a server. Nothing is known before the first put. */
export class S3Checksums {
  #way: ChecksumWay;
  #proven: boolean;

  constructor(wanted: boolean) {
    this.#way = wanted ? 'query' : 'none';
    this.#proven = !wanted;
  }

  /** Whether the server keeps checksums. This is assumed until a put has shown that it ignores those in the query. */
  get kept(): boolean {
    return this.#way !== 'none' && (this.#proven || this.#way === 'query');
  }

  /** The ways that a put tries, in this order: only the one that is known to work, if there is one. */
  get ways(): readonly ChecksumWay[] {
    return this.#proven ? [this.#way] : WAYS.slice(WAYS.indexOf(this.#way));
  }

  /** Whether a put with this error may have failed because of its checksum, and has certainly stored nothing. */
  mayBeRefused(way: ChecksumWay, error: unknown): boolean {
    return way !== 'none' && !this.#proven && REFUSALS.has(statusOf(error) ?? 0);
  }

  /** Must be called after each put that succeeded. */
  answered(way: ChecksumWay, headers: IncomingHttpHeaders): void {
    if (this.#proven) return;
    this.#proven = way === 'none' || headers['x-amz-checksum-sha256'] !== undefined;
    // The server has ignored the checksum: the next put tries the next way.
    this.#way = this.#proven ? way : (WAYS[WAYS.indexOf(way) + 1] ?? 'none');
    if (this.#way === 'none') this.#proven = true;
  }

  /** The fields that guard a body in transit: Content-MD5, too, unless the server is known to check the other checksum. */
  async ofBody(body: Uint8Array<ArrayBuffer>, way: ChecksumWay): Promise<ChecksumFields> {
    const fields = way === 'none' ? [] : [['x-amz-checksum-sha256', await sha256Of(body)]];
    const headers = this.#proven && way !== 'none' ? {} : { 'content-md5': await md5Of(body) };
    return placed(way, Object.fromEntries(fields), headers);
  }

  /** The fields that ask for the checksum of an object. */
  ofRequest(): ChecksumFields {
    return placed(this.#way, this.kept ? { 'x-amz-checksum-mode': 'ENABLED' } : {}, {});
  }
}

function placed(way: ChecksumWay, fields: Record<string, string>, headers: Record<string, string>): ChecksumFields {
  return way === 'header' ? { query: {}, headers: { ...headers, ...fields } } : { query: fields, headers };
}

async function sha256Of(body: Uint8Array<ArrayBuffer>): Promise<string> {
  return Buffer.from(await webcrypto.subtle.digest('SHA-256', body)).toString('base64');
}

/** The MD5 of a body. It is computed in steps of some milliseconds, because Node computes MD5 only on the calling thread. */
export async function md5Of(body: Uint8Array): Promise<string> {
  const hash = createHash('md5');
  for (let start = 0; start < body.byteLength; start += SLICE_BYTES) {
    if (start > 0) await setImmediate();
    hash.update(body.subarray(start, start + SLICE_BYTES));
  }
  return hash.digest('base64');
}
