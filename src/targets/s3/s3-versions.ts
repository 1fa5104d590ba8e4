import type { S3Query } from './s3-client.ts';
import type { S3Connection } from './s3-connection.ts';
import { listingOf, nameOf } from './s3-listing.ts';
import { childText } from './s3-xml.ts';

/** An object to delete, or one version of it. */
export interface S3Victim {
  readonly name: string;
  readonly versionId?: string;
}

/** A page tells of a thousand versions in at most some 3 KiB each. */
const MAX_PAGE_BYTES = 16 * 1024 * 1024;

/** All versions of an object and all marks of its deletion, the newest first. */
export async function versionsOf(
  connection: S3Connection,
  what: string,
  name: string,
  signal: AbortSignal | undefined,
): Promise<S3Victim[]> {
  const versions: S3Victim[] = [];
  let marker: S3Query = {};
  for (;;) {
    const query = { versions: '', prefix: name, 'encoding-type': 'url', 'max-keys': '1000', ...marker };
    const request = { what, method: 'GET', query, maxAnswerBytes: MAX_PAGE_BYTES, signal } as const;
    const { root, encoded, truncated } = listingOf(what, 'ListVersionsResult', (await connection.send(request)).body);
    const entries = root.children.filter((child) => child.name === 'Version' || child.name === 'DeleteMarker');
    let past = false;
    for (const entry of entries) {
      // Of the names that begin with this one it is the first; others that only begin with it come after.
      past ||= nameOf(what, entry, 'Key', encoded) !== name;
      if (!past) versions.push({ name, versionId: childText(entry, 'VersionId') || 'null' });
    }
    const next = nameOf(what, root, 'NextKeyMarker', encoded);
    if (past || !truncated || next !== name) return versions;
    const nextVersion = childText(root, 'NextVersionIdMarker') ?? '';
    if (marker['version-id-marker'] === nextVersion) return versions;
    marker = { 'key-marker': name, 'version-id-marker': nextVersion };
  }
}
