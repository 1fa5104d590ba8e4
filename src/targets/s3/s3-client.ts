import { BackupError } from '../../common/errors.ts';

/**
 * What is called of a client of `minio` 8, or of anything else that signs URLs: it knows the endpoint and the credentials.
 * Where `region` is not set the bucket is asked for it, and `presignedUrl` is then called on an object that inherits from
 * the client and has that region.
 *
 * @public
 */
export interface S3Client {
  readonly region?: string | undefined;
  /**
   * The URL of a request, signed with Signature Version 4 (the host is the one signed header, the body is unsigned).
   *
   * @param objectName - `''` for a request to the bucket itself
   * @param expirySeconds - how long the signature is good for
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

/** Where a request goes, and what must not be shown of it. */
export interface S3SignedRequest {
  readonly protocol: 'http:' | 'https:';
  /** As it was signed, with the port where that is not the protocol's own. */
  readonly host: string;
  readonly hostname: string;
  readonly port: number | undefined;
  /** With the query, as it was signed: nothing is encoded anew. */
  readonly path: string;
  /** Access key, session token and signature: a server or a proxy may repeat them in its message. */
  readonly secrets: readonly string[];
}

/** Servers accept clocks that differ by 15 minutes. A signature that leaks is good for no longer than that. */
const EXPIRY_SECONDS = 15 * 60;
const INSTALL = "run `npm install minio@8` and pass `new Client({ ... })` of 'minio'";

/** Returns `client` when it can sign, else throws a `TypeError` that says how to get one that can. */
export function clientArgument(name: string, client: unknown): S3Client {
  if (typeof (client as S3Client | undefined)?.presignedUrl !== 'function') {
    throw new TypeError(`${name} must be a Client of minio 8: ${INSTALL}`);
  }
  return client as S3Client;
}

/** The client as it is, or a view of it that has a region of its own. Nothing but what is public of it is replaced. */
export function inRegion(client: S3Client, region: string): S3Client {
  return client.region ? client : Object.create(client, { region: { value: region } });
}

/**
 * @param what - such as `put of object a/b in bucket c`, for errors
 * @throws `CREDENTIALS_REFUSED` where the client has none to sign with; errors of the network that its credentials
 * provider met are left as they are
 */
export async function signed(
  client: S3Client,
  what: string,
  request: { readonly method: string; readonly bucket: string; readonly name: string; readonly query: S3Query },
): Promise<S3SignedRequest> {
  const { method, bucket, name, query } = request;
  return parsed(what, await client.presignedUrl(method, bucket, name, EXPIRY_SECONDS, { ...query }));
}

/** Parameters of a request's query, by name. */
export type S3Query = Readonly<Record<string, string>>;

function parsed(what: string, url: string): S3SignedRequest {
  // Not from the parts of a `URL`, which may encode a path or a query anew: the signature would not fit any more.
  const parts = /^(https?:)\/\/([^/?#\s]+)(\/[^#\s]*)$/.exec(url);
  if (parts === null) throw new BackupError('TARGET_ERROR', `${what}: the client signs something that is no URL`);
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
