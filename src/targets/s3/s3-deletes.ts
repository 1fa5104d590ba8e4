import { BackupError } from '../../common/errors.ts';
import { forEachConcurrently } from '../../common/map-concurrently.ts';
import { listingOf, nameOf } from './s3-answers.ts';
import type { S3Query } from './s3-client.ts';
import { type S3Connection, statusOf } from './s3-connection.ts';
import { plainWord, s3Error, withoutSecrets } from './s3-errors.ts';
import { md5Of } from './s3-puts.ts';
import { childText, escapeXml, MAX_XML_BYTES, parseXml, type XmlElement } from './s3-xml.ts';

const MAX_DELETE_KEYS = 1000;
/** The number of requests that are under way at once when each object takes its own request. */
const REQUESTS_AT_ONCE = 8;

/** An object to delete, or one version of it. */
interface S3Victim {
  readonly name: string;
  readonly versionId?: string;
}

/** Deletes objects of one bucket, on demand with all of their versions. */
export class S3Deletes {
  readonly #connection: S3Connection;
  readonly #bucket: string;
  readonly #withVersions: boolean;
  /** Whether the server is known to have no request that deletes several objects. */
  #onlySingly = false;

  constructor(connection: S3Connection, bucket: string, withVersions: boolean) {
    this.#connection = connection;
    this.#bucket = bucket;
    this.#withVersions = withVersions;
  }

  async one(name: string, signal: AbortSignal | undefined): Promise<void> {
    if (this.#withVersions) return this.many([name], signal);
    return this.#single({ name }, signal);
  }

  /** Rejects with the first error. Other objects may have been deleted then. */
  async many(names: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const victims = this.#withVersions ? await this.#versions(names, signal) : names.map((name) => ({ name }));
    for (let start = 0; start < victims.length; start += MAX_DELETE_KEYS) {
      await this.#batch(victims.slice(start, start + MAX_DELETE_KEYS), signal);
    }
  }

  async #versions(names: readonly string[], signal: AbortSignal | undefined): Promise<S3Victim[]> {
    const found: S3Victim[] = [];
    await forEachConcurrently(
      names,
      async (name) => {
        const what = `list of the versions of ${this.#object(name)}`;
        found.push(...(await versionsOf(this.#connection, what, name, signal)));
      },
      REQUESTS_AT_ONCE,
    );
    return found;
  }

  async #batch(victims: readonly S3Victim[], signal: AbortSignal | undefined): Promise<void> {
    if (this.#onlySingly) return this.#eachSingly(victims, signal);
    try {
      await this.#together(victims, signal);
    } catch (error) {
      // The request was refused as a whole: the store has no such request (501, 400 or 405), or forbids it to this user.
      const status = statusOf(error) ?? 0;
      if (status < 300 || !BackupError.is(error) || error.retryable) throw error;
      await this.#eachSingly(victims, signal);
      this.#onlySingly = true;
    }
  }

  async #together(victims: readonly S3Victim[], signal: AbortSignal | undefined): Promise<void> {
    const body = deleteBody(victims);
    const headers = { 'content-md5': await md5Of(body), 'content-type': 'application/xml' };
    const answer = await this.#connection.send({
      what: `delete of ${victims.length} objects in bucket ${this.#bucket}`,
      method: 'POST',
      query: { delete: '' },
      headers,
      body,
      maxAnswerBytes: MAX_XML_BYTES,
      signal,
    });
    const { failed, marked } = deleteAnswer(`delete of objects in bucket ${this.#bucket}`, answer.body);
    if (marked) this.#connection.sawVersions();
    if (failed !== undefined) throw failed;
  }

  #eachSingly(victims: readonly S3Victim[], signal: AbortSignal | undefined): Promise<void> {
    return forEachConcurrently(
      victims,
      async (victim) => {
        signal?.throwIfAborted();
        await this.#single(victim, signal);
      },
      REQUESTS_AT_ONCE,
    );
  }

  async #single({ name, versionId }: S3Victim, signal: AbortSignal | undefined): Promise<void> {
    const what = `delete of ${this.#object(name)}`;
    const query = versionId === undefined ? {} : { versionId };
    try {
      await this.#connection.send({ what, method: 'DELETE', name, query, signal });
    } catch (error) {
      if (!BackupError.is(error, 'OBJECT_NOT_FOUND')) throw error;
    }
  }

  #object(name: string): string {
    return `object ${name} in bucket ${this.#bucket}`;
  }
}

/** The body of a request that deletes several objects. */
function deleteBody(victims: readonly S3Victim[]): Uint8Array<ArrayBuffer> {
  const objects = victims.map(({ name, versionId }) => {
    const version = versionId === undefined ? '' : `<VersionId>${escapeXml(versionId)}</VersionId>`;
    return `<Object><Key>${escapeXml(name)}</Key>${version}</Object>`;
  });
  const xmlns = 'http://s3.amazonaws.com/doc/2006-03-01/';
  // `Quiet` is false because the answer then says which deletions have only added a delete marker.
  return new TextEncoder().encode(`<Delete xmlns="${xmlns}"><Quiet>false</Quiet>${objects.join('')}</Delete>`);
}

/**
 * What the answer to such a request says. Its status is 200 even if objects were not deleted.
 *
 * @returns the error of the first object that was not deleted, and whether an object has only got a delete marker
 */
function deleteAnswer(
  what: string,
  body: Uint8Array,
): { readonly failed: BackupError | undefined; readonly marked: boolean } {
  const root = parseXml(new TextDecoder().decode(body));
  if (root?.name === 'Error') return { failed: failure(what, root), marked: false };
  if (root?.name !== 'DeleteResult') {
    const failed = new BackupError('TARGET_UNAVAILABLE', `${what}: the answer is not whole`, { retryable: true });
    return { failed, marked: false };
  }
  const marked = root.children.some(
    (child) =>
      child.name === 'Deleted' && childText(child, 'DeleteMarker') === 'true' && !childText(child, 'VersionId'),
  );
  const failed = root.children.filter((child) => child.name === 'Error' && childText(child, 'Code') !== 'NoSuchKey');
  const [first] = failed;
  if (first === undefined) return { failed: undefined, marked };
  const name = childText(first, 'Key')?.slice(0, 200);
  return { failed: failure(`${what}, of which ${failed.length} failed, the first one ${name}`, first), marked };
}

function failure(what: string, error: XmlElement): BackupError {
  const message = withoutSecrets(childText(error, 'Message'), []);
  return s3Error(what, { status: 200, code: plainWord(childText(error, 'Code')), message, requestId: undefined });
}

/** All versions and delete markers of an object, the newest first. */
async function versionsOf(
  connection: S3Connection,
  what: string,
  name: string,
  signal: AbortSignal | undefined,
): Promise<S3Victim[]> {
  const versions: S3Victim[] = [];
  let marker: S3Query = {};
  for (;;) {
    const query = { versions: '', prefix: name, 'encoding-type': 'url', 'max-keys': '1000', ...marker };
    const request = { what, method: 'GET', query, maxAnswerBytes: MAX_XML_BYTES, signal } as const;
    const { root, encoded, truncated } = listingOf(what, 'ListVersionsResult', (await connection.send(request)).body);
    const entries = root.children.filter((child) => child.name === 'Version' || child.name === 'DeleteMarker');
    let past = false;
    for (const entry of entries) {
      // The listing holds all names that begin with this one, which is the first of them.
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
