import type { ClientRequest, IncomingHttpHeaders, IncomingMessage, RequestOptions } from 'node:http';
import { BackupError } from '../common/errors.ts';
import { roomFor } from './object-range.ts';
import type { S3Client } from './s3-connection.ts';
import { plainWord, refusalOf, s3Error, withoutSecrets } from './s3-errors.ts';

/** One request to the bucket. */
export interface S3Request {
  /** For error messages, such as `put of object a/b`. */
  readonly what: string;
  readonly method: 'GET' | 'PUT' | 'HEAD' | 'POST' | 'DELETE';
  /** The object's name in the bucket; absent for the bucket itself. */
  readonly name?: string;
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
  /** The most that a successful answer may hold, in bytes. @defaultValue 64 KiB */
  readonly maxAnswerBytes?: number;
  /**
   * Looks at a successful answer before its body is read and returns how many bytes that must have, `undefined` where
   * it can't be told. What it throws ends the exchange.
   */
  readonly onHeaders?: (answer: Pick<S3Answer, 'status' | 'headers'>) => number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An answer with a status of success, read to its end. */
export interface S3Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Uint8Array<ArrayBuffer>;
}

interface Transport {
  request(options: RequestOptions, respond: (response: IncomingMessage) => void): ClientRequest;
}

/** What is known of the inside of a client besides {@link S3Client}. */
interface ClientInside extends S3Client {
  readonly transport: Transport;
  readonly accessKey?: unknown;
  readonly secretKey?: unknown;
  readonly sessionToken?: unknown;
}

/** Said to be expected, all of them: of others the client makes errors that hold every field of the server's XML. */
const EVERY_STATUS = Array.from({ length: 500 }, (_, index) => 100 + index);
const MAX_SMALL_ANSWER_BYTES = 64 * 1024;
const MAX_ERROR_BODY_BYTES = 64 * 1024;

/** How long a request may take in all where nobody says: so long, and so much longer for each byte either way. */
const TOTAL_TIMEOUT_MS = 10 * 60 * 1000;
const SLOWEST_BYTES_PER_MS = 64;

/** How long a request may take. */
export interface S3TimeLimits {
  /** Without a byte either way. */
  readonly silenceMs: number;
  /** From its beginning to its end; `undefined` for a limit that grows with the bodies. */
  readonly totalMs: number | undefined;
}

/**
 * One request and its answer, through a view of the client: an object that inherits from it and has two things of
 * its own.
 *
 * - No retries. The client would repeat a create-only PUT after a 5xx, and it could lose the race against itself.
 * - A transport that keeps hold of request and response: both are destroyed on abort and timeout, and an answer that
 *   the client throws away (those it would have retried on) can still be read, `Retry-After` above all.
 */
export class S3Exchange {
  readonly #view: ClientInside;
  readonly #limits: S3TimeLimits;
  readonly #order: S3Request;
  readonly #timedOut = Promise.withResolvers<never>();
  #timer: NodeJS.Timeout | undefined;
  #totalTimer: NodeJS.Timeout | undefined;
  readonly #begunAt = performance.now();
  #ended = false;
  #request: ClientRequest | undefined;
  #response: IncomingMessage | undefined;

  constructor(client: S3Client, limits: S3TimeLimits, order: S3Request) {
    const { transport } = client as unknown as ClientInside;
    this.#view = Object.create(client, {
      transport: { value: { request: this.#watched(transport) } },
      retryOptions: { value: { disableRetry: true } },
    });
    this.#limits = limits;
    this.#order = order;
    this.#timedOut.promise.catch(() => {});
  }

