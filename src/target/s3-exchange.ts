import type { ClientRequest, IncomingHttpHeaders, IncomingMessage, RequestOptions } from 'node:http';
import { BackupError } from '../common/errors.ts';
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
  /** Looks at a successful answer before its body is read. What it throws ends the exchange. */
  readonly onHeaders?: (answer: Pick<S3Answer, 'status' | 'headers'>) => void;
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
const MAX_ERROR_BODY_BYTES = 64 * 1024;

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
  readonly #timeoutMs: number;
  readonly #order: S3Request;
  readonly #timedOut = Promise.withResolvers<never>();
  #timer: NodeJS.Timeout | undefined;
  #ended = false;
  #request: ClientRequest | undefined;
  #response: IncomingMessage | undefined;

  constructor(client: S3Client, timeoutMs: number, order: S3Request) {
    const { transport } = client as unknown as ClientInside;
    this.#view = Object.create(client, {
      transport: { value: { request: this.#watched(transport) } },
      retryOptions: { value: { disableRetry: true } },
    });
    this.#timeoutMs = timeoutMs;
    this.#order = order;
    this.#timedOut.promise.catch(() => {});
  }

  /** Rejects with an `S3Refusal` when the server has answered anything but success. */
  async run(bucket: string, region: string): Promise<S3Answer> {
    // Until there is a socket nobody else watches the time: credentials are fetched, the agent's sockets may be taken.
    this.#timer = setTimeout(() => this.#timeOut(), this.#timeoutMs);
    return Promise.race([this.#exchange(bucket, region), this.#timedOut.promise]);
  }

  /** Leaves nothing behind: neither a timer, nor a socket waited on, nor a request that begins later. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    if (this.#response?.complete) return;
    this.#response?.destroy();
    this.#request?.destroy();
  }

  async #exchange(bucket: string, region: string): Promise<S3Answer> {
    const response = await this.#respond(bucket, region);
    const status = response.statusCode ?? 0;
    const { headers } = response;
    const successful = status >= 200 && status < 300;
    if (successful) this.#order.onHeaders?.({ status, headers });
    const body = await this.#read(response, successful ? Number.POSITIVE_INFINITY : MAX_ERROR_BODY_BYTES);
    if (successful) return { status, headers, body };
    throw refusalOf(status, headers, body, this.#secrets());
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

  async #read(response: IncomingMessage, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
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
    const body = new Uint8Array(length);
    let at = 0;
    for (const chunk of chunks) {
      body.set(chunk, at);
      at += chunk.length;
    }
    return body;
  }

  #watched(transport: Transport): Transport['request'] {
    return (options, respond) => {
      if (this.#ended) throw new Error('given up before it was sent');
      // The timeout counts from before the socket is connected, and starts anew with every byte either way.
      const request = transport.request({ ...options, timeout: this.#timeoutMs }, (response) => {
        this.#response = response;
        respond(response);
      });
      this.#request = request;
      request.on('timeout', () => this.#timeOut());
      request.once('socket', () => clearTimeout(this.#timer));
      return request;
    };
  }

  #timeOut(): void {
    const message = `${this.#order.what}: nothing was heard of the server for ${this.#timeoutMs} ms`;
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
