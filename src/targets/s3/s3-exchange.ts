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
  /** The signed parameters. Fields whose names begin with `x-amz-` belong here, because servers refuse unsigned ones. */
  readonly query?: S3Query;
  /** Headers, which are not signed. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
  /** Called with the number of further bytes of the body that the system has taken. */
  readonly onSent?: ((bytes: number) => void) | undefined;
  /** The longest body of a successful answer, in bytes. @defaultValue 64 KiB */
  readonly maxAnswerBytes?: number;
  /**
   * Called with a successful answer before its body is read. It returns the length that the body must have, or `undefined` if
   * it can't be known. If it throws, the exchange ends.
   */
  readonly onHeaders?: (answer: Pick<S3Answer, 'status' | 'headers'>) => number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An answer with a status of success, whose body has been read completely. */
export interface S3Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Uint8Array<ArrayBuffer>;
}

const MAX_SMALL_ANSWER_BYTES = 64 * 1024;
const MAX_ERROR_BODY_BYTES = 64 * 1024;
const SLICE_BYTES = 256 * 1024;

/** The default limit for the whole request is this time, and the time that the bodies take at this rate. */
const TOTAL_TIMEOUT_MS = 10 * 60 * 1000;
const SLOWEST_BYTES_PER_MS = 64;

/** The settings that all requests of a target have in common. */
export interface S3Transport {
  /** How long a request may pass without a byte in either direction. */
  readonly silenceMs: number;
  /** How long a request may take as a whole; `undefined` for a limit that grows with the bodies. */
  readonly totalMs: number | undefined;
  /** `undefined` for Node's global agent. */
  readonly agent: Agent | undefined;
  /** Called with the headers of every answer, whatever its status. */
  readonly onAnswer: (headers: IncomingHttpHeaders) => void;
}

/**
 * One request and its answer over Node's HTTP. It never repeats a request and follows no redirect, because a create-only PUT
 * that is sent twice can lose the race against itself. Request and response are destroyed on abort and timeout.
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

  /** Rejects with an `S3Refusal` if the status of the answer is not one of success. */
  async run(sign: () => Promise<S3SignedRequest>): Promise<S3Answer> {
    // Node's timeout begins with the socket. Until then this timer counts: the client may be fetching credentials, and all
    // sockets of the agent may be in use.
    this.#timer = setTimeout(() => this.#fallSilent(), this.#transport.silenceMs);
    this.#limitTotal(0);
    return Promise.race([this.#exchange(sign), this.#timedOut.promise]);
  }

  /** Releases everything: no timer, no waiting socket and no request that begins later is left. */
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
      const message = `${what}: the answer has ${length} of ${expected} bytes`;
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
    if (this.#ended)
      throw new BackupError('TARGET_ERROR', `${this.#what}: the request was abandoned before it was sent`);
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
        // The timeout counts from before the socket is connected, and restarts with every byte in either direction.
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

  /** Sends a body in slices, each after the system has taken the one before. */
  #send(request: ClientRequest, body: Uint8Array<ArrayBuffer>, start = 0): void {
    // Checked before each slice: the buffer must not have been detached. The server refuses a body that ends early.
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
      if (error) return; // The request emits the error, too.
      taken();
      this.#send(request, body, next);
    });
  }

  /** Reads the chunks of a body, and stops with the one that exceeds `maxBytes`, which closes the connection. */
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
      throw this.#networkFailure(error); // This includes a body that was cut off: Node compares it with Content-Length.
    }
    return chunks;
  }

  #fallSilent(): void {
    this.#timeOut(`the server has sent nothing for ${this.#transport.silenceMs} ms`);
  }

  /** Limits the time of the whole request, given the longest answer that may come. */
  #limitTotal(answerBytes: number): void {
    const bytes = this.#bodyLength + answerBytes;
    const totalMs = this.#transport.totalMs ?? TOTAL_TIMEOUT_MS + Math.ceil(bytes / SLOWEST_BYTES_PER_MS);
    clearTimeout(this.#totalTimer);
    if (this.#ended) return;
    const left = Math.max(0, this.#begunAt + totalMs - performance.now());
    this.#totalTimer = setTimeout(() => this.#timeOut(`the request was not complete after ${totalMs} ms`), left);
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

/** Makes the error for a failure of the network, without secrets. */
function networkError(what: string, error: unknown, secrets: readonly string[]): BackupError {
  const { message, code } = (error ?? {}) as { message?: unknown; code?: unknown };
  const text = withoutSecrets(typeof message === 'string' ? message : undefined, secrets);
  return s3Error(what, { status: undefined, code: plainWord(code), message: text, requestId: undefined });
}

/** The messages of the client when it has no credentials. */
const NO_CREDENTIALS = /^Unable to get credentials|anonymous|(?:access|secret)Key is required/i;

/** Codes of Node's network layer and of its `fetch`. Others, such as that of a missing file, are no failures of the network. */
const OF_THE_NETWORK = /^(?:E(?:CONN\w+|HOST\w+|NET\w+|PIPE|AI_\w+|NOTFOUND|TIMEDOUT)|UND_ERR_\w+)$/;

/** Makes the error for a client that could not sign, without secrets. */
function signingFailure(what: string, error: unknown): BackupError {
  if (BackupError.is(error)) return error;
  const { message, code, cause } = (error ?? {}) as { message?: unknown; code?: unknown; cause?: { code?: unknown } };
  // A credentials provider may have failed to reach its own server.
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
