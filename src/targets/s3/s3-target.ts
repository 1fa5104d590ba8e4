import { webcrypto } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type {
  CloudTarget,
  GetOptions,
  ListOptions,
  ObjectInfo,
  PutOptions,
  TargetCapabilities,
} from '../cloud-target.ts';
import { checkKey, isKey } from '../keys.ts';
import { Lifetime } from '../lifetime.ts';
import { rangeWithin } from '../object-range.ts';
import {
  abortOptions,
  bodyArgument,
  getOptions,
  keysArgument,
  listOptions,
  prefixOfList,
  putOptions,
} from '../target-arguments.ts';
import { S3Checksums } from './s3-checksums.ts';
import { S3Connection, statusOf } from './s3-connection.ts';
import { S3Deletes } from './s3-deletes.ts';
import { expectedLength, infoOfHeaders, sha256OfHeaders } from './s3-headers.ts';
import { listQuery, parseListPage } from './s3-listing.ts';
import { type S3TargetOptions, s3Settings } from './s3-options.ts';
import { S3Puts } from './s3-puts.ts';

/** The largest body of a single PUT. In parts a put could be neither create-only nor checked as a whole. */
const MAX_PUT_BYTES = 5 * 1024 ** 3;
/** A page tells of a thousand objects in at most some 3 KiB each. */
const MAX_XML_BYTES = 16 * 1024 * 1024;

/**
 * Objects in a bucket of Amazon S3 or of another server that speaks its protocol.
 *
 * The client signs, Node's HTTP sends. Nothing is sent again that may have taken effect: retries, if wanted, are
 * `withRetries`'s. What a store does not have (create-only puts, checksums, deleting many at once, telling its region) is
 * found out from its answers and done without, or named by an error of its own. Objects under the prefix whose names are no
 * keys are passed over in listings.
 *
 * Requests carry their signature in the URL, with the body unsigned: over plain HTTP anybody on the network path can read, change
 * and repeat them for 15 minutes. Use TLS on any network that is not your own.
 *
 * No answer is read beyond what its request can have: a range, the length that the server declares for a whole
 * object (at most `maxObjectBytes`), 16 MiB for a page of a listing and for many deletes, 64 KiB for all others. More is
 * `TARGET_ERROR`, and the connection is given up. A body that does not show where it ends is `TARGET_UNAVAILABLE`.
 *
 * Besides what is said at each call, all of them throw `INVALID_KEY`, `CLOSED`, `signal.reason`, and for what the
 * server or the network says `BUCKET_NOT_FOUND`, `PERMISSION_DENIED`, `CREDENTIALS_REFUSED`, `CLOCK_SKEWED`,
 * `TARGET_ERROR` or, with `retryable`, `TARGET_UNREACHABLE`, `TARGET_UNAVAILABLE`, `TARGET_THROTTLED` and `TARGET_TIMEOUT`. Their `cause` is an
 * {@link S3RequestError} where there was an answer or an error of the network.
 *
 * @public
 */
export class S3Target implements CloudTarget {
  readonly #lifetime: Lifetime;
  readonly #connection: S3Connection;
  readonly #puts: S3Puts;
  readonly #deletes: S3Deletes;
  readonly #checksums: S3Checksums;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #createOnly: boolean;
  readonly #deletesVersions: boolean;

  /** @throws `TypeError` for an option that is missing, unknown or out of range, or a client that can't sign. */
  constructor(options: S3TargetOptions) {
    const { client, bucket, prefix, createOnly, checksums, deleteVersions, ...transport } = s3Settings(options);
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#createOnly = createOnly;
    this.#deletesVersions = deleteVersions;
    this.#checksums = new S3Checksums(checksums);
    this.#connection = new S3Connection(client, bucket, transport);
    this.#puts = new S3Puts(this.#connection, this.#checksums);
    this.#deletes = new S3Deletes(this.#connection, bucket, deleteVersions);
    this.#lifetime = new Lifetime(`the S3Target of bucket ${bucket}${prefix && `, prefix ${prefix}`}`);
  }

  /**
   * `checksums` turns false when the first put shows that the server does not keep them, and true again where the second one
   * finds the way in which it does; `versioned` turns true when an
   * answer shows that the bucket keeps versions, unless `deleteVersions` is set.
   */
  get capabilities(): TargetCapabilities {
    return {
      createOnly: this.#createOnly,
      maxObjectBytes: MAX_PUT_BYTES,
      checksums: this.#checksums.kept,
      versioned: this.#connection.versioned && !this.#deletesVersions,
    };
  }

