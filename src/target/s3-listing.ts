import { BackupError } from '../common/errors.ts';
import type { ObjectInfo } from './cloud-target.ts';
import { childText, parseXml, type XmlElement } from './s3-xml.ts';

/** One page of `ListObjectsV2`, with full names. */
export interface S3ListPage {
  readonly objects: readonly ObjectInfo[];
  /** Asks for the next page; undefined on the last. */
  readonly nextToken: string | undefined;
}

/** The query of a page, in the order in which it is signed. */
export function listQuery(prefix: string, after: string | undefined, token: string | undefined): string {
  const fields: [name: string, value: string][] = [
    ['encoding-type', 'url'], // Names may hold characters that XML can't.
    ['list-type', '2'],
    ['max-keys', '1000'],
    ['prefix', prefix],
  ];
  if (token !== undefined) fields.push(['continuation-token', token]);
  else if (after) fields.push(['start-after', after]);
  return fields
    .map(([name, value]) => `${name}=${escapeQuery(value)}`)
    .sort()
    .join('&');
}

/** Reads a page. One that is not whole, or says that there is more but not where, is an error and never the end. */
export function parseListPage(what: string, body: Uint8Array): S3ListPage {
  const root = parseXml(new TextDecoder().decode(body));
  if (root?.name !== 'ListBucketResult') throw unreadable(what, 'the page of the listing is not whole');
  const encoded = childText(root, 'EncodingType') === 'url';
  const objects = root.children
    .filter(({ name }) => name === 'Contents')
    .map((entry) => objectOf(what, entry, encoded));
  const truncated = childText(root, 'IsTruncated');
  if (truncated !== 'true' && truncated !== 'false')
    throw unreadable(what, 'a page does not say whether it is the last');
  const nextToken = truncated === 'true' ? childText(root, 'NextContinuationToken') : undefined;
  if (truncated === 'true' && !nextToken) throw unreadable(what, 'a page says that there are more, but not where');
  return { objects, nextToken };
}

function objectOf(what: string, entry: XmlElement, encoded: boolean): ObjectInfo {
  const name = childText(entry, 'Key');
  const size = childText(entry, 'Size');
  const modified = Date.parse(childText(entry, 'LastModified') ?? '');
  if (!name || size === undefined || !/^\d{1,15}$/.test(size)) throw unreadable(what, 'an entry has no key or no size');
  return {
    key: encoded ? decodeName(what, name) : name,
    size: Number(size),
    ...(Number.isNaN(modified) ? {} : { modifiedAt: new Date(modified) }),
  };
}

function decodeName(what: string, name: string): string {
  try {
    return decodeURIComponent(name.replaceAll('+', ' '));
  } catch (cause) {
    throw unreadable(what, 'a key is not URL-encoded as it should be', cause);
  }
}

/** May pass by itself: a proxy that cut an answer may not cut the next. */
function unreadable(what: string, why: string, cause?: unknown): BackupError {
  return new BackupError('TARGET_UNAVAILABLE', `${what}: ${why}`, { retryable: true, cause });
}

function escapeQuery(value: string): string {
  return encodeURIComponent(value).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
