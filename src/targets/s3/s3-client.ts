import { BackupError } from '../../common/errors.ts';

/**
 * The part of a client of `minio` 8 that is used. Any object that signs URLs will do: it knows the endpoint and the credentials.
 * If `region` is not set, the server is asked for the region of the bucket, and `presignedUrl` is then called on an object that
 * inherits from the client and has that region.
 *
 * @public
 */
export interface S3Client {
  readonly region?: string | undefined;
  /**
   * Returns the URL of a request, signed with Signature Version 4. The host is the only signed header; the body is not signed.
   *
   * @param objectName - `''` for a request to the bucket itself
   * @param expirySeconds - how long the signature is valid
   * @param query - parameters of the request
   */
  presignedUrl(
    method: string,
    bucketName: string,
    objectName: string,
    expirySeconds?: number,
    query?: Record<string, string>,
  ): Promise<string>;
}

/** The address of a signed request, and the parts of it that must not be shown. */
export interface S3SignedRequest {
  readonly protocol: 'http:' | 'https:';
  /** The host as it was signed, with the port if that is not the default of the protocol. */
  readonly host: string;
  readonly hostname: string;
  readonly port: number | undefined;
  /** The path with the query, exactly as it was signed. */
  readonly path: string;
  /** Access key, session token and signature. A server or a proxy may repeat them in its messages. */
  readonly secrets: readonly string[];
}

/** Servers accept clocks that differ by 15 minutes. A leaked signature should not be valid for longer than that. */
const EXPIRY_SECONDS = 15 * 60;
const INSTALL = "run `npm install minio@8` and pass `new Client({ ... })` of 'minio'";

/** Returns `client` if it can sign, else throws a `TypeError` that says how to get one that can. */
export function clientArgument(name: string, client: unknown): S3Client {
  if (typeof (client as S3Client | undefined)?.presignedUrl !== 'function') {
    throw new TypeError(`${name} must be a Client of minio 8: ${INSTALL}`);
  }
  return client as S3Client;
}

/** Returns the client, or a view of it with a region if it has none. Only its public property is overridden. */
export function inRegion(client: S3Client, region: string): S3Client {
  return client.region ? client : Object.create(client, { region: { value: region } });
}

/** Has the client sign a request. @throws what the client throws */
export async function signed(
  client: S3Client,
  what: string,
  method: string,
  bucket: string,
  name: string,
  query: S3Query,
): Promise<S3SignedRequest> {
  return parsed(what, await client.presignedUrl(method, bucket, name, EXPIRY_SECONDS, { ...query }));
}

/** The parameters of a request's query, by name. */
export type S3Query = Readonly<Record<string, string>>;

function parsed(what: string, url: string): S3SignedRequest {
  // The class `URL` may encode path or query in another way, which would invalidate the signature.
  const parts = /^(https?:)\/\/([^/?#\s]+)(\/[^#\s]*)$/.exec(url);
  if (parts === null) throw new BackupError('TARGET_ERROR', `${what}: what the client has signed is not a URL`);
  const [, protocol, host = '', path = ''] = parts;
  const { hostname, port } = new URL(`${protocol}//${host}`);
  const query = new URLSearchParams(path.slice(path.indexOf('?') + 1));
  const [accessKey] = (query.get('X-Amz-Credential') ?? '').split('/');
  const secrets = [accessKey, query.get('X-Amz-Security-Token'), query.get('X-Amz-Signature')];
  return {
    protocol: protocol as 'http:' | 'https:',
    host,
    hostname: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? undefined : Number(port),
    path,
    secrets: secrets.filter((secret): secret is string => Boolean(secret)),
  };
}
