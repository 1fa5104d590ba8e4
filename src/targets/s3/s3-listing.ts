import { BackupError } from '../../common/errors.ts';
import type { ObjectInfo } from '../cloud-target.ts';
import type { S3Query } from './s3-client.ts';
import { childText, parseXml, type XmlElement } from './s3-xml.ts';

/** One page of `ListObjectsV2`, with full names. */
export interface S3ListPage {
  readonly objects: readonly ObjectInfo[];
  /** Asks for the next page; undefined on the last. */
  readonly nextToken: string | undefined;
}

/** The query of a page. */
export function listQuery(prefix: string, after: string | undefined, token: string | undefined): S3Query {
  return {
    'encoding-type': 'url', // Names may hold characters that XML can't.
    'list-type': '2',
    'max-keys': '1000',
    prefix,
    ...(token !== undefined ? { 'continuation-token': token } : after ? { 'start-after': after } : {}),
  };
}

/** Reads a page. One that is not whole, or says that there is more but not where, is an error and never the end. */
export function parseListPage(what: string, body: Uint8Array): S3ListPage {
  const { root, encoded, truncated } = listingOf(what, 'ListBucketResult', body);
  const objects = root.children
    .filter(({ name }) => name === 'Contents')
    .map((entry) => objectOf(what, entry, encoded));
  const nextToken = truncated ? childText(root, 'NextContinuationToken') : undefined;
  if (truncated && !nextToken) throw unreadable(what, 'a page says that there are more, but not where');
  return { objects, nextToken };
}

/** The document of a page of any listing. */
export function listingOf(
  what: string,
  name: string,
  body: Uint8Array,
): { readonly root: XmlElement; readonly encoded: boolean; readonly truncated: boolean } {
  const root = parseXml(new TextDecoder().decode(body));
  if (root?.name !== name) throw unreadable(what, 'the page of the listing is not whole');
  const truncated = childText(root, 'IsTruncated');
  if (truncated !== 'true' && truncated !== 'false')
    throw unreadable(what, 'a page does not say whether it is the last');
  return { root, encoded: childText(root, 'EncodingType') === 'url', truncated: truncated === 'true' };
}

/** The name of an object in a child of an element, decoded; `undefined` where there is none. */
export function nameOf(what: string, element: XmlElement, child: string, encoded: boolean): string | undefined {
  const name = childText(element, child);
  return name && encoded ? decodeName(what, name) : name;
}

function objectOf(what: string, entry: XmlElement, encoded: boolean): ObjectInfo {
  const key = nameOf(what, entry, 'Key', encoded);
  const size = childText(entry, 'Size');
  const modified = Date.parse(childText(entry, 'LastModified') ?? '');
  if (!key || size === undefined || !/^\d{1,15}$/.test(size)) throw unreadable(what, 'an entry has no key or no size');
  return {
    key,
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
