import type { IncomingHttpHeaders } from 'node:http';
import { abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { inRegion, type S3Client, signed } from './s3-client.ts';
import { S3Refusal } from './s3-errors.ts';
import { type S3Answer, S3Exchange, type S3Request, type S3Transport } from './s3-exchange.ts';
import { childText, parseXml } from './s3-xml.ts';

/** Where buckets are whose location is not told. */
const DEFAULT_REGION = 'us-east-1';
/** For how long the date of an answer is carried on by this machine's own clock, which may run faster or slower. */
const DATE_HOLDS_MS = 60_000;

/** Sends requests for one bucket, signed by a client that belongs to somebody else and stays as it is. */
export class S3Connection {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #transport: S3Transport;
  #region: string | undefined;
  #versioned = false;
  #seen: { readonly date: number; readonly at: number } | undefined;

  constructor(client: S3Client, bucket: string, transport: Omit<S3Transport, 'onAnswer'>) {
    this.#client = client;
    this.#bucket = bucket;
    this.#transport = { ...transport, onAnswer: (headers) => this.#learn(headers) };
  }

  /** Whether an answer has shown that the bucket keeps versions. */
  get versioned(): boolean {
    return this.#versioned;
  }

  /** Told where only the body of an answer says so. */
  sawVersions(): void {
    this.#versioned = true;
  }

  /** What the server's clock shows now: the date of its last answer and what has passed since. */
  storeTime(): Date | undefined {
    if (this.#seen === undefined) return undefined;
    const sinceMs = performance.now() - this.#seen.at;
    return sinceMs > DATE_HOLDS_MS ? undefined : new Date(this.#seen.date + Math.floor(sinceMs));
  }

  /** Resolves with an answer of status 2xx, or rejects with a `BackupError` or with the signal's reason. */
  async send(request: S3Request): Promise<S3Answer> {
    try {
      const region = await this.#regionOf(request);
      return await this.#exchange(request, region);
    } catch (error) {
      if (!(error instanceof S3Refusal)) throw error;
      // Perhaps the bucket has moved: the next request goes where the server says, or asks again.
      if ([301, 307, 400].includes(error.failure.status ?? 0)) this.#region = error.failure.region;
      throw error.toBackupError();
    }
  }

  async #exchange(request: S3Request, region: string): Promise<S3Answer> {
    const exchange = new S3Exchange(this.#transport, request);
    const { what, method, name = '', query = {} } = request;
    const sign = () => signed(inRegion(this.#client, region), what, { method, bucket: this.#bucket, name, query });
    try {
      return await abortable(exchange.run(sign), request.signal);
    } finally {
      exchange.end();
    }
  }

  /** The region that requests must be signed for: the client's own, or what the bucket says. */
  async #regionOf({ what, signal }: S3Request): Promise<string> {
    if (this.#client.region) return this.#client.region;
    this.#region ??= await this.#lookUpRegion(`${what}, looking up the region of the bucket`, signal);
    return this.#region;
  }

  async #lookUpRegion(what: string, signal: AbortSignal | undefined): Promise<string> {
    const lookup: S3Request = { what, method: 'GET', query: { location: '' }, signal };
    try {
      return locationOf(await this.#exchange(lookup, DEFAULT_REGION));
    } catch (error) {
      if (!(error instanceof S3Refusal)) throw error;
      const { code, retryable } = error.toBackupError();
      if (retryable || DECISIVE.has(code)) throw error;
      // A server that has no such request, or does not answer it to this user. If the region is wrong the next answer says so.
      return error.failure.region ?? DEFAULT_REGION;
    }
  }

  #learn(headers: IncomingHttpHeaders): void {
    const version = headers['x-amz-version-id'];
    if ((version !== undefined && version !== 'null') || headers['x-amz-delete-marker'] === 'true') this.sawVersions();
    const date = Date.parse(headers.date ?? '');
    if (!Number.isNaN(date)) this.#seen = { date, at: performance.now() };
  }
}

/** Refusals of `GetBucketLocation` that any other request would meet as well. */
const DECISIVE = new Set(['BUCKET_NOT_FOUND', 'CREDENTIALS_REFUSED', 'CLOCK_SKEWED']);

function locationOf(answer: S3Answer): string {
  const root = parseXml(new TextDecoder().decode(answer.body));
  // The element is the root of the answer, or, from some servers, within it.
  const text =
    root?.name === 'LocationConstraint' && root.text === '' ? childText(root, 'LocationConstraint') : root?.text;
  const region = text?.trim() ?? '';
  if (region === 'EU') return 'eu-west-1';
  return /^[\w-]{1,64}$/.test(region) ? region : DEFAULT_REGION;
}

/** The status that an error of {@link S3Connection.send} is about, `undefined` where there was no answer. */
export function statusOf(error: unknown): number | undefined {
  const cause = BackupError.is(error) ? (error.cause as { status?: unknown } | undefined) : undefined;
  return typeof cause?.status === 'number' ? cause.status : undefined;
}
