// This folder is the target for S3 and its relatives: what is sent, what the answers mean, and what servers can not
// do.

import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type {
  CloudTarget,
  GetOptions,
  ListOptions,
  ObjectInfo,
  PutOptions,
  PutResult,
  TargetCapabilities,
} from '../cloud-target.ts';
import { checkKey, isKey } from '../keys.ts';
import { Lifetime } from '../lifetime.ts';
import {
  abortOptions,
  bodyArgument,
  getOptions,
  keysArgument,
  listOptions,
  prefixOfList,
  putOptions,
} from '../target-arguments.ts';
import { listQuery, parseListPage } from './s3-answers.ts';
import { S3Connection, statusOf } from './s3-connection.ts';
import { S3Deletes } from './s3-deletes.ts';
import { type S3TargetOptions, s3Settings } from './s3-options.ts';
import { S3PageOrder } from './s3-page-order.ts';
import { S3Checksums, S3Puts } from './s3-puts.ts';
import { S3Reads } from './s3-reads.ts';
import { S3Tags } from './s3-tags.ts';
import { MAX_XML_BYTES } from './s3-xml.ts';

/** The largest body of a single PUT. A put in parts could be neither create-only nor checked as a whole. */
const MAX_PUT_BYTES = 5 * 1024 ** 3;

/**
 * Stores objects in a bucket of Amazon S3 or of another server that speaks its protocol.
 *
 * The client signs requests, and Node's HTTP module sends them. No request is sent twice; use `withRetries` for retries.
 * Features that a server lacks (create-only puts, checksums, deleting several objects at once, naming its region) are detected
 * from its answers. The target then does without them or throws a specific error. Listings leave out objects under the prefix
 * whose names are not keys.
 *
 * The tag of an object is its ETag. A weak ETag is none, and a server whose listings have other ETags than its headers has no tags.
 *
 * Requests carry their signature in the URL, and the body is not signed: over plain HTTP, anybody on the network path can read,
 * change and repeat them for 15 minutes. Use TLS on any network that is not your own.
 *
 * No answer is read beyond the longest that is possible: a range, the length that the server declares for a whole object (at most
 * `maxObjectBytes`), 16 MiB for a page of a listing and for the deletion of several objects, 64 KiB for all others. A longer
 * answer is `TARGET_ERROR`, and the connection is closed. A body that does not show where it ends is `TARGET_UNAVAILABLE`.
 *
 * All calls throw `INVALID_KEY`, `CLOSED`, `signal.reason`, and for failures of the server or the network `BUCKET_NOT_FOUND`,
 * `PERMISSION_DENIED`, `CREDENTIALS_REFUSED`, `CLOCK_SKEWED`, `TARGET_ERROR` or, with `retryable`, `TARGET_UNREACHABLE`,
 * `TARGET_UNAVAILABLE`, `TARGET_THROTTLED` and `TARGET_TIMEOUT`, in addition to the codes that are listed at each call. The
 * `cause` is an {@link S3RequestError} if there was an answer or an error of the network.
 *
 * @example
 * ```ts
 * const client = new Client({ endPoint: 's3.eu-central-1.amazonaws.com', accessKey: '...', secretKey: '...' }); // Of `minio`.
 * await using bucket = new S3Target({ client, bucket: 'backups', prefix: 'host-7' });
 * await using target = withRetries(bucket);
 * await using repository = await BackupRepository.open(target, { unlock: { passphrase } });
 * for await (const { id, volume } of repository.listBackups()) console.log(id, volume);
 * ```
 *
 * @public
 */
export class S3Target implements CloudTarget {
  readonly #lifetime: Lifetime;
  readonly #connection: S3Connection;
  readonly #puts: S3Puts;
  readonly #reads: S3Reads;
  readonly #deletes: S3Deletes;
  readonly #checksums: S3Checksums;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #createOnly: boolean;
  readonly #tags: S3Tags;
  readonly #order: S3PageOrder;
  readonly #deletesVersions: boolean;

  /** @throws `TypeError` for an option that is missing, unknown or out of range, and for a client that can't sign */
  constructor(options: S3TargetOptions) {
    const { client, bucket, prefix, createOnly, checksums, tags, deleteVersions, ...transport } = s3Settings(options);
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#createOnly = createOnly;
    this.#tags = new S3Tags(tags);
    this.#deletesVersions = deleteVersions;
    this.#checksums = new S3Checksums(checksums);
    this.#connection = new S3Connection(client, bucket, transport);
    this.#puts = new S3Puts(this.#connection, this.#checksums, this.#tags);
    this.#order = new S3PageOrder(this.#connection, this.#tags);
    this.#reads = new S3Reads(this.#connection, this.#checksums, this.#tags, MAX_PUT_BYTES);
    this.#deletes = new S3Deletes(this.#connection, bucket, deleteVersions);
    this.#lifetime = new Lifetime(`the S3Target of bucket ${bucket}${prefix && `, prefix ${prefix}`}`);
  }

