import { createHash, webcrypto } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { setImmediate } from 'node:timers/promises';
import type { S3Query } from './s3-client.ts';
import { statusOf } from './s3-connection.ts';

/**
 * How a checksum goes along with a request: in the signed query, as Amazon S3 wants it of a signed URL; in a header that
 * is not signed, which others want and Amazon refuses; or not at all.
 */
export type ChecksumWay = 'query' | 'header' | 'none';

/** What goes along with a request. */
export interface ChecksumFields {
  readonly query: S3Query;
  readonly headers: Readonly<Record<string, string>>;
}

const WAYS: readonly ChecksumWay[] = ['query', 'header', 'none'];
/** What a server answers to a request of which it does not take one part. */
const REFUSALS = new Set([400, 403, 405, 501]);
const SLICE_BYTES = 1024 * 1024;

/** What is known of a server's checksums: nothing until a put has shown what it takes and answers. */
export class S3Checksums {
  #way: ChecksumWay;
  #proven: boolean;

  constructor(wanted: boolean) {
    this.#way = wanted ? 'query' : 'none';
    this.#proven = !wanted;
  }

  /** Whether the server keeps them. Until a put has shown that it does not read the query for them they count as kept. */
  get kept(): boolean {
    return this.#way !== 'none' && (this.#proven || this.#way === 'query');
  }

  /** The ways that a put tries: the one that is known to work, or one after the other. */
  get ways(): readonly ChecksumWay[] {
    return this.#proven ? [this.#way] : WAYS.slice(WAYS.indexOf(this.#way));
  }

  /** Whether a put that failed like this may have failed for its checksum, and has certainly stored nothing. */
  mayBeRefused(way: ChecksumWay, error: unknown): boolean {
    return way !== 'none' && !this.#proven && REFUSALS.has(statusOf(error) ?? 0);
  }

  /** A put that went this way has succeeded. */
  answered(way: ChecksumWay, headers: IncomingHttpHeaders): void {
    if (this.#proven) return;
    this.#proven = way === 'none' || headers['x-amz-checksum-sha256'] !== undefined;
    // Not heeded: the next put tries the next way.
    this.#way = this.#proven ? way : (WAYS[WAYS.indexOf(way) + 1] ?? 'none');
    if (this.#way === 'none') this.#proven = true;
  }

  /** What guards a body on its way. Content-MD5, unless a checksum is known to be heeded. */
  async ofBody(body: Uint8Array<ArrayBuffer>, way: ChecksumWay): Promise<ChecksumFields> {
    const fields = way === 'none' ? [] : [['x-amz-checksum-sha256', await sha256Of(body)]];
    const headers = this.#proven && way !== 'none' ? {} : { 'content-md5': await md5Of(body) };
    return placed(way, Object.fromEntries(fields), headers);
  }

  /** Asks for the checksum of an object. */
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

/** In steps of some milliseconds, since Node has no MD5 outside of the calling thread. */
export async function md5Of(body: Uint8Array): Promise<string> {
  const hash = createHash('md5');
  for (let start = 0; start < body.byteLength; start += SLICE_BYTES) {
    if (start > 0) await setImmediate();
    hash.update(body.subarray(start, start + SLICE_BYTES));
  }
  return hash.digest('base64');
}