  /**
   * Stores `body` in one request, replacing what was there unless `createOnly` is set.
   *
   * @throws `OBJECT_EXISTS`, `OBJECT_CONFLICT` (retryable) and `CREATE_ONLY_UNSUPPORTED` with `createOnly`;
   * `OBJECT_TOO_LARGE` beyond 5 GiB, `CHECKSUM_MISMATCH` (retryable), `NO_SPACE`; `TypeError` for a body that is no
   * `Uint8Array`, or that has another length when it is sent than when it was given
   */
  async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<void> {
    const { createOnly = false, onSent, signal } = putOptions(options);
    const given = bodyArgument(body);
    this.#lifetime.check(signal);
    const name = this.#nameOf(key);
    const what = this.#what('put', name);
    if (given.byteLength > MAX_PUT_BYTES) {
      throw new BackupError(
        'OBJECT_TOO_LARGE',
        `${what}: ${given.byteLength} bytes are too many for one put, which takes at most ${MAX_PUT_BYTES}`,
      );
    }
    if (createOnly && !this.#createOnly) {
      throw new BackupError('CREATE_ONLY_UNSUPPORTED', `${what}: this S3Target was made without createOnly`);
    }
    await this.#puts.put({ what, name, body: given, createOnly, onSent, signal });
  }

  /**
   * The body of an object, or the bytes of a range of it.
   *
   * @throws `OBJECT_NOT_FOUND`, `RANGE_UNSATISFIABLE`, `CHECKSUM_MISMATCH` (retryable), `OBJECT_TOO_LARGE` (for one
   * array), `TypeError` for a range that is none
   */
  async get(key: string, options: GetOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const { range, signal } = getOptions(options);
    this.#lifetime.check(signal);
    const name = this.#nameOf(key);
    const what = this.#what('get', name);
    if (range?.length === 0) return this.#getNothing(key, range.offset, signal); // HTTP has no such range.
    const ranged = range && {
      query: {},
      headers: { range: `bytes=${range.offset}-${range.offset + range.length - 1}` },
    };
    const { query, headers } = ranged ?? this.#checksums.ofRequest();
    const { body, ...answer } = await this.#connection.send({
      what,
      method: 'GET',
      name,
      query,
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
        throw new BackupError('CHECKSUM_MISMATCH', `${what}: the bytes that arrived are not those that were stored`, {
          retryable: true,
        });
      }
    }
    return body;
  }

  /** What the server tells of an object (its size in bytes), `undefined` when there is none in this bucket. */
  async stat(key: string, options: AbortOptions = {}): Promise<ObjectInfo | undefined> {
    const { signal } = abortOptions(options);
    this.#lifetime.check(signal);
    const name = this.#nameOf(key);
    const what = this.#what('stat', name);
    for (let sightings = 0; ; sightings++) {
      try {
        const answer = await this.#connection.send({
          what,
          method: 'HEAD',
          name,
          signal,
          ...this.#checksums.ofRequest(),
        });
        return infoOfHeaders(what, key, answer.headers);
      } catch (error) {
        if (statusOf(error) !== 404) throw error;
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
    const { after, signal } = listOptions(options);
    prefixOfList(prefix);
    this.#lifetime.check(signal);
    const what = `list of ${JSON.stringify(this.#prefix + prefix)} in bucket ${this.#bucket}`;
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

  /** Removes an object, with `deleteVersions` in all of its versions; an absent one is a success. */
  async delete(key: string, options: AbortOptions = {}): Promise<void> {
    const { signal } = abortOptions(options);
    this.#lifetime.check(signal);
    await this.#deletes.one(this.#nameOf(key), signal);
  }

  /**
   * Removes objects, a request for each thousand, or one for each where the server has no such request. Where it rejects,
   * with the first error, others may be gone.
   *
   * @throws as `delete` does
   */
  async deleteMany(keys: readonly string[], options: AbortOptions = {}): Promise<void> {
    const { signal } = abortOptions(options);
    this.#lifetime.check(signal);
    await this.#deletes.many(
      keysArgument(keys).map((key) => this.#nameOf(key)),
      signal,
    );
  }

  /** The date of the server's last answer and what has passed since; it is asked where that was over a minute ago. */
  async storeTime(options: AbortOptions = {}): Promise<Date | undefined> {
    const { signal } = abortOptions(options);
    this.#lifetime.check(signal);
    const known = this.#connection.storeTime();
    if (known !== undefined) return known;
    try {
      await this.#connection.send({ what: `time of bucket ${this.#bucket}`, method: 'HEAD', signal });
    } catch (error) {
      if (statusOf(error) === undefined) throw error; // A refusal has a date as well.
    }
    return this.#connection.storeTime();
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

  #what(operation: string, name: string): string {
    return `${operation} of object ${name} in bucket ${this.#bucket}`;
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
