import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer, Agent as TlsAgent } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Client } from 'minio';
import { describe, expect, test } from 'vitest';
import type { S3TargetOptions } from '../../../src/targets/s3/s3-options.ts';
import { S3Target } from '../../../src/targets/s3/s3-target.ts';
import { keysOf } from '../../support/keys-of.ts';
import { bytes } from '../decorators/support/targets.ts';
import { type Answer, errorXml, oddServer, xml } from './support/odd-server.ts';

/** Refuses a request, or has nothing against it. */
type Refusal = (request: IncomingMessage) => readonly [status: number, code: string] | undefined;

/** A store that keeps names and no bodies, and refuses what a test says. */
function store(refusal: Refusal, names: Set<string> = new Set()): Answer {
  return (request, response) => {
    const refused = refusal(request);
    if (refused !== undefined) return xml(refused[0], errorXml(refused[1]))(request, response);
    const name = new URL(request.url ?? '', 'http://host').pathname.replace('/bucket/', '');
    if (request.method === 'PUT') names.add(name);
    if (request.method === 'DELETE')
      return names.delete(name) ? xml(204, '')(request, response) : none(request, response);
    xml(200, '')(request, response);
  };
}

const none = xml(404, errorXml('NoSuchKey'));

describe('a store without a request that deletes many', () => {
  const refusals: [number, string][] = [
    [501, 'NotImplemented'], // Google's
    [400, 'InvalidArgument'],
    [405, 'MethodNotAllowed'],
    [403, 'SignatureDoesNotMatch'],
    [411, 'MissingContentLength'],
  ];
  test.each(refusals)('which it answers with %i %s, deletes one by one, and is not asked again', async (...refused) => {
    const names = new Set(['k0', 'k1', 'k2', 'kept']);
    await using server = await oddServer(store(({ method }) => (method === 'POST' ? refused : undefined), names));
    const target = server.target();
    await target.deleteMany(['k0', 'k1', 'absent']);
    expect([...names]).toEqual(['k2', 'kept']);
    await target.deleteMany(['k2']);
    expect([...names]).toEqual(['kept']);
    expect(server.requests.filter((request) => request.startsWith('POST'))).toHaveLength(1);
  });

  test('deletes versions one by one as well', async () => {
    const versions = ['v2', 'v1'].map((id) => `<Version><Key>a</Key><VersionId>${id}</VersionId></Version>`).join('');
    const page = `<ListVersionsResult><IsTruncated>false</IsTruncated>${versions}</ListVersionsResult>`;
    await using server = await oddServer((request, response) => {
      if (request.method === 'GET') return xml(200, page)(request, response);
      xml(request.method === 'POST' ? 501 : 204, '')(request, response);
    });
    await server.target({ deleteVersions: true }).delete('a');
    const deletes = server.requests.filter((request) => request.startsWith('DELETE')).sort();
    expect(deletes).toEqual(['DELETE /bucket/a?versionId=v1', 'DELETE /bucket/a?versionId=v2']);
  });

  test.each([
    [503, 'SlowDown', 'TARGET_THROTTLED'],
    [500, 'InternalError', 'TARGET_UNAVAILABLE'],
  ])('is not taken for one that answers %i %s', async (status, code, expected) => {
    await using server = await oddServer(store(({ method }) => (method === 'POST' ? [status, code] : undefined)));
    await expect(server.target().deleteMany(['a'])).rejects.toMatchObject({ code: expected, retryable: true });
    expect(server.requests).toEqual(['POST /bucket?delete=']);
  });

  test('and without permission says what the single deletion says', async () => {
    await using server = await oddServer(store(() => [403, 'AccessDenied']));
    const target = server.target();
    const error = {
      code: 'PERMISSION_DENIED',
      message: expect.stringMatching(/delete of object a in bucket bucket at http/),
    };
    await expect(target.deleteMany(['a'])).rejects.toMatchObject(error);
    await expect(target.deleteMany(['a'])).rejects.toMatchObject(error);
    // Nothing was learnt of the store: the permission may be granted.
    expect(server.requests.filter((request) => request.startsWith('POST'))).toHaveLength(2);
  });

  test('starts no more single deletions when it is aborted', async () => {
    const controller = new AbortController();
    await using server = await oddServer((request, response) => {
      if (request.method === 'DELETE') controller.abort(new Error('enough'));
      xml(request.method === 'POST' ? 501 : 204, '')(request, response);
    });
    const keys = Array.from({ length: 100 }, (_, index) => `k${index}`);
    await expect(server.target().deleteMany(keys, { signal: controller.signal })).rejects.toThrow('enough');
    expect(server.requests.length).toBeLessThan(20);
  });
});

