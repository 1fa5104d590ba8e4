import type { IncomingHttpHeaders } from 'node:http';
import { BackupError, type BackupErrorCode } from '../../common/errors.ts';
import { childText, parseXml } from './s3-xml.ts';

/**
 * Translates failures of S3 requests into `BackupError`s. Nothing that could be a credential gets into an error or its cause.
 */

/** The facts about a failed request that are safe to show. */
interface S3Failure {
  /** The HTTP status; `undefined` if there was no answer. */
  readonly status: number | undefined;
  /** The error code of S3, or of Node's network layer. */
  readonly code: string | undefined;
  readonly message: string | undefined;
  readonly requestId: string | undefined;
  readonly retryAfterMs?: number | undefined;
  /** How far this machine's clock is ahead of the server's, in milliseconds; `undefined` if the answer had no date. */
  readonly aheadMs?: number | undefined;
  /** The region of the bucket, if the server has named it. */
  readonly region?: string | undefined;
}

/** The `cause` of errors of `S3Target`: the answer of the server or the error of the network, without secrets. @public */
export class S3RequestError extends Error {
  override readonly name = 'S3RequestError';
  readonly code: string | undefined;
  readonly status: number | undefined;
  /** The id of the request, which the operators of a store ask for. */
  readonly requestId: string | undefined;

  /** @internal */
  constructor(failure: S3Failure) {
    super(failure.message || failure.code || `HTTP status ${failure.status}`);
    this.code = failure.code;
    this.status = failure.status;
    this.requestId = failure.requestId;
  }
}

type Meaning = readonly [code: BackupErrorCode, retryable?: boolean];

const AGAIN = true;

/** Meanings of the server's error codes, which are more specific than the status. */
const BY_CODE: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  ...named('NoSuchKey NoSuchVersion', 'OBJECT_NOT_FOUND'),
  ...named('NoSuchBucket', 'BUCKET_NOT_FOUND'),
  ...named('PreconditionFailed', 'OBJECT_EXISTS'),
  ...named('ConditionalRequestConflict OperationAborted', 'OBJECT_CONFLICT', AGAIN),
  ...named('InvalidRange', 'RANGE_UNSATISFIABLE'),
  ...named('EntityTooLarge MaxMessageLengthExceeded', 'OBJECT_TOO_LARGE'),
  ...named('BadDigest InvalidDigest', 'CHECKSUM_MISMATCH', AGAIN),
  ...named('XAmzContentSHA256Mismatch XAmzContentChecksumMismatch', 'CHECKSUM_MISMATCH', AGAIN),
  ...named('AccessDenied AllAccessDisabled AccountProblem', 'PERMISSION_DENIED'),
  ...named('InvalidAccessKeyId SignatureDoesNotMatch InvalidSecurity NotSignedUp', 'CREDENTIALS_REFUSED'),
  ...named('ExpiredToken InvalidToken TokenRefreshRequired', 'CREDENTIALS_REFUSED'),
  ...named('RequestExpired RequestTimeTooSkewed RequestInTheFuture', 'CLOCK_SKEWED'),
  ...named('SlowDown TooManyRequests Throttling ThrottlingException', 'TARGET_THROTTLED', AGAIN),
  ...named('RequestLimitExceeded BandwidthLimitExceeded', 'TARGET_THROTTLED', AGAIN),
  ...named('RequestTimeout RequestTimedOut', 'TARGET_TIMEOUT', AGAIN),
  ...named('InternalError ServiceUnavailable IncompleteBody TemporaryRedirect', 'TARGET_UNAVAILABLE', AGAIN),
  ...named('QuotaExceeded InsufficientStorage XMinioStorageFull XMinioAdminBucketQuotaExceeded', 'NO_SPACE'),
  ...named('NotImplemented MethodNotAllowed InvalidObjectState InvalidBucketState PermanentRedirect', 'TARGET_ERROR'),
  ...named('AuthorizationHeaderMalformed AuthorizationQueryParametersError', 'TARGET_ERROR'),
  ...named('IllegalLocationConstraintException', 'TARGET_ERROR'),
  // Codes of Node. Another attempt would fail in the same way.
  ...named('CERT_HAS_EXPIRED CERT_NOT_YET_VALID ERR_TLS_CERT_ALTNAME_INVALID', 'TARGET_ERROR'),
  ...named('DEPTH_ZERO_SELF_SIGNED_CERT SELF_SIGNED_CERT_IN_CHAIN UNABLE_TO_GET_ISSUER_CERT', 'TARGET_ERROR'),
  ...named('UNABLE_TO_GET_ISSUER_CERT_LOCALLY UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'TARGET_ERROR'),
]);

