import type { IncomingHttpHeaders } from 'node:http';
import type { ByteRange } from '../../common/byte-range.ts';
import { BackupError } from '../../common/errors.ts';
import type { ObjectInfo } from '../cloud-target.ts';
import type { S3Query } from './s3-client.ts';
import type { S3Tags } from './s3-tags.ts';
import { childText, parseXml, type XmlElement } from './s3-xml.ts';

/**
 * What the answers of a server say about objects: pages of listings, and headers. Anything incomplete or inconsistent is an
 * error, never a shorter listing or a shorter body.
 */

/** One page of `ListObjectsV2`, with full names. */
export interface S3ListPage {
  readonly objects: readonly ObjectInfo[];
  /** The token that asks for the next page; `undefined` on the last page. */
  readonly nextToken: string | undefined;
}

/** The query that asks for a page. */
export function listQuery(prefix: string, after: string | undefined, token: string | undefined): S3Query {
  return {
    'encoding-type': 'url', // Names may hold characters that XML does not allow.
    'list-type': '2',
    'max-keys': '1000',
    prefix,
    ...(token !== undefined ? { 'continuation-token': token } : after ? { 'start-after': after } : {}),
  };
}

/** Parses a page. An incomplete page, or one that announces further pages without a token, is an error. */
export function parseListPage(what: string, body: Uint8Array, tags: S3Tags): S3ListPage {
  const { root, encoded, truncated } = listingOf(what, 'ListBucketResult', body);
  const objects = root.children
    .filter(({ name }) => name === 'Contents')
    .map((entry) => objectOf(what, entry, encoded, tags));
  const nextToken = truncated ? childText(root, 'NextContinuationToken') : undefined;
  if (truncated && !nextToken) throw unavailable(what, 'a page of the listing announces further pages without a token');
  return { objects, nextToken };
}

/** Parses the document of a page of any listing. */
export function listingOf(
  what: string,
  name: string,
  body: Uint8Array,
): { readonly root: XmlElement; readonly encoded: boolean; readonly truncated: boolean } {
  const root = parseXml(new TextDecoder().decode(body));
  if (root?.name !== name) throw unavailable(what, 'a page of the listing is incomplete');
  const truncated = childText(root, 'IsTruncated');
  if (truncated !== 'true' && truncated !== 'false')
    throw unavailable(what, 'a page of the listing does not say whether it is the last one');
  return { root, encoded: childText(root, 'EncodingType') === 'url', truncated: truncated === 'true' };
}

/** The decoded name of an object in a child of an element; `undefined` if it has none. */
export function nameOf(what: string, element: XmlElement, child: string, encoded: boolean): string | undefined {
  const name = childText(element, child);
  return name && encoded ? decodeName(what, name) : name;
}

function objectOf(what: string, entry: XmlElement, encoded: boolean, tags: S3Tags): ObjectInfo {
  const key = nameOf(what, entry, 'Key', encoded);
  const size = childText(entry, 'Size');
  const modified = Date.parse(childText(entry, 'LastModified') ?? '');
  const tag = tags.ofListing(childText(entry, 'ETag'));
  if (!key || size === undefined || !/^\d{1,15}$/.test(size))
    throw unavailable(what, 'an entry of the listing has no key or no size');
  return {
    key,
    size: Number(size),
    ...(Number.isNaN(modified) ? {} : { modifiedAt: new Date(modified) }),
    ...(tag && { tag }),
  };
}

function decodeName(what: string, name: string): string {
  try {
    return decodeURIComponent(name.replaceAll('+', ' '));
  } catch (cause) {
    throw unavailable(what, 'a key in the listing is not URL-encoded correctly', cause);
  }
}

/** The error is retryable: a proxy that has cut off an answer may not cut off the next one. */
function unavailable(what: string, why: string, cause?: unknown): BackupError {
  return new BackupError('TARGET_UNAVAILABLE', `${what}: ${why}`, { retryable: true, cause });
}