describe('a store without If-None-Match', () => {
  const refuses =
    (status: number, code: string): Refusal =>
    ({ headers }) =>
      headers['if-none-match'] === undefined ? undefined : [status, code];

  test.each([
    [501, 'NotImplemented'],
    [400, 'InvalidArgument'],
    [400, 'InvalidRequest'],
    [405, 'MethodNotAllowed'],
  ])('that answers %i %s is CREATE_ONLY_UNSUPPORTED, with a way out', async (status, code) => {
    await using server = await oddServer(store(refuses(status, code)));
    const target = server.target();
    const error = { code: 'CREATE_ONLY_UNSUPPORTED', retryable: false, message: expect.stringMatching(/singleWriter/) };
    await expect(target.put('a', bytes(1), { createOnly: true })).rejects.toMatchObject(error);
    await target.put('a', bytes(1));
  });

  test.each([
    [400, 'BadDigest', 'CHECKSUM_MISMATCH'],
    [400, 'EntityTooLarge', 'OBJECT_TOO_LARGE'],
    [400, 'ExpiredToken', 'CREDENTIALS_REFUSED'],
  ])('is not taken for one that answers %i %s', async (status, code, expected) => {
    await using server = await oddServer(store(refuses(status, code)));
    const put = server.target().put('a', bytes(1), { createOnly: true });
    await expect(put).rejects.toMatchObject({ code: expected });
  });

  test('is not taken for one that has created before', async () => {
    let refusing = false;
    await using server = await oddServer(store(() => (refusing ? [400, 'InvalidArgument'] : undefined)));
    const target = server.target();
    await target.put('a', bytes(1), { createOnly: true });
    refusing = true;
    await expect(target.put('b', bytes(1), { createOnly: true })).rejects.toMatchObject({ code: 'TARGET_ERROR' });
  });
});

describe('a store that does not tell where a bucket is', () => {
  test.each([
    [400, 'InvalidArgument'],
    [403, 'AccessDenied'],
    [405, 'MethodNotAllowed'],
    [501, 'NotImplemented'],
  ])('and answers %i %s is asked in the default region', async (status, code) => {
    const isLookup = ({ url }: IncomingMessage) => url?.includes('location=');
    await using server = await oddServer(store((request) => (isLookup(request) ? [status, code] : undefined)));
    const target = server.target({ client: server.client({ region: '' }) });
    await target.put('a', bytes(1));
    await target.put('b', bytes(1));
    expect(server.urls.at(-1)?.searchParams.get('X-Amz-Credential')).toContain('/us-east-1/s3/');
    expect(server.requests.filter((request) => request.startsWith('GET'))).toHaveLength(1);
  });

  test('is learnt from the refusal of a signature, for the next request', async () => {
    const wrong = errorXml('AuthorizationQueryParametersError', '<Region>eu-north-1</Region>');
    await using server = await oddServer((request, response) => {
      if (request.url?.includes('location=')) return xml(405, errorXml('MethodNotAllowed'))(request, response);
      const right = request.url?.includes('eu-north-1');
      xml(right ? 200 : 400, right ? '' : wrong)(request, response);
    });
    const target = server.target({ client: server.client({ region: '' }) });
    await expect(target.put('a', bytes(1))).rejects.toMatchObject({
      code: 'TARGET_ERROR',
      message: expect.stringMatching(/region eu-north-1/),
    });
    await target.put('a', bytes(1));
  });
});