  /**
   * `checksums` becomes false when the first put shows that the server does not keep them, and true again if the second put
   * finds a way in which it does. `versioned` becomes true when an answer shows that the bucket keeps versions, unless
   * `deleteVersions` is set.
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
   * `OBJECT_TOO_LARGE` above 5 GiB, `CHECKSUM_MISMATCH` (retryable), `NO_SPACE`; `TypeError` for a body that is not a
   * `Uint8Array` or whose length changes during the call
   */
  async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<PutResult> {
    const { createOnly = false, onSent, signal } = putOptions(options);
    const given = bodyArgument(body);
    this.#lifetime.check(signal);
    const name = this.#nameOf(key);
    const what = this.#what('put', name);
    if (given.byteLength > MAX_PUT_BYTES) {
      throw new BackupError(
        'OBJECT_TOO_LARGE',
        `${what}: the body has ${given.byteLength} bytes, and one put takes at most ${MAX_PUT_BYTES}`,
      );
    }
    if (createOnly && !this.#createOnly) {
      throw new BackupError('CREATE_ONLY_UNSUPPORTED', `${what}: this S3Target was made without createOnly`);
    }
    return this.#puts.put({ what, name, body: given, createOnly, onSent, signal });
  }

  /**
   * Returns the body of an object, or the bytes of a range of it.
   *
   * @throws `OBJECT_NOT_FOUND`, `OBJECT_CHANGED`, `RANGE_UNSATISFIABLE`, `CHECKSUM_MISMATCH` (retryable), `OBJECT_TOO_LARGE` (for one
   * array), `TypeError` for an invalid range or tag
   */
  async get(key: string, options: GetOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const { range, ifTag, signal } = getOptions(options);
    this.#lifetime.check(signal);
    const name = this.#nameOf(key);
    const what = this.#what('get', name);
    return this.#reads.get({ key, what, name, range, ifTag, signal });
  }

  /** Returns what the server reports about an object; `undefined` if the bucket has no such object. */
  async stat(key: string, options: AbortOptions = {}): Promise<ObjectInfo | undefined> {
    const signal = this.#lifetime.check(abortOptions(options).signal);
    const name = this.#nameOf(key);
    const what = this.#what('stat', name);
    return this.#reads.stat({ key, what, name, signal });
  }

  /** Lists the objects whose key begins with `prefix`, in key order. Each request fetches a thousand when they are needed. */
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
      const page = parseListPage(what, body, this.#tags);
      if (token === undefined) {
        const isThere = async ({ key: name }: ObjectInfo) =>
          (await this.#reads.stat({ key: name, what: this.#what('stat', name), name, signal })) !== undefined;
        // @mutation first-page-has-the-first-keys
        await this.#order.check(what, query, page, isThere, { signal });
      }
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
        throw new BackupError('TARGET_ERROR', `${what}: the server repeats a page of the listing`);
      }
      if (token !== undefined) tokens.add(token);
    } while (token !== undefined);
  }

  /** Deletes an object (with `deleteVersions`, all of its versions). The call succeeds if there is no such object. */
  async delete(key: string, options: AbortOptions = {}): Promise<void> {
    const signal = this.#lifetime.check(abortOptions(options).signal);
    await this.#deletes.one(this.#nameOf(key), signal);
  }

  /**
   * Deletes objects, with one request for each thousand, or for each object if the server can't delete several at once. It
   * rejects with the first error; other objects may have been deleted then.
   *
   * @throws as `delete` does
   */
  async deleteMany(keys: readonly string[], options: AbortOptions = {}): Promise<void> {
    const signal = this.#lifetime.check(abortOptions(options).signal);
    await this.#deletes.many(
      keysArgument(keys).map((key) => this.#nameOf(key)),
      signal,
    );
  }

  /** Returns the date of the server's last answer plus the time since. A request is sent if that was over a minute ago. */
  async storeTime(options: AbortOptions = {}): Promise<Date | undefined> {
    const signal = this.#lifetime.check(abortOptions(options).signal);
    const known = this.#connection.storeTime();
    if (known !== undefined) return known;
    try {
      await this.#connection.send({ what: `time of bucket ${this.#bucket}`, method: 'HEAD', signal });
    } catch (error) {
      if (statusOf(error) === undefined) throw error; // A refusal has a date, too.
    }
    return this.#connection.storeTime();
  }

  /** Closes the target: later calls reject with `CLOSED`. The client is not affected. */
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
}