  /** Rejects with an `S3Refusal` when the server has answered anything but success. */
  async run(bucket: string, region: string): Promise<S3Answer> {
    // Until there is a socket nobody else watches the time: credentials are fetched, the agent's sockets may be taken.
    this.#timer = setTimeout(() => this.#fallSilent(), this.#limits.silenceMs);
    this.#limitTotal(0);
    return Promise.race([this.#exchange(bucket, region), this.#timedOut.promise]);
  }

  /** Leaves nothing behind: neither a timer, nor a socket waited on, nor a request that begins later. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#totalTimer);
    if (this.#response?.complete) return;
    this.#response?.destroy();
    this.#request?.destroy();
  }

  async #exchange(bucket: string, region: string): Promise<S3Answer> {
    const response = await this.#respond(bucket, region);
    const status = response.statusCode ?? 0;
    const { headers } = response;
    const successful = status >= 200 && status < 300;
    if (!successful) {
      const chunks = await this.#read(response, MAX_ERROR_BODY_BYTES);
      throw refusalOf(status, headers, joined(this.#order.what, chunks), this.#secrets());
    }
    const expected = this.#order.onHeaders?.({ status, headers });
    const most = expected ?? this.#order.maxAnswerBytes ?? MAX_SMALL_ANSWER_BYTES;
    this.#limitTotal(most);
    const chunks = await this.#read(response, most);
    const length = lengthOf(chunks);
    const { what } = this.#order;
    if (length > most) throw new BackupError('TARGET_ERROR', `${what}: the server answers more than ${most} bytes`);
    if (expected !== undefined && length < expected) {
      const message = `${what}: ${length} bytes were answered of ${expected}`;
      throw new BackupError('TARGET_UNAVAILABLE', message, { retryable: true });
    }
    return { status, headers, body: joined(what, chunks) };
  }

  async #respond(bucket: string, region: string): Promise<IncomingMessage> {
    const { method, name, query, headers, body } = this.#order;
    const options = {
      method,
      bucketName: bucket,
      headers: { ...headers },
      ...(name === undefined ? {} : { objectName: name }),
      ...(query === undefined ? {} : { query }),
    };
    const payload = body === undefined ? '' : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    try {
      return await this.#view.makeRequestAsync(options, payload, EVERY_STATUS, region);
    } catch (error) {
      if (this.#response !== undefined) return this.#response;
      throw this.#failure(error);
    }
  }

  /** The chunks of a body up to the one that goes past `maxBytes`; the connection is given up then. */
  async #read(response: IncomingMessage, maxBytes: number): Promise<Uint8Array[]> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        chunks.push(chunk);
        length += chunk.length;
        if (length > maxBytes) break;
      }
    } catch (error) {
      throw this.#failure(error); // A body cut short ends here: Node compares it with Content-Length.
    }
    return chunks;
  }

  #watched(transport: Transport): Transport['request'] {
    return (options, respond) => {
      if (this.#ended) throw new Error('given up before it was sent');
      // The timeout counts from before the socket is connected, and starts anew with every byte either way.
      const request = transport.request({ ...options, timeout: this.#limits.silenceMs }, (response) => {
        this.#response = response;
        respond(response);
      });
      this.#request = request;
      request.on('timeout', () => this.#fallSilent());
      request.once('socket', () => clearTimeout(this.#timer));
      return request;
    };
  }

  #fallSilent(): void {
    this.#timeOut(`nothing was heard of the server for ${this.#limits.silenceMs} ms`);
  }

  /** Limits the time from the beginning of the request, with an answer of at most so many bytes to come. */
  #limitTotal(answerBytes: number): void {
    const bytes = (this.#order.body?.byteLength ?? 0) + answerBytes;
    const totalMs = this.#limits.totalMs ?? TOTAL_TIMEOUT_MS + Math.ceil(bytes / SLOWEST_BYTES_PER_MS);
    clearTimeout(this.#totalTimer);
    if (this.#ended) return;
    const left = Math.max(0, this.#begunAt + totalMs - performance.now());
    this.#totalTimer = setTimeout(() => this.#timeOut(`it was not done after ${totalMs} ms`), left);
  }

  #timeOut(why: string): void {
    const message = `${this.#order.what}: ${why}`;
    this.#timedOut.reject(new BackupError('TARGET_TIMEOUT', message, { retryable: true }));
    this.end();
  }

  /** An error of the network or the client, down to what may be shown of it. */
  #failure(error: unknown): BackupError {
    const { what } = this.#order;
    const { message, code, cause } = (error ?? {}) as { message?: unknown; code?: unknown; cause?: { code?: unknown } };
    const text = withoutSecrets(typeof message === 'string' ? message : undefined, this.#secrets());
    // A credentials provider that could not reach its own server is a matter of the network, too.
    const networkCode = plainWord(code) ?? plainWord(cause?.code);
    if (networkCode !== undefined) {
      return s3Error(what, { status: undefined, code: networkCode, message: text, requestId: undefined });
    }
    if (text?.startsWith('Unable to get credentials')) {
      return new BackupError('CREDENTIALS_REFUSED', `${what}: the client's credentials provider gave none`);
    }
    return new BackupError('TARGET_ERROR', `${what}: the client could not send the request: ${text}`);
  }

  #secrets(): string[] {
    const { accessKey, secretKey, sessionToken } = this.#view;
    return [accessKey, secretKey, sessionToken].filter((secret) => typeof secret === 'string');
  }
}

function lengthOf(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

function joined(what: string, chunks: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = roomFor(what, lengthOf(chunks));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.byteLength;
  }
  return all;
}