describe('what an error says', () => {
  const messages: [string, Answer, string, RegExp][] = [
    [
      'a bucket elsewhere',
      xml(301, errorXml('PermanentRedirect'), { 'x-amz-bucket-region': 'eu-west-3' }),
      'TARGET_ERROR',
      /in region eu-west-3: make the client/,
    ],
    ['a redirect', xml(307, errorXml('TemporaryRedirect')), 'TARGET_UNAVAILABLE', /check endPoint and region/],
    [
      'an expired token',
      xml(400, errorXml('ExpiredToken')),
      'CREDENTIALS_REFUSED',
      /token has expired: .*credentialsProvider/,
    ],
    ['a wrong key', xml(403, errorXml('InvalidAccessKeyId')), 'CREDENTIALS_REFUSED', /check the access key/],
    ['a missing bucket', xml(404, errorXml('NoSuchBucket')), 'BUCKET_NOT_FOUND', /create the bucket/],
    ['no permission', xml(403, errorXml('AccessDenied')), 'PERMISSION_DENIED', /grant this user/],
  ];
  test.each(messages)(
    'of %s names the object, the bucket, the endpoint and what to do',
    async (_name, answer, code, hint) => {
      await using server = await oddServer(answer);
      const target = server.target({ prefix: 'host-7' });
      const error = await target.put('log/1', bytes(1)).catch((reason: unknown) => reason as Error);
      expect(error).toMatchObject({ code, message: hint });
      expect((error as Error).message).toMatch(
        /^put of object host-7\/log\/1 in bucket bucket at http:\/\/127\.0\.0\.1:\d+: /,
      );
    },
  );

  const dated =
    (answer: Answer, date: string): Answer =>
    (request, response) => {
      response.setHeader('date', date);
      answer(request, response);
    };
  const skewed: [string, Answer][] = [
    ['RequestTimeTooSkewed', dated(xml(403, errorXml('RequestTimeTooSkewed')), 'Wed, 01 Jan 2020 00:00:00 GMT')],
    ['AccessDenied, as of an expired URL', dated(xml(403, errorXml('AccessDenied')), 'Wed, 01 Jan 2020 00:00:00 GMT')],
    ['nothing but 403, with a date of the far future', dated(xml(403, ''), 'Wed, 01 Jan 2120 00:00:00 GMT')],
  ];
  test.each(skewed)('of a clock that differs names both times: %s', async (_name, answer) => {
    await using server = await oddServer(answer);
    const put = server.target().put('a', bytes(1));
    await expect(put).rejects.toMatchObject({
      code: 'CLOCK_SKEWED',
      retryable: false,
      message: expect.stringMatching(
        /clock of this machine shows 2\d{3}-.*, that of the server 2[01]20-01-01T.*: set it/,
      ),
    });
  });

  test('of a clock that fits says nothing of clocks', async () => {
    await using server = await oddServer(xml(403, errorXml('AccessDenied')));
    await expect(server.target().put('a', bytes(1))).rejects.toMatchObject({
      message: expect.not.stringMatching(/clock/),
    });
  });
});

test('the credentials are asked for anew before each request, and a token goes along', async () => {
  await using server = await oddServer(store(() => undefined));
  const client = server.client();
  let round = 0;
  const provider = {
    getCredentials: async () => ({
      getAccessKey: () => `KEY${++round}`,
      getSecretKey: () => 'secret',
      getSessionToken: () => `token-${round}`,
    }),
  };
  Object.assign(client, { credentialsProvider: provider });
  const target = server.target({ client });
  await target.put('a', bytes(1));
  await target.put('b', bytes(1));
  const credentials = server.urls.map(({ searchParams }) => searchParams.get('X-Amz-Credential')?.split('/')[0]);
  expect(credentials).toEqual(['KEY1', 'KEY2']);
  expect(server.urls.map(({ searchParams }) => searchParams.get('X-Amz-Security-Token'))).toEqual([
    'token-1',
    'token-2',
  ]);
});

