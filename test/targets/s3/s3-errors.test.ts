import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { retryAfterMs, S3RequestError } from '../../../src/targets/s3/s3-errors.ts';
import { ACCESS_KEY, errorXml, oddServer, SECRET_KEY, SESSION_TOKEN, xml } from './support/odd-server.ts';

const body = () => new Uint8Array([1, 2, 3]);

async function errorOf(work: Promise<unknown>): Promise<BackupError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!BackupError.is(error)) throw new Error(`expected a BackupError, got ${inspect(error)}`);
  return error;
}

describe('what a server answers becomes the code of', () => {
  const cases: [status: number, s3Code: string | undefined, code: string, retryable: boolean][] = [
    [404, 'NoSuchKey', 'OBJECT_NOT_FOUND', false],
    [404, 'NoSuchBucket', 'BUCKET_NOT_FOUND', false],
    [404, undefined, 'TARGET_ERROR', false],
    [404, 'SomethingElse', 'TARGET_ERROR', false],
    [403, 'AccessDenied', 'PERMISSION_DENIED', false],
    [403, undefined, 'PERMISSION_DENIED', false],
    [403, 'InvalidAccessKeyId', 'CREDENTIALS_REFUSED', false],
    [403, 'SignatureDoesNotMatch', 'CREDENTIALS_REFUSED', false],
    [403, 'RequestTimeTooSkewed', 'CLOCK_SKEWED', false],
    [403, 'RequestExpired', 'CLOCK_SKEWED', false],
    [405, 'MethodNotAllowed', 'TARGET_ERROR', false],
    [400, 'AuthorizationQueryParametersError', 'TARGET_ERROR', false],
    [307, 'TemporaryRedirect', 'TARGET_UNAVAILABLE', true],
    [400, 'ExpiredToken', 'CREDENTIALS_REFUSED', false],
    [401, undefined, 'CREDENTIALS_REFUSED', false],
    [409, 'ConditionalRequestConflict', 'OBJECT_CONFLICT', true],
    [409, 'OperationAborted', 'OBJECT_CONFLICT', true],
    [409, undefined, 'OBJECT_CONFLICT', true],
    [412, 'PreconditionFailed', 'OBJECT_EXISTS', false],
    [412, undefined, 'OBJECT_EXISTS', false],
    [400, 'EntityTooLarge', 'OBJECT_TOO_LARGE', false],
    [413, undefined, 'OBJECT_TOO_LARGE', false],
    [400, 'BadDigest', 'CHECKSUM_MISMATCH', true],
    [400, 'XAmzContentSHA256Mismatch', 'CHECKSUM_MISMATCH', true],
    [400, 'RequestTimeout', 'TARGET_TIMEOUT', true],
    [408, undefined, 'TARGET_TIMEOUT', true],
    [429, undefined, 'TARGET_THROTTLED', true],
    [503, 'SlowDown', 'TARGET_THROTTLED', true],
    [503, 'ServiceUnavailable', 'TARGET_UNAVAILABLE', true],
    [500, 'InternalError', 'TARGET_UNAVAILABLE', true],
    [500, undefined, 'TARGET_UNAVAILABLE', true],
    [502, undefined, 'TARGET_UNAVAILABLE', true],
    [503, undefined, 'TARGET_UNAVAILABLE', true],
    [504, undefined, 'TARGET_UNAVAILABLE', true],
    [507, undefined, 'NO_SPACE', false],
    [403, 'QuotaExceeded', 'NO_SPACE', false],
    [301, 'PermanentRedirect', 'TARGET_ERROR', false],
    [400, 'InvalidArgument', 'TARGET_ERROR', false],
    [501, 'NotImplemented', 'TARGET_ERROR', false],
  ];
  test.each(cases)('%i %s: %s', async (status, s3Code, code, retryable) => {
    const text = s3Code === undefined ? '<html>an error of a proxy</html>' : errorXml(s3Code);
    await using server = await oddServer(xml(status, text, { 'x-amz-request-id': 'tx0001' }));
    const error = await errorOf(server.target().put('a', body()));
    expect([error.code, error.retryable]).toEqual([code, retryable]);
    expect(error.cause).toBeInstanceOf(S3RequestError);
    expect(error.cause).toMatchObject({ status, code: s3Code, requestId: 'tx0001' });
    expect(server.requests).toEqual(['PUT /bucket/a']);
  });
});

test('no status makes the client send a create-only put twice', async () => {
  for (const status of [408, 429, 499, 500, 502, 503, 504, 520]) {
    await using server = await oddServer(xml(status, ''));
    const error = await errorOf(server.target().put('a', body(), { createOnly: true }));
    expect(error.retryable, `status ${status}`).toBe(status !== 499);
    expect(server.requests, `status ${status}`).toEqual(['PUT /bucket/a']);
    expect(server.headers[0]?.['if-none-match']).toBe('*');
  }
});

test('a server without If-None-Match is CREATE_ONLY_UNSUPPORTED', async () => {
  await using server = await oddServer(xml(501, errorXml('NotImplemented')));
  const put = server.target().put('a', body(), { createOnly: true });
  expect((await errorOf(put)).code).toBe('CREATE_ONLY_UNSUPPORTED');
});