/** Meanings of statuses, for servers and proxies that send no code, and for answers to HEAD, which have no body. */
const BY_STATUS: ReadonlyMap<number, Meaning> = new Map<number, Meaning>([
  [307, ['TARGET_UNAVAILABLE', AGAIN]],
  [401, ['CREDENTIALS_REFUSED']],
  [403, ['PERMISSION_DENIED']],
  [408, ['TARGET_TIMEOUT', AGAIN]],
  [409, ['OBJECT_CONFLICT', AGAIN]],
  [412, ['OBJECT_EXISTS']],
  [413, ['OBJECT_TOO_LARGE']],
  [416, ['RANGE_UNSATISFIABLE']],
  [429, ['TARGET_THROTTLED', AGAIN]],
  [501, ['TARGET_ERROR']],
  [507, ['NO_SPACE']],
]);

function named(names: string, code: BackupErrorCode, retryable?: boolean): [string, Meaning][] {
  return names.split(' ').map((name) => [name, [code, retryable ?? false]]);
}

function meaningOf(failure: S3Failure): Meaning {
  const { status, code, retryAfterMs } = failure;
  if (isOfTheClock(failure)) return ['CLOCK_SKEWED'];
  const byCode = code === undefined ? undefined : BY_CODE.get(code);
  if (byCode !== undefined) return byCode;
  if (status === undefined) return ['TARGET_UNREACHABLE', AGAIN];
  if (status === 503 && retryAfterMs !== undefined) return ['TARGET_THROTTLED', AGAIN];
  return BY_STATUS.get(status) ?? (status >= 500 ? ['TARGET_UNAVAILABLE', AGAIN] : ['TARGET_ERROR']);
}

/** Servers accept signatures whose time differs by up to 15 minutes. The date of an answer is slightly old. */
const SKEW_MS = 14 * 60 * 1000;
/** The error codes of servers for a signature that has expired or is not valid yet. */
const OF_THE_CLOCK = new Set([undefined, 'AccessDenied', 'SignatureDoesNotMatch', 'ExpiredToken', 'InvalidArgument']);

/** Whether a refusal is due to a difference between the clocks. Many servers answer only "access denied" then. */
function isOfTheClock({ status, code, aheadMs = 0 }: S3Failure): boolean {
  const isRefusal = status === 400 || status === 401 || status === 403;
  return isRefusal && OF_THE_CLOCK.has(code) && Math.abs(aheadMs) > SKEW_MS;
}

/** What to do next, for codes that do not say it themselves. */
const HINTS: Readonly<Record<string, string>> = {
  BUCKET_NOT_FOUND: 'create the bucket, or correct its name',
  CREDENTIALS_REFUSED: 'check the access key and the secret key of the client',
  PERMISSION_DENIED: 'grant this user the permission in the policy of the bucket',
  TARGET_UNREACHABLE: 'if it persists, check host, port and useSSL of the client',
  NO_SPACE: 'make room, or raise the quota',
};
const HINTS_BY_CODE: Readonly<Record<string, string>> = {
  ExpiredToken: 'the session token has expired: give the client a credentialsProvider that renews it',
  TokenRefreshRequired: 'the session token has expired: give the client a credentialsProvider that renews it',
  ENOTFOUND: 'the name of the host is not known: check endPoint of the client, or the name server',
  EAI_AGAIN: 'the name server does not answer',
  CERT_NOT_YET_VALID: 'by the clock of this machine the certificate of the server is not valid yet: check the clock',
  CERT_HAS_EXPIRED: 'the certificate of the server has expired, or the clock of this machine is ahead',
  ERR_TLS_CERT_ALTNAME_INVALID: 'the certificate of the server is for another name than endPoint of the client',
};
const UNTRUSTED =
  'Node does not trust the certificate of the server: pass an `agent` with its `ca`, or set NODE_EXTRA_CA_CERTS';

/** The error codes of servers for a signature that is for another region. */
const OF_THE_REGION = new Set(['AuthorizationHeaderMalformed', 'AuthorizationQueryParametersError']);

