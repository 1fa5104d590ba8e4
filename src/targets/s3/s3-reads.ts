import { webcrypto } from 'node:crypto';
import type { ByteRange } from '../../common/byte-range.ts';
import { BackupError } from '../../common/errors.ts';
import type { ObjectInfo } from '../cloud-target.ts';
import { rangeWithin } from '../object-range.ts';
import { requireTag } from '../tags.ts';
import { expectedLength, infoOfHeaders, listQuery, parseListPage, sha256OfHeaders } from './s3-answers.ts';
import { type S3Connection, statusOf } from './s3-connection.ts';
import type { S3Answer } from './s3-exchange.ts';
import type { S3Checksums } from './s3-puts.ts';
import type { S3Tags } from './s3-tags.ts';
import { MAX_XML_BYTES } from './s3-xml.ts';

/** Which object is read. */
interface S3Read {
  readonly key: string;
  readonly what: string;
  readonly name: string;
  readonly signal: AbortSignal | undefined;
}

interface S3Get extends S3Read {
  readonly range: ByteRange | undefined;
  readonly ifTag: string | undefined;
}

/** How single objects are read: bodies, ranges, and what the server knows about an object. */
export class S3Reads {
  readonly #connection: S3Connection;
  readonly #checksums: S3Checksums;
  readonly #tags: S3Tags;
  readonly #maxObjectBytes: number;

  constructor(connection: S3Connection, checksums: S3Checksums, tags: S3Tags, maxObjectBytes: number) {
    this.#connection = connection;
    this.#checksums = checksums;
    this.#tags = tags;
    this.#maxObjectBytes = maxObjectBytes;
  }

  async get(get: S3Get): Promise<Uint8Array<ArrayBuffer>> {
    const { what, range, signal } = get;
    if (range?.length === 0) return this.#getNothing(get, range.offset); // HTTP has no such range.
    const { body, ...answer } = await this.#answer(get);
    const sha256 = range === undefined ? sha256OfHeaders(answer.headers) : undefined;
    if (sha256 === undefined) return body;
    const actual = Buffer.from(await webcrypto.subtle.digest('SHA-256', body)).toString('hex');
    signal?.throwIfAborted();
    if (actual === sha256) return body;
    const message = `${what}: the bytes of the answer do not match their checksum`;
    throw new BackupError('CHECKSUM_MISMATCH', message, { retryable: true });
  }

  /** `undefined` if the bucket has no such object. */
  async stat(read: S3Read): Promise<ObjectInfo | undefined> {
    const { key, what, name, signal } = read;
    for (let sightings = 0; ; sightings++) {
      try {
        const fields = this.#checksums.ofRequest();
        const answer = await this.#connection.send({ what, method: 'HEAD', name, signal, ...fields });
        return infoOfHeaders(what, key, answer.headers, this.#tags);
      } catch (error) {
        if (statusOf(error) !== 404) throw error;
      }
      if (!(await this.#isThere(read))) return undefined;
      if (sightings > 0) {
        // The object exists for GET and not for HEAD, twice in a row: that is not a race.
        throw new BackupError('TARGET_ERROR', `${what}: the server answers HEAD with 404 and GET with the object`);
      }
    }
  }

  async #answer(get: S3Get): Promise<S3Answer> {
    const { what, name, range, ifTag, signal } = get;
    const ranged = range && {
      query: {},
      headers: { range: `bytes=${range.offset}-${range.offset + range.length - 1}` },
    };
    try {
      return await this.#connection.send({
        what,
        method: 'GET',
        name,
        ...(ranged ?? this.#checksums.ofRequest()),
        signal,
        maxAnswerBytes: this.#maxObjectBytes,
        onHeaders: (head) => {
          // The ETag is that of the object whose body follows. If-Match is not sent (decision 132).
          requireTag(what, this.#tags.ofObject(head.headers), ifTag);
          return expectedLength(what, head, range, this.#maxObjectBytes);
        },
      });
    } catch (error) {
      if (ifTag === undefined) throw error;
      // The object may be another one, which is shorter.
      if (statusOf(error) === 416) await this.#getNothing(get, 0);
      else if (BackupError.is(error, 'OBJECT_CHANGED')) await this.#compareWithListing(get);
      throw error;
    }
  }

  /** Finds out whether a tag may have been another one only because the server's listings have other ETags than its headers. */
  async #compareWithListing(read: S3Read): Promise<void> {
    if (!this.#tags.isUnproven) return;
    const { what, name, signal } = read;
    try {
      const before = await this.stat(read);
      const query = { ...listQuery(name, undefined, undefined), 'max-keys': '1' };
      const answer = await this.#connection.send({ what, method: 'GET', query, maxAnswerBytes: MAX_XML_BYTES, signal });
      const listed = parseListPage(what, answer.body, this.#tags).objects.find(({ key }) => key === name);
      this.#tags.compare(listed?.tag, before?.tag, (await this.stat(read))?.tag);
    } catch {
      signal?.throwIfAborted();
      // The next get finds it out.
    }
  }

  async #getNothing(get: S3Get, offset: number): Promise<Uint8Array<ArrayBuffer>> {
    const info = await this.stat(get);
    if (info === undefined) throw new BackupError('OBJECT_NOT_FOUND', `${get.what}: there is no such object`);
    requireTag(get.what, info.tag, get.ifTag);
    rangeWithin(get.key, info.size, { offset, length: 0 });
    return new Uint8Array(0);
  }

  /**
   * Whether an object exists. A 404 to HEAD has no body and may be about the bucket, too. A GET distinguishes the two: it rejects
   * with `BUCKET_NOT_FOUND` then.
   */
  async #isThere({ what, name, signal }: S3Read): Promise<boolean> {
    try {
      await this.#connection.send({ what, method: 'GET', name, headers: { range: 'bytes=0-0' }, signal });
      return true;
    } catch (error) {
      if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return false;
      if (BackupError.is(error, 'RANGE_UNSATISFIABLE')) return true; // The object is empty.
      throw error;
    }
  }
}
