import type { IncomingHttpHeaders } from 'node:http';
import { abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { inRegion, type S3Client, signed } from './s3-client.ts';
import { S3Refusal } from './s3-errors.ts';
import { type S3Answer, S3Exchange, type S3Request, type S3Transport } from './s3-exchange.ts';
import { childText, parseXml } from './s3-xml.ts';

/** The region of buckets whose location is unknown. */
const DEFAULT_REGION = 'us-east-1';
/** How long after an answer its date is extrapolated by this machine's clock, which may run faster or slower. */
const DATE_HOLDS_MS = 60_000;

/** Sends requests for one bucket. They are signed by the host's client, which is never changed. */
export class S3Connection {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #transport: S3Transport;
  #region: string | undefined;
  #versioned = false;
  /** The date of the last answer, and when it arrived by the monotonic clock. */
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

  /** Must be called when the body of an answer shows that the bucket keeps versions. */
  sawVersions(): void {
    this.#versioned = true;
  }

  /** The time of the server's clock: the date of its last answer, plus the time since. */
  storeTime(): Date | undefined {
    if (this.#seen === undefined) return undefined;
    const sinceMs = performance.now() - this.#seen.at;
    return sinceMs > DATE_HOLDS_MS ? undefined : new Date(this.#seen.date + Math.floor(sinceMs));
  }

  /** Resolves with an answer of status 2xx, or rejects with a `BackupError` or with the signal's reason. */
  async send(request: S3Request): Promise<S3Answer> {
    try {
      return await this.#exchange(request, await this.#regionOf(request));
    } catch (error) {
      if (!(error instanceof S3Refusal)) throw error;
      // The bucket may have moved. The next request uses the region that the server has named, or looks it up again.
      if ([301, 307, 400].includes(error.failure.status ?? 0)) this.#region = error.failure.region;
      throw error.toBackupError();
    }
  }

  async #exchange(request: S3Request, region: string): Promise<S3Answer> {
    const exchange = new S3Exchange(this.#transport, request);
    const { what, method, name = '', query = {} } = request;
    const sign = () => signed(inRegion(this.#client, region), what, method, this.#bucket, name, query);
    try {
      return await abortable(exchange.run(sign), request.signal);
    } finally {
      exchange.end();
    }
  }

  /** The region for which requests are signed: that of the client, or else that of the bucket. */
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
      // The server has no such request, or forbids it to this user. If the region is wrong, the next answer says so.
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

/** Refusals of `GetBucketLocation` that every other request would get, too. */
const DECISIVE = new Set(['BUCKET_NOT_FOUND', 'CREDENTIALS_REFUSED', 'CLOCK_SKEWED']);

function locationOf(answer: S3Answer): string {
  const root = parseXml(new TextDecoder().decode(answer.body));
  // Some servers wrap the element in another one of the same name.
  const text =
    root?.name === 'LocationConstraint' && root.text === '' ? childText(root, 'LocationConstraint') : root?.text;
  const region = text?.trim() ?? '';
  if (region === 'EU') return 'eu-west-1';
  return /^[\w-]{1,64}$/.test(region) ? region : DEFAULT_REGION;
}

/** The status of the answer behind an error of {@link S3Connection.send}; `undefined` if there was none. */
export function statusOf(error: unknown): number | undefined {
  const cause = BackupError.is(error) ? (error.cause as { status?: unknown } | undefined) : undefined;
  return typeof cause?.status === 'number' ? cause.status : undefined;
}
