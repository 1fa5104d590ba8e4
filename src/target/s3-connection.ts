import type { Client } from 'minio';
import { abortable } from '../common/abort.ts';
import { S3Refusal } from './s3-errors.ts';
import { type S3Answer, S3Exchange, type S3Request, type S3TimeLimits } from './s3-exchange.ts';
import { childText, parseXml } from './s3-xml.ts';

/**
 * What is called of a client of `minio` 8. It knows the endpoint and the credentials, and signs.
 *
 * @public
 */
export type S3Client = Pick<Client, 'makeRequestAsync' | 'region'>;

/** Where buckets are whose location is not told. */
const DEFAULT_REGION = 'us-east-1';

/** Sends requests for one bucket through a client that belongs to somebody else and stays as it is. */
export class S3Connection {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #limits: S3TimeLimits;
  #region: string | undefined;

  constructor(client: S3Client, bucket: string, limits: S3TimeLimits) {
    const transport = (client as { transport?: { request?: unknown } } | undefined)?.transport;
    if (typeof client?.makeRequestAsync !== 'function' || typeof transport?.request !== 'function') {
      throw new TypeError('client must be a Client of minio 8');
    }
    this.#client = client;
    this.#bucket = bucket;
    this.#limits = limits;
  }

  /** Resolves with an answer of status 2xx, or rejects with a `BackupError` or with the signal's reason. */
  async send(request: S3Request): Promise<S3Answer> {
    try {
      const region = await this.#regionOf(request);
      return await this.#exchange(request, region);
    } catch (error) {
      if (!(error instanceof S3Refusal)) throw error;
      // Perhaps the bucket has moved: the next request looks again.
      if ([301, 307, 400].includes(error.failure.status ?? 0)) this.#region = undefined;
      throw error.toBackupError(request.what);
    }
  }

  async #exchange(request: S3Request, region: string): Promise<S3Answer> {
    const exchange = new S3Exchange(this.#client, this.#limits, request);
    try {
      return await abortable(exchange.run(this.#bucket, region), request.signal);
    } finally {
      exchange.end();
    }
  }

  /**
   * The region that requests must be signed for: the client's own, or what the bucket says. Not left to the client,
   * which would read an error answer of any length and copy all of it to the error that it throws.
   */
  async #regionOf({ what, signal }: S3Request): Promise<string> {
    if (this.#client.region) return this.#client.region;
    if (this.#region !== undefined) return this.#region;
    const lookup: S3Request = { what, method: 'GET', query: 'location', signal };
    let region: string;
    try {
      region = locationOf(await this.#exchange(lookup, DEFAULT_REGION));
    } catch (error) {
      // Who may use a bucket but not ask where it is gets the default, and if that is wrong is told the right one.
      if (!(error instanceof S3Refusal)) throw error;
      const { region: told, failure } = error;
      if (failure.code === 'AuthorizationHeaderMalformed' && told !== undefined) region = told;
      else if (failure.code === 'AccessDenied') region = told ?? DEFAULT_REGION;
      else throw error;
    }
    this.#region = region;
    return region;
  }
}

function locationOf(answer: S3Answer): string {
  const root = parseXml(new TextDecoder().decode(answer.body));
  // The element is the root of the answer, or, from some servers, within it.
  const text =
    root?.name === 'LocationConstraint' && root.text === '' ? childText(root, 'LocationConstraint') : root?.text;
  const region = text?.trim() ?? '';
  if (region === 'EU') return 'eu-west-1';
  return /^[\w-]{1,64}$/.test(region) ? region : DEFAULT_REGION;
}
