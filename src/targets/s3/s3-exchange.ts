import http, { type Agent, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { BackupError } from '../../common/errors.ts';
import { roomFor } from '../object-range.ts';
import type { S3Query, S3SignedRequest } from './s3-client.ts';
import { plainWord, refusalOf, s3Error, withoutSecrets } from './s3-errors.ts';

/** One request to the bucket. */
export interface S3Request {
  /** For error messages, such as `put of object a/b in bucket c`. */
  readonly what: string;
  readonly method: 'GET' | 'PUT' | 'HEAD' | 'POST' | 'DELETE';
  /** The object's name in the bucket; absent for the bucket itself. */
  readonly name?: string;
  /** Signed, so also the place of what would be a header that begins with `x-amz-`: servers refuse unsigned ones. */
  readonly query?: S3Query;
  /** Sent unsigned. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
  /** Hears of bytes of the body as the system takes them, each time how many more. */
  readonly onSent?: ((bytes: number) => void) | undefined;
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

const MAX_SMALL_ANSWER_BYTES = 64 * 1024;
const MAX_ERROR_BODY_BYTES = 64 * 1024;
const SLICE_BYTES = 256 * 1024;

/** How long a request may take in all where nobody says: so long, and so much longer for each byte either way. */
const TOTAL_TIMEOUT_MS = 10 * 60 * 1000;
const SLOWEST_BYTES_PER_MS = 64;

/** What is the same for all requests of a target. */
export interface S3Transport {
  /** How long a request may go without a byte either way. */
  readonly silenceMs: number;
  /** How long it may take from its beginning to its end; `undefined` for a limit that grows with the bodies. */
  readonly totalMs: number | undefined;
  /** Node's own where there is none. */
  readonly agent: Agent | undefined;
  /** Hears the headers of every answer, whatever its status. */
  readonly onAnswer: (headers: IncomingHttpHeaders) => void;
}

/**
 * One request and its answer over Node's HTTP. Nothing is repeated here, no redirect followed: a create-only PUT that is
 * sent again could lose the race against itself. Request and response are destroyed on abort and timeout.
 */
export class S3Exchange {
  readonly #transport: S3Transport;
  readonly #order: S3Request;
  readonly #bodyLength: number;
  readonly #timedOut = Promise.withResolvers<never>();
  #what: string;
  #secrets: readonly string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #totalTimer: NodeJS.Timeout | undefined;
  readonly #begunAt = performance.now();
  #ended = false;
  #request: ClientRequest | undefined;
  #response: IncomingMessage | undefined;

  constructor(transport: S3Transport, order: S3Request) {
    this.#transport = transport;
    this.#order = order;
    this.#what = order.what;
    this.#bodyLength = order.body?.byteLength ?? 0;
    this.#timedOut.promise.catch(() => {});
  }

  /** Rejects with an `S3Refusal` when the server has answered anything but success. */
  async run(sign: () => Promise<S3SignedRequest>): Promise<S3Answer> {
    // Until there is a socket nobody else watches the time: credentials are fetched, the agent's sockets may be taken.
    this.#timer = setTimeout(() => this.#fallSilent(), this.#transport.silenceMs);
    this.#limitTotal(0);
    return Promise.race([this.#exchange(sign), this.#timedOut.promise]);
  }

  /** Leaves nothing behind: neither a timer, nor a socket waited on, nor a request that begins later. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#totalTimer);
    if (this.#response?.complete && this.#request?.writableFinished) return;
    this.#response?.destroy();
    this.#request?.destroy();
  }

  async #exchange(sign: () => Promise<S3SignedRequest>): Promise<S3Answer> {
    const response = await this.#respond(await this.#signed(sign));
    const status = response.statusCode ?? 0;
    const { headers } = response;
    this.#transport.onAnswer(headers);
    if (status < 200 || status >= 300) {
      const chunks = await this.#read(response, MAX_ERROR_BODY_BYTES);
      throw refusalOf(this.#what, status, headers, joined(this.#what, chunks), this.#secrets);
    }
    const expected = this.#order.onHeaders?.({ status, headers });
    const most = expected ?? this.#order.maxAnswerBytes ?? MAX_SMALL_ANSWER_BYTES;
    this.#limitTotal(most);
    const chunks = await this.#read(response, most);
    const length = lengthOf(chunks);
    const what = this.#what;
    if (length > most) throw new BackupError('TARGET_ERROR', `${what}: the server answers more than ${most} bytes`);
    if (expected !== undefined && length < expected) {
      const message = `${what}: ${length} bytes were answered of ${expected}`;
      throw new BackupError('TARGET_UNAVAILABLE', message, { retryable: true });
    }
    return { status, headers, body: joined(what, chunks) };
  }

  async #signed(sign: () => Promise<S3SignedRequest>): Promise<S3SignedRequest> {
    let request: S3SignedRequest;
    try {
      request = await sign();
    } catch (error) {
      throw signingFailure(this.#what, error);
    }
    this.#secrets = request.secrets;
    this.#what = `${this.#order.what} at ${request.protocol}//${request.host}`;
    if (this.#ended) throw new BackupError('TARGET_ERROR', `${this.#what}: given up before it was sent`);
    return request;
  }

  #respond({ protocol, host, hostname, port, path }: S3SignedRequest): Promise<IncomingMessage> {
    const { method, headers, body } = this.#order;
    const length = this.#bodyLength;
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    try {
      const request = (protocol === 'https:' ? https : http).request({
        method,
        hostname,
        path,
        // The timeout counts from before the socket is connected, and starts anew with every byte either way.
        timeout: this.#transport.silenceMs,
        headers: { ...headers, host, ...(body === undefined ? {} : { 'content-length': length }) },
        ...(port === undefined ? {} : { port }),
        ...(this.#transport.agent === undefined ? {} : { agent: this.#transport.agent }),
      });
      this.#request = request;
      request.on('timeout', () => this.#fallSilent());
      request.once('socket', () => clearTimeout(this.#timer));
      request.on('error', (error) => reject(this.#networkFailure(error)));
      request.once('response', (response) => {
        this.#response = response;
        resolve(response);
      });
      if (length === 0) request.end();
      else this.#send(request, body as Uint8Array<ArrayBuffer>);
    } catch (error) {
      const said = withoutSecrets((error as Error | undefined)?.message, this.#secrets);
      reject(new BackupError('TARGET_ERROR', `${this.#what}: Node can't send this request: ${said}`));
    }
    return promise;
  }

  /** Slice by slice, the next one when the system has taken the one before. */
  #send(request: ClientRequest, body: Uint8Array<ArrayBuffer>, start = 0): void {
    // Looked at again each time: what is sent must be what was given. The server does not take a body that ends early.
    if (body.byteLength !== this.#bodyLength) {
      request.destroy(new TypeError('the buffer of the body was detached during the call'));
      return;
    }
    const slice = body.subarray(start, start + SLICE_BYTES);
    const next = start + slice.byteLength;
    const taken = () => this.#order.onSent?.(slice.byteLength);
    if (next === body.byteLength) {
      request.end(slice, taken);
      return;
    }
    request.write(slice, (error) => {
      if (error) return; // The request has failed, and says so itself.
      taken();
      this.#send(request, body, next);
    });
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
      throw this.#networkFailure(error); // A body cut short ends here: Node compares it with Content-Length.
    }
    return chunks;
  }

  #fallSilent(): void {
    this.#timeOut(`nothing was heard of the server for ${this.#transport.silenceMs} ms`);
  }

  /** Limits the time from the beginning of the request, with an answer of at most so many bytes to come. */
  #limitTotal(answerBytes: number): void {
    const bytes = this.#bodyLength + answerBytes;
    const totalMs = this.#transport.totalMs ?? TOTAL_TIMEOUT_MS + Math.ceil(bytes / SLOWEST_BYTES_PER_MS);
    clearTimeout(this.#totalTimer);
    if (this.#ended) return;
    const left = Math.max(0, this.#begunAt + totalMs - performance.now());
    this.#totalTimer = setTimeout(() => this.#timeOut(`it was not done after ${totalMs} ms`), left);
  }

  #timeOut(why: string): void {
    const message = `${this.#what}: ${why}`;
    this.#timedOut.reject(new BackupError('TARGET_TIMEOUT', message, { retryable: true }));
    this.end();
  }

  #networkFailure(error: unknown): unknown {
    if (error instanceof TypeError) return new TypeError(`${this.#what}: ${error.message}`);
    return networkError(this.#what, error, this.#secrets);
  }
}

/** An error of the network, down to what may be shown of it. */
function networkError(what: string, error: unknown, secrets: readonly string[]): BackupError {
  const { message, code } = (error ?? {}) as { message?: unknown; code?: unknown };
  const text = withoutSecrets(typeof message === 'string' ? message : undefined, secrets);
  return s3Error(what, { status: undefined, code: plainWord(code), message: text, requestId: undefined });
}

/** What the client says when it has nothing to sign with. */
const NO_CREDENTIALS = /^Unable to get credentials|anonymous|(?:access|secret)Key is required/i;

/** Codes of Node and of its `fetch`. Others, such as that of a missing file, say that the provider has no credentials. */
const OF_THE_NETWORK = /^(?:E(?:CONN\w+|HOST\w+|NET\w+|PIPE|AI_\w+|NOTFOUND|TIMEDOUT)|UND_ERR_\w+)$/;

/** Why the client could not sign, down to what may be shown of it. */
function signingFailure(what: string, error: unknown): BackupError {
  if (BackupError.is(error)) return error;
  const { message, code, cause } = (error ?? {}) as { message?: unknown; code?: unknown; cause?: { code?: unknown } };
  // A credentials provider that could not reach its own server is a matter of the network, too.
  const networkCode = [plainWord(code), plainWord(cause?.code)].find((each) => OF_THE_NETWORK.test(each ?? ''));
  if (networkCode !== undefined)
    return networkError(`${what}, fetching credentials`, { code: networkCode, message }, []);
  const said = withoutSecrets(typeof message === 'string' ? message : undefined, []);
  if (NO_CREDENTIALS.test(said ?? '')) {
    const hint = 'give the client an access key and a secret key, or a credentialsProvider that answers';
    return new BackupError('CREDENTIALS_REFUSED', `${what}: the client has no credentials to sign with (${hint})`);
  }
  return new BackupError('TARGET_ERROR', `${what}: the client can't sign the request: ${said}`);
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
