import { BackupError } from '../../common/errors.ts';
import type { ChecksumWay, S3Checksums } from './s3-checksums.ts';
import { type S3Connection, statusOf } from './s3-connection.ts';

/** An object to store. */
export interface S3Put {
  /** For error messages, such as `put of object a/b in bucket c`. */
  readonly what: string;
  readonly name: string;
  readonly body: Uint8Array<ArrayBuffer>;
  readonly createOnly: boolean;
  readonly onSent: ((bytes: number) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Stores objects, and finds out what the server has of create-only puts and checksums. */
export class S3Puts {
  readonly #connection: S3Connection;
  readonly #checksums: S3Checksums;
  /** Whether the server has taken a create-only put: what it refuses later it does not refuse for that. */
  #hasCreatedOnly = false;

  constructor(connection: S3Connection, checksums: S3Checksums) {
    this.#connection = connection;
    this.#checksums = checksums;
  }

  async put(put: S3Put): Promise<void> {
    // A buffer that can shrink or grow is copied: what is sent must be what was given.
    const body = put.body.buffer.resizable ? new Uint8Array(put.body) : put.body;
    for (const way of this.#checksums.ways) {
      try {
        return await this.#once({ ...put, body }, way);
      } catch (error) {
        // Only where the server has refused the request, so that nothing was stored.
        if (this.#checksums.mayBeRefused(way, error)) continue;
        throw put.createOnly && !this.#hasCreatedOnly ? ofCreateOnly(put.what, error) : error;
      }
    }
  }

  async #once({ what, name, body, createOnly, onSent, signal }: S3Put, way: ChecksumWay): Promise<void> {
    const length = body.byteLength;
    const sums = await this.#checksums.ofBody(body, way);
    signal?.throwIfAborted();
    if (body.byteLength !== length) throw new TypeError(`${what}: the buffer of the body was detached during the call`);
    const headers: Record<string, string> = { 'content-type': 'application/octet-stream', ...sums.headers };
    if (createOnly) headers['if-none-match'] = '*';
    const { query } = sums;
    const answer = await this.#connection.send({ what, method: 'PUT', name, query, headers, body, onSent, signal });
    this.#checksums.answered(way, answer.headers);
    if (createOnly) this.#hasCreatedOnly = true;
  }
}

/** What a failed create-only put means where none has succeeded yet: servers refuse a header that they don't have. */
function ofCreateOnly(what: string, error: unknown): unknown {
  const status = statusOf(error);
  const isRefusal = status === 400 || status === 405 || status === 501;
  if (!isRefusal || !BackupError.is(error, 'TARGET_ERROR')) return error;
  const hint = 'open the repository with singleWriter where no other host writes to it, or choose another store';
  const message = `${what}: the server seems to have no If-None-Match, it answers ${status} (${hint})`;
  return new BackupError('CREATE_ONLY_UNSUPPORTED', message, { cause: error });
}