function hintOf(code: BackupErrorCode, failure: S3Failure): string | undefined {
  const { status, code: said = '', region, aheadMs } = failure;
  if (code === 'CLOCK_SKEWED') return clockHint(aheadMs);
  if (region !== undefined && (status === 301 || status === 307 || OF_THE_REGION.has(said))) {
    return `the bucket is in region ${region}: make the client with that region, or with the endpoint of that region`;
  }
  if (status === 301 || status === 307)
    return 'the bucket is on another server: check endPoint and region of the client';
  const isOfCertificates = status === undefined && BY_CODE.get(said)?.[0] === 'TARGET_ERROR';
  return HINTS_BY_CODE[said] ?? (isOfCertificates ? UNTRUSTED : HINTS[code]);
}

function clockHint(aheadMs: number | undefined): string {
  if (aheadMs === undefined) return 'the clock of this machine or of the server is wrong';
  const now = Date.now();
  const here = new Date(now).toISOString();
  return `the clock of this machine shows ${here}, that of the server ${new Date(now - aheadMs).toISOString()}: set it`;
}

/** Makes the error for a failure. */
export function s3Error(what: string, failure: S3Failure): BackupError {
  const [code, retryable] = meaningOf(failure);
  const said = failure.code ?? (failure.status === undefined ? 'no answer' : `HTTP status ${failure.status}`);
  const hint = hintOf(code, failure);
  return new BackupError(code, `${what}: ${said}${hint === undefined ? '' : ` (${hint})`}`, {
    cause: new S3RequestError(failure),
    retryable,
    retryAfterMs: failure.retryAfterMs,
  });
}

/** An answer with a status of failure that has not been translated yet, because its meaning depends on the call. */
export class S3Refusal {
  readonly what: string;
  readonly failure: S3Failure;

  constructor(what: string, failure: S3Failure) {
    this.what = what;
    this.failure = failure;
  }

  toBackupError(): BackupError {
    return s3Error(this.what, this.failure);
  }
}

/** Reads an answer with a status of failure. @param body - as much of the body as was read */
export function refusalOf(
  what: string,
  status: number,
  headers: IncomingHttpHeaders,
  body: Uint8Array,
  secrets: readonly string[],
): S3Refusal {
  const root = parseXml(new TextDecoder().decode(body));
  const error = root?.name === 'Error' ? root : undefined;
  const field = (name: string) => (error === undefined ? undefined : childText(error, name));
  const date = Date.parse(headers.date ?? '');
  return new S3Refusal(what, {
    status,
    // MinIO puts the code into a header if the answer has no body.
    code: plainWord(field('Code') ?? headers['x-minio-error-code'], secrets),
    message: withoutSecrets(field('Message'), secrets),
    requestId: plainWord(headers['x-amz-request-id'] ?? field('RequestId'), secrets),
    retryAfterMs: retryAfterMs(headers['retry-after'], headers.date),
    aheadMs: Number.isNaN(date) ? undefined : Date.now() - date,
    region: plainWord(field('Region')) ?? plainWord(headers['x-amz-bucket-region']),
  });
}

/**
 * Returns `text` if it can be a code or an id: a word that is shorter than a signature, and no known secret. Anything else may
 * be a secret and is not shown.
 */
export function plainWord(text: unknown, secrets: readonly string[] = []): string | undefined {
  return typeof text === 'string' && /^[\w.:-]{1,60}$/.test(text) && !secrets.includes(text) ? text : undefined;
}

/**
 * The first line of a message, without anything that could be a key, token, digest or signature: known secrets are removed,
 * and so is every sequence of characters that looks like one.
 */
export function withoutSecrets(text: string | undefined, secrets: readonly string[]): string | undefined {
  if (text === undefined) return undefined;
  let shown = text.split(/[\r\n]/, 1)[0] ?? '';
  for (const secret of secrets) if (secret.length > 0) shown = shown.replaceAll(secret, '***');
  return shown
    .replace(/\b(AWS4-HMAC-SHA256|Signature|Credential|Token|Authorization|Secret)\b.*/gi, '$1 ***')
    .replace(/[A-Za-z0-9+=_-]{20,}/g, '***')
    .slice(0, 200);
}

/** `Retry-After` in milliseconds. The header is a number of seconds, or a date of the server's clock. */
export function retryAfterMs(value: string | undefined, serverDate: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  const then = Date.parse(value);
  const now = serverDate === undefined ? Date.now() : Date.parse(serverDate);
  return Number.isNaN(then) || Number.isNaN(now) ? undefined : Math.max(0, then - now);
}