test('Retry-After is told, in seconds or as a date by the server’s clock', async () => {
  await using server = await oddServer(xml(503, '', { 'retry-after': '7' }));
  expect(await errorOf(server.target().get('a'))).toMatchObject({ code: 'TARGET_THROTTLED', retryAfterMs: 7000 });
  const date = 'Wed, 01 Jan 2020 00:00:00 GMT';
  expect(retryAfterMs('Wed, 01 Jan 2020 00:01:30 GMT', date)).toBe(90_000);
  expect(retryAfterMs('Wed, 01 Jan 2020 00:00:00 GMT', 'Wed, 01 Jan 2020 00:01:30 GMT')).toBe(0);
  expect(retryAfterMs('soon', date)).toBeUndefined();
  expect(retryAfterMs(undefined, date)).toBeUndefined();
});

describe('no secret gets into an error', () => {
  const STRING_TO_SIGN = 'AWS4-HMAC-SHA256\n20260102T030405Z\n20260102/us-east-1/s3/aws4_request\n0123456789abcdef';
  const SIGNATURE = 'f7a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f';
  const hostile = [
    `<Message>The request signature we calculated does not match. Token ${SESSION_TOKEN} key ${ACCESS_KEY}</Message>`,
    `<AWSAccessKeyId>${ACCESS_KEY}</AWSAccessKeyId>`,
    `<StringToSign>${STRING_TO_SIGN}</StringToSign>`,
    `<SignatureProvided>${SIGNATURE}</SignatureProvided>`,
    `<StringToSignBytes>41 57 53 34</StringToSignBytes>`,
    `<CanonicalRequest>PUT\n/bucket/a\n\nx-amz-security-token:${SESSION_TOKEN}</CanonicalRequest>`,
    `<SecretAccessKey>${SECRET_KEY}</SecretAccessKey><Token-0>${SESSION_TOKEN}</Token-0>`,
    `<RequestId>${SIGNATURE}</RequestId><HostId>host</HostId>`,
  ].join('');

  /** Everything that any logger could show of an error: every own property, to the end of the chain of causes. */
  function everythingOf(value: unknown, seen = new Set<unknown>()): string {
    if (typeof value !== 'object' || value === null) return String(value);
    if (seen.has(value)) return '';
    seen.add(value);
    return Reflect.ownKeys(value)
      .map((key) => `${String(key)}: ${everythingOf((value as Record<PropertyKey, unknown>)[key], seen)}`)
      .join('\n');
  }

  const secrets = [
    ACCESS_KEY,
    SECRET_KEY,
    SESSION_TOKEN,
    SIGNATURE,
    'AWS4-HMAC-SHA256\n',
    'aws4_request',
    '41 57 53 34',
  ];

  function expectNoSecret(error: BackupError): void {
    const shown = everythingOf(error) + inspect(error, { depth: 20, showHidden: true }) + JSON.stringify(error);
    for (const secret of secrets) expect(shown).not.toContain(secret);
  }

  const messages: [string, string][] = [
    ['every field that S3 sends', hostile],
    ['a message that is the string to sign', `<Message>${STRING_TO_SIGN}</Message>`],
    [
      'a message with an authorization',
      `<Message>Authorization: Credential=${ACCESS_KEY}, Signature=${SIGNATURE}</Message>`,
    ],
    ['a message that is nothing but a signature', `<Message>got ${SIGNATURE} instead</Message>`],
    ['a code that is none', `</Code><Code>${SECRET_KEY}</Code>`],
  ];
  test.each(messages)('%s', async (_name, fields) => {
    await using server = await oddServer(xml(403, errorXml('SignatureDoesNotMatch', fields)));
    const target = server.target();
    const listing = async () => {
      for await (const _ of target.list('')) break;
    };
    const calls = [
      () => target.put('a', body()),
      () => target.get('a'),
      () => target.stat('a'),
      () => target.delete('a'),
    ];
    for (const call of [...calls, listing]) expectNoSecret(await errorOf(call()));
    // And where the client has no region and asks for it first.
    expectNoSecret(await errorOf(server.target({ client: server.client({ region: '' }) }).put('a', body())));
  });

  test('a code that is not a word is not shown', async () => {
    await using server = await oddServer(xml(400, `<Error><Code>${SECRET_KEY} x</Code></Error>`));
    const error = await errorOf(server.target().put('a', body()));
    expectNoSecret(error);
    expect(error.code).toBe('TARGET_ERROR');
  });

  test('a message for people is kept otherwise', async () => {
    const said = '<Message>User may not s3:PutObject on this resource</Message>';
    await using server = await oddServer(xml(403, errorXml('AccessDenied', said)));
    const error = await errorOf(server.target().put('a', body()));
    expect((error.cause as Error).message).toBe('User may not s3:PutObject on this resource');
  });

  test('an error body of any length and depth is read only so far', async () => {
    await using server = await oddServer((_request, response) => {
      response.writeHead(403);
      const chunk = '<a>'.repeat(20_000);
      const more = () => {
        while (response.write(chunk)) if (response.destroyed) return;
        response.once('drain', more);
      };
      more();
    });
    expect((await errorOf(server.target().put('a', body()))).code).toBe('PERMISSION_DENIED');
  });
});
