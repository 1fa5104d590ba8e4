import { createHash, webcrypto } from 'node:crypto';
import type { AbortOptions } from '../common/abort.ts';
import { integerArgument, textArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import type {
  CloudTarget,
  GetOptions,
  ListOptions,
  ObjectInfo,
  PutOptions,
  TargetCapabilities,
} from './cloud-target.ts';
import { checkKey, isKey } from './keys.ts';
import { Lifetime } from './lifetime.ts';
import { checkRange, rangeWithin } from './object-range.ts';
import { type S3Client, S3Connection } from './s3-connection.ts';
import { S3RequestError } from './s3-errors.ts';
import { expectedLength, infoOfHeaders, sha256OfHeaders } from './s3-headers.ts';
import { listQuery, parseListPage } from './s3-listing.ts';
import { deleteBody, failedDeletes } from './s3-multi-delete.ts';

/** Options of {@link S3Target}. @public */
export interface S3TargetOptions {
  /** A client of `minio` 8. It is used as it is (endpoint, credentials, agent), never changed and never closed. */
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
   * Amazon S3, MinIO and Ceph from version 19 do; others ignore the header or refuse the request. Without it a
   * body is guarded on its way by its signature (over HTTP) or by Content-MD5 (over HTTPS).
   * @defaultValue false
   */
  checksums?: boolean | undefined;
  /** `false` for a server that is known to ignore `If-None-Match` on PUT. @defaultValue true */
  createOnly?: boolean | undefined;
}

/** The largest body of a single PUT. In parts a put could be neither create-only nor checked as a whole. */
const MAX_PUT_BYTES = 5 * 1024 ** 3;
const MAX_DELETE_KEYS = 1000;
/** A page tells of a thousand objects in at most some 3 KiB each. */
const MAX_XML_BYTES = 16 * 1024 * 1024;
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/**
 * Objects in a bucket of Amazon S3 or of another server that speaks its protocol.
 *
 * Nothing is ever sent twice: retries, if wanted, are `withRetries`'s, and those of the client are not used. Objects
 * under the prefix whose names are no keys are passed over in listings.
 *
 * No answer is read beyond what its request can have: a range, the length that the server declares for a whole
 * object (at most `maxObjectBytes`), 16 MiB for a page of a listing and for many deletes, 64 KiB for all others. More is
 * `TARGET_ERROR`, and the connection is given up. A body that does not show where it ends is `TARGET_UNAVAILABLE`.
 *
 * Besides what is said at each call, all of them throw `INVALID_KEY`, `CLOSED`, `signal.reason`, and for what the
 * server or the network says `BUCKET_NOT_FOUND`, `PERMISSION_DENIED`, `CREDENTIALS_REFUSED`, `TARGET_ERROR` or, with
 * `retryable`, `TARGET_UNREACHABLE`, `TARGET_UNAVAILABLE`, `TARGET_THROTTLED` and `TARGET_TIMEOUT`. Their `cause` is an
 * {@link S3RequestError} where there was an answer or an error of the network.
 *
 * @public
 */
export class S3Target implements CloudTarget {
  readonly #lifetime: Lifetime;
  readonly #client: S3Client;
  readonly #connection: S3Connection;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #createOnly: boolean;
  /** `asked` until the first put has shown whether the server keeps checksums. */
  #checksums: 'asked' | 'kept' | 'none';

  /** @throws `TypeError` for an option that is out of range, or a client that is none of `minio` 8. */
  constructor(options: S3TargetOptions) {
    this.#bucket = textArgument('bucket', options.bucket);
    this.#prefix = prefixArgument(options.prefix);
    this.#createOnly = options.createOnly ?? true;
    this.#checksums = options.checksums ? 'asked' : 'none';
    this.#client = options.client;
    const { requestTimeoutMs = 30_000, totalTimeoutMs: totalMs } = options;
    const silenceMs = integerArgument('requestTimeoutMs', requestTimeoutMs, 1, MAX_TIMEOUT_MS);
    if (totalMs !== undefined) integerArgument('totalTimeoutMs', totalMs, 1, MAX_TIMEOUT_MS);
    this.#connection = new S3Connection(options.client, this.#bucket, { silenceMs, totalMs });
    this.#lifetime = new Lifetime(`the S3Target of bucket ${this.#bucket}`);
  }

  /** `checksums` turns false when the first put shows that the server does not keep them. */
  get capabilities(): TargetCapabilities {
    return { createOnly: this.#createOnly, maxObjectBytes: MAX_PUT_BYTES, checksums: this.#checksums !== 'none' };
  }

  /**
   * Stores `body` in one request, replacing what was there unless `createOnly` is set.
   *
   * @throws `OBJECT_EXISTS`, `OBJECT_CONFLICT` (retryable) and `CREATE_ONLY_UNSUPPORTED` with `createOnly`;
   * `OBJECT_TOO_LARGE` beyond 5 GiB, `CHECKSUM_MISMATCH` (retryable), `NO_SPACE`
   */
  async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<void> {
    this.#lifetime.check(options.signal);
    const name = this.#nameOf(key);
    const what = `put of object ${key}`;
    const { createOnly, signal } = options;
    if (body.byteLength > MAX_PUT_BYTES) {
      throw new BackupError('OBJECT_TOO_LARGE', `${what}: ${body.byteLength} bytes, S3 takes ${MAX_PUT_BYTES} at once`);
    }
    if (createOnly && !this.#createOnly) {
      throw new BackupError('CREATE_ONLY_UNSUPPORTED', `${what}: this S3Target was made without createOnly`);
    }
    const headers: Record<string, string> = { 'content-type': 'application/octet-stream' };
    if (createOnly) headers['if-none-match'] = '*';
    if (this.#checksums !== 'none') {
      const digest = await webcrypto.subtle.digest('SHA-256', body);
      headers['x-amz-checksum-sha256'] = Buffer.from(digest).toString('base64');
    }
    // Over HTTPS the client does not sign the body, and only a checksum that is known to be heeded replaces MD5.
    const { enableSHA256: signsBody } = this.#client as { enableSHA256?: boolean };
    if (!signsBody && this.#checksums !== 'kept') headers['content-md5'] = md5(body);
    try {
      const answer = await this.#connection.send({ what, method: 'PUT', name, headers, body, signal });
      if (this.#checksums === 'asked') {
        this.#checksums = answer.headers['x-amz-checksum-sha256'] === undefined ? 'none' : 'kept';
      }
    } catch (error) {
      if (createOnly && causeOf(error)?.status === 501) {
        throw new BackupError('CREATE_ONLY_UNSUPPORTED', `${what}: the server has no If-None-Match`, { cause: error });
      }
      throw error;
    }
  }

  /**
   * The body of an object, or the bytes of a range of it.
   *
   * @throws `OBJECT_NOT_FOUND`, `RANGE_UNSATISFIABLE`, `CHECKSUM_MISMATCH` (retryable), `OBJECT_TOO_LARGE` (for one
   * array), `TypeError` for a range that is none
   */
  async get(key: string, options: GetOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    this.#lifetime.check(options.signal);
    const { signal } = options;
    const range = checkRange(options.range);
    const name = this.#nameOf(key);
    const what = `get of object ${key}`;
    if (range?.length === 0) return this.#getNothing(key, range.offset, signal); // HTTP has no such range.
    const headers: Record<string, string> = {};
    if (range !== undefined) headers.range = `bytes=${range.offset}-${range.offset + range.length - 1}`;
    else if (this.#checksums !== 'none') headers['x-amz-checksum-mode'] = 'ENABLED';
    const { body, ...answer } = await this.#connection.send({
      what,
      method: 'GET',
      name,
      headers,
      signal,
      maxAnswerBytes: MAX_PUT_BYTES,
      onHeaders: (head) => expectedLength(what, head, range, MAX_PUT_BYTES),
    });
    const sha256 = range === undefined ? sha256OfHeaders(answer.headers) : undefined;
    if (sha256 !== undefined) {
      const actual = Buffer.from(await webcrypto.subtle.digest('SHA-256', body)).toString('hex');
      signal?.throwIfAborted();
      if (actual !== sha256) {
        throw new BackupError('CHECKSUM_MISMATCH', `${what}: what came is not what was stored`, { retryable: true });
      }
    }
    return body;
  }

  /** What the server tells of an object (its size in bytes), `undefined` when there is none in this bucket. */
  async stat(key: string, options: AbortOptions = {}): Promise<ObjectInfo | undefined> {
    this.#lifetime.check(options.signal);
    const { signal } = options;
    const name = this.#nameOf(key);
    const what = `stat of object ${key}`;
    const headers: Record<string, string> = {};
    if (this.#checksums !== 'none') headers['x-amz-checksum-mode'] = 'ENABLED';
    for (let sightings = 0; ; sightings++) {
      try {
        const answer = await this.#connection.send({ what, method: 'HEAD', name, headers, signal });
        return infoOfHeaders(what, key, answer.headers);
      } catch (error) {
        if (causeOf(error)?.status !== 404) throw error;
      }
      if (!(await this.#isThere(what, name, signal))) return undefined;
      if (sightings > 0) {
        // There for one kind of request and not for the other, twice over: that is no race.
        throw new BackupError('TARGET_ERROR', `${what}: the server answers HEAD with 404 and GET with the object`);
      }
    }
  }

  /** The objects whose key begins with `prefix`, in key order, a request for each thousand as they are needed. */
  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    this.#lifetime.check(options.signal);
    const { after, signal } = options;
    const what = `list of ${JSON.stringify(prefix)}`;
    const startAfter = after === undefined ? undefined : this.#prefix + after;
    const tokens = new Set<string>();
    let token: string | undefined;
    let last = after ?? '';
    do {
      const query = listQuery(this.#prefix + prefix, startAfter, token);
      const { body } = await this.#connection.send({
        what,
        method: 'GET',
        query,
        maxAnswerBytes: MAX_XML_BYTES,
        signal,
      });
      const page = parseListPage(what, body);
      for (const info of page.objects) {
        const key = info.key.slice(this.#prefix.length);
        if (!isKey(key) || (after !== undefined && key <= after)) continue;
        if (!info.key.startsWith(this.#prefix + prefix) || key <= last) {
          throw new BackupError('TARGET_ERROR', `${what}: the server does not list in key order, at ${key}`);
        }
        last = key;
        yield { ...info, key };
        this.#lifetime.check(signal);
      }
      token = page.nextToken;
      if (token !== undefined && tokens.has(token)) {
        throw new BackupError('TARGET_ERROR', `${what}: the server names the same next page again and again`);
      }
      if (token !== undefined) tokens.add(token);
    } while (token !== undefined);
  }

  /** Removes an object; an absent one is a success. */
  async delete(key: string, options: AbortOptions = {}): Promise<void> {
    this.#lifetime.check(options.signal);
    const name = this.#nameOf(key);
    const { signal } = options;
    try {
      await this.#connection.send({ what: `delete of object ${key}`, method: 'DELETE', name, signal });
    } catch (error) {
      if (!BackupError.is(error, 'OBJECT_NOT_FOUND')) throw error;
    }
  }

  /**
   * Removes objects, a request for each thousand. Where it rejects, with the first error, others may be gone.
   *
   * @throws as `delete` does
   */
  async deleteMany(keys: readonly string[], options: AbortOptions = {}): Promise<void> {
    this.#lifetime.check(options.signal);
    const { signal } = options;
    const names = keys.map((key) => this.#nameOf(key));
    for (let start = 0; start < names.length; start += MAX_DELETE_KEYS) {
      const body = deleteBody(names.slice(start, start + MAX_DELETE_KEYS));
      const what = `delete of ${Math.min(MAX_DELETE_KEYS, names.length - start)} objects`;
      const headers = { 'content-md5': md5(body), 'content-type': 'application/xml' };
      const maxAnswerBytes = MAX_XML_BYTES;
      const request = { what, method: 'POST', query: 'delete', headers, body, maxAnswerBytes, signal } as const;
      const failed = failedDeletes(what, (await this.#connection.send(request)).body);
      if (failed !== undefined) throw failed;
    }
  }

  /** Calls made later reject with `CLOSED`. The client stays as it is. */
  async close(): Promise<void> {
    this.#lifetime.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #nameOf(key: string): string {
    return this.#prefix + checkKey(key);
  }

  async #getNothing(key: string, offset: number, signal: AbortSignal | undefined): Promise<Uint8Array<ArrayBuffer>> {
    const info = await this.stat(key, { signal });
    if (info === undefined) throw new BackupError('OBJECT_NOT_FOUND', `there is no object ${key}`);
    rangeWithin(key, info.size, { offset, length: 0 });
    return new Uint8Array(0);
  }

  /**
   * A 404 to HEAD has no body and may as well be about the bucket. A GET says which: it rejects with
   * `BUCKET_NOT_FOUND`, or with anything else that is no proof of absence.
   */
  async #isThere(what: string, name: string, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      await this.#connection.send({ what, method: 'GET', name, headers: { range: 'bytes=0-0' }, signal });
      return true;
    } catch (error) {
      if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return false;
      if (BackupError.is(error, 'RANGE_UNSATISFIABLE')) return true; // It is empty.
      throw error;
    }
  }
}

function causeOf(error: unknown): S3RequestError | undefined {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof S3RequestError ? cause : undefined;
}

function md5(body: Uint8Array): string {
  return createHash('md5').update(body).digest('base64');
}

function prefixArgument(prefix: string | undefined): string {
  if (prefix === undefined || prefix === '') return '';
  const path = textArgument('prefix', prefix).replace(/\/$/, '');
  const segments = path.split('/');
  if (path.length > 500 || !/^[\x20-\x7e]+$/.test(path) || segments.some((s) => s === '' || s === '.' || s === '..')) {
    throw new TypeError('prefix must be a path of printable ASCII without empty segments, "." and ".."');
  }
  return `${path}/`;
}
