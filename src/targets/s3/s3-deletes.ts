import { BackupError } from '../../common/errors.ts';
import { inParallel } from '../in-parallel.ts';
import { md5Of } from './s3-checksums.ts';
import { type S3Connection, statusOf } from './s3-connection.ts';
import { deleteAnswer, deleteBody } from './s3-multi-delete.ts';
import { type S3Victim, versionsOf } from './s3-versions.ts';

const MAX_DELETE_KEYS = 1000;
/** A thousand names of at most some 3 KiB each. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** How many requests one call makes at once where each object takes its own. */
const AT_ONCE = 8;

/** Deletes objects of one bucket, with all of their versions where that is asked for. */
export class S3Deletes {
  readonly #connection: S3Connection;
  readonly #bucket: string;
  readonly #withVersions: boolean;
  /** Whether the server has no request that deletes several: not every store has. */
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

  /** Rejects with the first error; others may be gone then. */
  async many(names: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const victims = this.#withVersions ? await this.#versions(names, signal) : names.map((name) => ({ name }));
    for (let start = 0; start < victims.length; start += MAX_DELETE_KEYS) {
      await this.#batch(victims.slice(start, start + MAX_DELETE_KEYS), signal);
    }
  }

  async #versions(names: readonly string[], signal: AbortSignal | undefined): Promise<S3Victim[]> {
    const found: S3Victim[] = [];
    await inParallel(names, AT_ONCE, async (name) => {
      const what = `list of the versions of ${this.#object(name)}`;
      found.push(...(await versionsOf(this.#connection, what, name, signal)));
    });
    return found;
  }

  async #batch(victims: readonly S3Victim[], signal: AbortSignal | undefined): Promise<void> {
    if (this.#onlySingly) return this.#eachSingly(victims, signal);
    try {
      await this.#together(victims, signal);
    } catch (error) {
      // A refusal of the request as a whole: the store may not have it (501, 400 or 405), or may not let this user.
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
      maxAnswerBytes: MAX_ANSWER_BYTES,
      signal,
    });
    const { failed, marked } = deleteAnswer(`delete of objects in bucket ${this.#bucket}`, answer.body);
    if (marked) this.#connection.sawVersions();
    if (failed !== undefined) throw failed;
  }

  #eachSingly(victims: readonly S3Victim[], signal: AbortSignal | undefined): Promise<void> {
    return inParallel(victims, AT_ONCE, async (victim) => {
      signal?.throwIfAborted();
      await this.#single(victim, signal);
    });
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