/** The facts about an object in the headers of an answer to HEAD. */
export function infoOfHeaders(what: string, key: string, headers: IncomingHttpHeaders, tags: S3Tags): ObjectInfo {
  const size = headers['content-length'];
  if (size === undefined || !/^\d{1,15}$/.test(size)) {
    throw new BackupError('TARGET_ERROR', `${what}: the server does not send the object's size`);
  }
  const modifiedAt = dateOf(headers['last-modified']);
  const sha256 = sha256OfHeaders(headers);
  const retainUntil = dateOf(headers['x-amz-object-lock-retain-until-date']);
  const tag = tags.ofObject(headers);
  return {
    key,
    size: Number(size),
    ...(modifiedAt && { modifiedAt }),
    ...(sha256 && { sha256 }),
    ...(retainUntil && { retainUntil }),
    ...(tag && { tag }),
  };
}

/** The SHA-256 of a body, in hex digits. An object that was put in parts has another kind of checksum: `<base64>-<parts>`. */
export function sha256OfHeaders(headers: IncomingHttpHeaders): string | undefined {
  const value = headers['x-amz-checksum-sha256'];
  if (typeof value !== 'string' || !/^[A-Za-z0-9+/]{43}=$/.test(value)) return undefined;
  return Buffer.from(value, 'base64').toString('hex');
}

/**
 * The length that the body of an answer to GET must have, in bytes; `undefined` for a whole object whose size the server does
 * not send in advance. S3 cuts off a range at the end of the object.
 *
 * @param maxBytes - the size of the largest possible object
 * @throws unless the answer holds exactly what was asked for and shows where it ends. An answer that ends with its connection
 * can't be distinguished from one that was cut off.
 */
export function expectedLength(
  what: string,
  answer: { readonly status: number; readonly headers: IncomingHttpHeaders },
  range: ByteRange | undefined,
  maxBytes: number,
): number | undefined {
  const ofRange = range && lengthOfRange(what, answer, range);
  if (range === undefined && answer.status !== 200) {
    throw new BackupError('TARGET_ERROR', `${what}: status ${answer.status} to a request for the whole object`);
  }
  const declared = answer.headers['content-length'];
  if (declared === undefined && !/(?:^|,\s*)chunked\s*$/i.test(answer.headers['transfer-encoding'] ?? '')) {
    throw unavailable(what, 'the answer of the server does not show where it ends');
  }
  if (declared === undefined) return ofRange;
  const length = /^\d{1,15}$/.test(declared) ? Number(declared) : Number.NaN;
  if (!(length <= maxBytes)) throw new BackupError('TARGET_ERROR', `${what}: the server answers ${declared} bytes`);
  if (ofRange !== undefined && length !== ofRange) {
    throw unavailable(what, `the server answers ${length} bytes for a range of ${ofRange}`);
  }
  return length;
}

function lengthOfRange(
  what: string,
  answer: { readonly status: number; readonly headers: IncomingHttpHeaders },
  range: ByteRange,
): number {
  const parts = /^bytes (\d{1,15})-(\d{1,15})\/(?:\d{1,15}|\*)$/.exec(answer.headers['content-range'] ?? '');
  if (answer.status !== 206 || parts === null || Number(parts[1]) !== range.offset) {
    throw new BackupError('TARGET_ERROR', `${what}: the server does not answer the range that was asked for`);
  }
  const length = Number(parts[2]) + 1 - range.offset;
  if (length < range.length) {
    throw new BackupError(
      'RANGE_UNSATISFIABLE',
      `${what}: only ${length} of ${range.length} bytes from ${range.offset}`,
    );
  }
  if (length === range.length) return length;
  throw new BackupError('TARGET_ERROR', `${what}: the server answers more than the range that was asked for`);
}

function dateOf(value: string | string[] | undefined): Date | undefined {
  const time = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isNaN(time) ? undefined : new Date(time);
}