describe('the time of the store', () => {
  test('is the date of the last answer, whatever that was', async () => {
    await using server = await oddServer((_request, response) => {
      response.writeHead(404, { date: 'Wed, 01 Jan 2020 00:00:00 GMT' }).end(errorXml('NoSuchKey'));
    });
    const target = server.target();
    await target.get('a').catch(() => {});
    const time = Number(await target.storeTime());
    expect(time).toBeGreaterThanOrEqual(Date.parse('2020-01-01T00:00:00Z'));
    expect(time).toBeLessThan(Date.parse('2020-01-01T00:01:00Z'));
    expect(server.requests).toHaveLength(1);
  });

  test('is asked for where there was no answer yet, and may be refused', async () => {
    await using server = await oddServer((_request, response) => {
      response.writeHead(403, { date: 'Wed, 01 Jan 2020 00:00:00 GMT' }).end();
    });
    expect((await server.target().storeTime())?.getUTCFullYear()).toBe(2020);
    expect(server.requests).toEqual(['HEAD /bucket']);
  });

  test('is not known of a server that dates no answer', async () => {
    await using server = await oddServer((_request, response) => {
      response.sendDate = false;
      response.end();
    });
    expect(await server.target().storeTime()).toBeUndefined();
  });

  test('is unreachable with the server', async () => {
    await using server = await oddServer((request) => request.socket.destroy());
    await expect(server.target().storeTime()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
  });
});

describe('a body', () => {
  test('that is no Uint8Array is a TypeError, and nothing is sent', async () => {
    await using server = await oddServer(store(() => undefined));
    const bodies = [
      'text',
      null,
      undefined,
      [1, 2],
      new Uint16Array(2),
      new ArrayBuffer(2),
      5,
      new DataView(new ArrayBuffer(2)),
    ];
    for (const body of bodies) await expect(server.target().put('a', body as never)).rejects.toThrow(TypeError);
    const shared = new Uint8Array(new SharedArrayBuffer(4)) as unknown as Uint8Array<ArrayBuffer>;
    await expect(server.target().put('a', shared)).rejects.toThrow(/shared memory/);
    expect(server.requests).toEqual([]);
  });

  test('whose buffer is detached under way is a TypeError, and nothing is sent', async () => {
    await using server = await oddServer(store(() => undefined));
    const body = bytes(1, 2, 3);
    const put = server.target().put('a', body);
    structuredClone(body.buffer, { transfer: [body.buffer] });
    await expect(put).rejects.toThrow(/detached/);
    expect(server.requests).toEqual([]);
  });

  test('is told of as it goes out, in steps that add up to it', async () => {
    let received = 0;
    await using server = await oddServer((request, response) => {
      request.on('data', (chunk: Buffer) => {
        received += chunk.length;
      });
      request.on('end', () => response.end());
    });
    for (const size of [0, 1, 1_000_000]) {
      const sent: number[] = [];
      received = 0;
      await server.target().put('a', new Uint8Array(size), { onSent: (count) => sent.push(count) });
      expect(sent.reduce((sum, each) => sum + each, 0)).toBe(size);
      expect(received).toBe(size);
      if (size > 1) expect(sent.length).toBeGreaterThan(2);
    }
  });

  test('that the server does not take is not told as sent', async () => {
    await using server = await oddServer((request) => void request.pause());
    const sent: number[] = [];
    const target = server.target({ requestTimeoutMs: 100 });
    const size = 64 * 1024 * 1024;
    const put = target.put('a', new Uint8Array(size), { onSent: (count) => sent.push(count) });
    await expect(put).rejects.toMatchObject({ code: 'TARGET_TIMEOUT' });
    expect(sent.reduce((sum, each) => sum + each, 0)).toBeLessThan(size / 2);
  });

  test('whose buffer is detached while it is sent is a TypeError, and the server gets no whole body', async () => {
    const closed = Promise.withResolvers<boolean>();
    await using server = await oddServer((request, response) => {
      request.on('close', () => closed.resolve(request.complete));
      request.on('error', () => {});
      response.on('error', () => {});
    });
    const body = new Uint8Array(1_000_000);
    const onSent = () => void (body.length > 0 && structuredClone(body.buffer, { transfer: [body.buffer] }));
    await expect(server.target().put('a', body, { onSent })).rejects.toThrow(/detached/);
    expect(await closed.promise).toBe(false);
  });

  test('whose buffer is resized under way is sent as it was given', async () => {
    let received = '';
    await using server = await oddServer((request, response) => {
      request.on('data', (chunk) => {
        received += chunk;
      });
      request.on('end', () => response.end());
    });
    const buffer = new ArrayBuffer(4, { maxByteLength: 8 });
    const body = new Uint8Array(buffer);
    body.set(Buffer.from('abcd'));
    const put = server.target().put('a', body);
    buffer.resize(2);
    await put;
    expect(received).toBe('abcd');
    expect(server.headers[0]?.['content-length']).toBe('4');
  });
});

test('options of calls that are unknown or of another type are refused', async () => {
  await using server = await oddServer(store(() => undefined));
  const target = server.target();
  await expect(target.put('a', bytes(1), { createonly: true } as never)).rejects.toThrow(/did you mean createOnly/);
  await expect(target.put('a', bytes(1), { createOnly: 'yes' } as never)).rejects.toThrow(/options\.createOnly/);
  await expect(target.get('a', { ranges: {} } as never)).rejects.toThrow(/did you mean range/);
  await expect(target.get('a', { signal: 1 } as never)).rejects.toThrow(/options\.signal/);
  await expect(target.stat('a', new Map() as never)).rejects.toThrow(TypeError);
  await expect(keysOf(target, 7 as never)).rejects.toThrow(/prefix must be a string/);
  const listing = async () => {
    for await (const _ of target.list('', { after: 7 as never })) break;
  };
  await expect(listing()).rejects.toThrow(/options\.after/);
  expect(server.requests).toEqual([]);
});

describe('over TLS', () => {
  const file = (name: string) => readFileSync(join(import.meta.dirname, 'tls', name), 'utf8');

  async function tlsServer(): Promise<{ target(options?: Partial<S3TargetOptions>): S3Target } & AsyncDisposable> {
    const server = createServer({ key: file('server.key'), cert: file('server.crt') }, (request, response) => {
      request.resume();
      request.on('end', () => response.end());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const client = new Client({ endPoint: '127.0.0.1', port, accessKey: 'x', secretKey: 'y', region: 'r' });
    return {
      target: (options) => new S3Target({ client, bucket: 'bucket', ...options }),
      async [Symbol.asyncDispose]() {
        server.closeAllConnections();
        server.close();
        await once(server, 'close');
      },
    };
  }

  test('a certificate that Node does not trust is final, and the error says what to do', async () => {
    await using server = await tlsServer();
    await expect(server.target().put('a', bytes(1))).rejects.toMatchObject({
      code: 'TARGET_ERROR',
      retryable: false,
      message: expect.stringMatching(/does not trust the certificate.*agent/),
    });
  });

  test('an agent with the certificate authority makes it work', async () => {
    await using server = await tlsServer();
    const agent = new TlsAgent({ ca: file('server.crt'), keepAlive: true });
    await server.target({ agent }).put('a', bytes(1));
    agent.destroy();
  });
});
