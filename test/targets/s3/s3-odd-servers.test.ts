import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { Client } from 'minio';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { S3Target } from '../../../src/targets/s3/s3-target.ts';
import { keysOf } from '../../support/keys-of.ts';
import { type Answer, errorXml, listXml, oddServer, xml } from './support/odd-server.ts';

const body = () => new Uint8Array([1, 2, 3]);

afterEach(() => vi.restoreAllMocks());

describe('a server that', () => {
  test('never answers is a timeout, for every call', async () => {
    await using server = await oddServer(() => {});
    const target = server.target({ requestTimeoutMs: 40 });
    const code = { code: 'TARGET_TIMEOUT', retryable: true };
    await expect(target.put('a', body())).rejects.toMatchObject(code);
    await expect(target.get('a')).rejects.toMatchObject(code);
    await expect(target.stat('a')).rejects.toMatchObject(code);
    await expect(target.delete('a')).rejects.toMatchObject(code);
    await expect(target.deleteMany(['a'])).rejects.toMatchObject(code);
    await expect(keysOf(target)).rejects.toMatchObject(code);
  });

  test('stops in the middle of a body is a timeout', async () => {
    await using server = await oddServer((_request, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half');
    });
    await expect(server.target({ requestTimeoutMs: 40 }).get('a')).rejects.toMatchObject({ code: 'TARGET_TIMEOUT' });
  });

  test('never answers lets go of an aborted call at once, and of its connection', async () => {
    const arrived = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<void>();
    await using server = await oddServer((request) => {
      request.socket.once('close', () => closed.resolve());
      arrived.resolve();
    });
    const controller = new AbortController();
    const put = server.target().put('a', body(), { signal: controller.signal });
    await arrived.promise;
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(put).rejects.toBe(reason);
    await closed.promise;
  });

  test('drops the connection in the middle of a body is unreachable', async () => {
    await using server = await oddServer((_request, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half', () => response.socket?.destroy());
    });
    await expect(server.target().get('a')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE', retryable: true });
  });

  test('drops the connection before it answers is unreachable, and is asked once', async () => {
    await using server = await oddServer((request) => request.socket.destroy());
    const put = server.target().put('a', body(), { createOnly: true });
    await expect(put).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE', retryable: true });
    expect(server.requests).toHaveLength(1);
  });

  test('answers a range short, elsewhere, or as a whole is never believed', async () => {
    const range = { offset: 10, length: 5 };
    const answers: [Answer, string][] = [
      [xml(206, 'abc', { 'content-range': 'bytes 10-14/100' }), 'TARGET_UNAVAILABLE'],
      [xml(206, 'abc', { 'content-range': 'bytes 10-12/13' }), 'RANGE_UNSATISFIABLE'],
      [xml(206, 'abcde', { 'content-range': 'bytes 0-4/100' }), 'TARGET_ERROR'],
      [xml(206, 'abcde'), 'TARGET_ERROR'],
      [xml(200, 'abcde'), 'TARGET_ERROR'],
      [xml(416, errorXml('InvalidRange')), 'RANGE_UNSATISFIABLE'],
    ];
    for (const [answer, code] of answers) {
      await using server = await oddServer(answer);
      await expect(server.target().get('a', { range })).rejects.toMatchObject({ code });
    }
  });

  test('answers part of an object that was asked for as a whole is never believed', async () => {
    await using server = await oddServer(xml(206, 'abc', { 'content-range': 'bytes 0-2/3' }));
    await expect(server.target().get('a')).rejects.toMatchObject({ code: 'TARGET_ERROR' });
  });

  test('is not there is unreachable', async () => {
    const gone = await oddServer(() => {});
    const target = gone.target();
    await gone[Symbol.asyncDispose]();
    await expect(target.get('a')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE', retryable: true });
    const client = new Client({ endPoint: 'no-such-host.invalid', accessKey: 'x', secretKey: 'y', region: 'r' });
    const nowhere = new S3Target({ client, bucket: 'bucket' });
    await expect(nowhere.get('a')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE', retryable: true });
  });

  test('answers HTTP where TLS is expected is unreachable', async () => {
    await using server = await oddServer(xml(200, ''));
    const { port } = server.client() as unknown as { port: number };
    const client = new Client({ endPoint: '127.0.0.1', port, accessKey: 'x', secretKey: 'y', region: 'r' });
    const target = new S3Target({ client, bucket: 'bucket' });
    await expect(target.get('a')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE', retryable: true });
  });
});

describe('an answer to get', () => {
  const range = { offset: 10, length: 5 };

  /** Answers with just these lines and this body, and closes the connection. */
  const raw =
    (lines: readonly string[], text: string): Answer =>
    (_request, response) =>
      void response.socket?.end([...lines, 'connection: close', '', text].join('\r\n'));

  test('that does not show where it ends may have been cut short, and is not believed', async () => {
    await using whole = await oddServer(raw(['HTTP/1.1 200 OK'], 'only half of th'));
    await using part = await oddServer(raw(['HTTP/1.1 206 OK', 'content-range: bytes 10-14/100'], 'abcde'));
    const code = { code: 'TARGET_UNAVAILABLE', retryable: true };
    for (const checksums of [false, true]) {
      await expect(whole.target({ checksums }).get('a')).rejects.toMatchObject(code);
      await expect(part.target({ checksums }).get('a', { range })).rejects.toMatchObject(code);
    }
  });

  test('ends with its last chunk, or is cut short', async () => {
    const head = ['HTTP/1.1 200 OK', 'transfer-encoding: chunked'];
    await using whole = await oddServer(raw(head, '3\r\nabc\r\n0\r\n\r\n'));
    expect(await whole.target().get('a')).toEqual(new TextEncoder().encode('abc'));
    await using cut = await oddServer(raw(head, '3\r\nabc\r\n'));
    await expect(cut.target().get('a')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE', retryable: true });
  });

  test('whose lengths contradict each other is never believed', async () => {
    const lengths: [length: string, told: string, code: string][] = [
      ['3', 'bytes 10-14/100', 'TARGET_UNAVAILABLE'],
      ['7', 'bytes 10-14/100', 'TARGET_UNAVAILABLE'],
      ['7', 'bytes 10-16/100', 'TARGET_ERROR'],
    ];
    for (const [length, told, code] of lengths) {
      await using server = await oddServer(
        raw(['HTTP/1.1 206 OK', `content-length: ${length}`, `content-range: ${told}`], 'abcdefg'),
      );
      await expect(server.target().get('a', { range })).rejects.toMatchObject({ code });
    }
  });

  test('that is longer than any object is refused before it is read', async () => {
    await using server = await oddServer(raw(['HTTP/1.1 200 OK', `content-length: ${5 * 1024 ** 3 + 1}`], 'abc'));
    await expect(server.target().get('a')).rejects.toMatchObject({ code: 'TARGET_ERROR', retryable: false });
  });
});

describe('an answer without end is read only so far, and its connection given up', () => {
  const MIB = 1024 * 1024;
  const chunk = Buffer.alloc(MIB / 4, ' ');

  /** Writes until the connection goes, and tells how much it could write. */
  async function pour(response: ServerResponse): Promise<number> {
    const closed = once(response, 'close');
    let written = 0;
    while (!response.destroyed) {
      written += chunk.length;
      if (!response.write(chunk)) await Promise.race([once(response, 'drain'), closed]);
    }
    return written;
  }

  const calls: [name: string, limit: number, call: (target: S3Target) => Promise<unknown>][] = [
    ['put', MIB / 16, (target) => target.put('a', body())],
    ['delete', MIB / 16, (target) => target.delete('a')],
    ['get of a range', MIB / 16, (target) => target.get('a', { range: { offset: 0, length: 10 } })],
    ['list', 16 * MIB, (target) => keysOf(target)],
    ['deleteMany', 16 * MIB, (target) => target.deleteMany(['a'])],
  ];
  test.each(calls)('%s', async (_name, limit, call) => {
    const poured = Promise.withResolvers<number>();
    await using server = await oddServer((request, response) => {
      const ranged = request.headers.range !== undefined;
      response.writeHead(ranged ? 206 : 200, ranged ? { 'content-range': 'bytes 0-9/10' } : {});
      pour(response).then(poured.resolve, poured.reject);
    });
    await expect(call(server.target())).rejects.toMatchObject({
      code: 'TARGET_ERROR',
      retryable: false,
      message: expect.stringMatching(/answers more than \d+ bytes/),
    });
    expect(await poured.promise).toBeLessThan(limit + 16 * MIB); // What the sockets hold comes on top.
  });

  test('nor is a page of nothing but elements taken apart', async () => {
    const page = listXml([]).replace('</ListBucketResult>', `${'<a/>'.repeat(200_000)}</ListBucketResult>`);
    await using server = await oddServer(xml(200, page));
    await expect(keysOf(server.target())).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' });
  });
});

describe('a server that drips, and so is never silent', () => {
  const drip: Answer = (request, response) => {
    if (request.method === 'GET') response.writeHead(200, { 'content-length': '100000' });
    const timer = setInterval(() => (request.method === 'GET' ? response.write('x') : response.writeProcessing()), 10);
    response.on('close', () => clearInterval(timer));
  };

  test('is given so much time in all', async () => {
    await using server = await oddServer(drip);
    const target = server.target({ requestTimeoutMs: 2_000, totalTimeoutMs: 150 });
    const code = {
      code: 'TARGET_TIMEOUT',
      retryable: true,
      message: expect.stringMatching(/not complete after 150 ms/),
    };
    await expect(target.get('a')).rejects.toMatchObject(code);
    await expect(target.put('a', body())).rejects.toMatchObject(code);
  });

  test('by default ten minutes, and more for larger bodies', async () => {
    await using server = await oddServer((request, response) => {
      request.on('end', () => response.writeHead(200, { 'content-length': 64_000 * 60 }).write('x'));
    });
    const limits: number[] = [];
    const real = globalThis.setTimeout;
    const spy = vi.spyOn(globalThis, 'setTimeout').mockImplementation(((work: () => void, delayMs: number) => {
      limits.push(Math.round(delayMs / 10_000) * 10);
      return real(work, delayMs);
    }) as never);
    const controller = new AbortController();
    const get = server.target().get('a', { signal: controller.signal });
    await vi.waitFor(() => expect(limits).toContain(660));
    expect(limits).toContain(600);
    controller.abort();
    await expect(get).rejects.toThrow();
    spy.mockRestore();
  });
});

describe('a 404 to HEAD', () => {
  const bare404 =
    (code: string): Answer =>
    (request, response) =>
      request.method === 'HEAD' ? xml(404, '')(request, response) : xml(404, errorXml(code))(request, response);

  test('is an absent object when a GET says so', async () => {
    await using server = await oddServer(bare404('NoSuchKey'));
    expect(await server.target().stat('a')).toBeUndefined();
    expect(server.requests).toEqual(['HEAD /bucket/a', 'GET /bucket/a']);
  });

  test('is a missing bucket when a GET says so', async () => {
    await using server = await oddServer(bare404('NoSuchBucket'));
    await expect(server.target().stat('a')).rejects.toMatchObject({ code: 'BUCKET_NOT_FOUND', retryable: false });
  });

  test('is no proof of absence when a GET is refused', async () => {
    await using server = await oddServer((request, response) =>
      xml(request.method === 'HEAD' ? 404 : 403, request.method === 'HEAD' ? '' : errorXml('AccessDenied'))(
        request,
        response,
      ),
    );
    await expect(server.target().stat('a')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  });

  test('is asked again when the object has come meanwhile', async () => {
    let heads = 0;
    await using server = await oddServer((request, response) => {
      if (request.method === 'HEAD' && heads++ === 0) return xml(404, '')(request, response);
      xml(request.method === 'HEAD' ? 200 : 206, request.method === 'HEAD' ? '' : 'x', { 'content-length': '1' })(
        request,
        response,
      );
    });
    expect(await server.target().stat('a')).toMatchObject({ key: 'a', size: 1 });
  });
});

describe('a listing', () => {
  const pages = (...answers: string[]): Answer => {
    let page = 0;
    return (request, response) => {
      const at = isProbe(request.url) ? 0 : Math.min(page++, answers.length - 1);
      xml(200, answers[at] ?? '')(request, response);
    };
  };
  /** Whether a page of one is asked for. */
  const isProbe = (url: string | undefined) => url?.includes('max-keys=1&') === true;

  test('goes through all pages, with the token of the one before and after only on the first', async () => {
    await using server = await oddServer(pages(listXml(['b', 'c'], '00012'), listXml([], '1e5'), listXml(['d'])));
    const keys: string[] = [];
    for await (const { key, size, modifiedAt } of server.target().list('', { after: 'a!' })) {
      keys.push(key);
      expect([size, modifiedAt?.toISOString()]).toEqual([7, '2026-01-02T03:04:05.678Z']);
    }
    expect(keys).toEqual(['b', 'c', 'd']);
    const requests = server.requests.filter((request) => !isProbe(request));
    expect(requests[0]).toContain('start-after=a%21');
    expect(requests[1]).toContain('continuation-token=00012&');
    expect(requests[1]).not.toContain('start-after');
    expect(requests[2]).toContain('continuation-token=1e5&');
  });

  test('asks for no page before it is needed', async () => {
    await using server = await oddServer(pages(listXml(['b', 'c'], 'next'), listXml(['d'])));
    for await (const { key } of server.target().list('')) if (key === 'c') break;
    expect(server.requests.filter((request) => !isProbe(request))).toHaveLength(1);
  });

  describe('of more than one page', () => {
    const keysUntil = async (target: S3Target, last: string) => {
      const keys: string[] = [];
      for await (const { key } of target.list('')) if (keys.push(key) && key === last) break;
      return keys;
    };
    /** A server whose first page is the same each time, and whose page of one has this key. */
    const serverOf = (page: string, alone: string, isThere = true) =>
      oddServer((request, response) => {
        if (!isThere && !request.url?.includes('list-type')) {
          xml(404, request.method === 'HEAD' ? '' : '<Error><Code>NoSuchKey</Code></Error>')(request, response);
        } else if (request.method === 'HEAD') xml(200, '', { 'content-length': '7' })(request, response);
        else xml(200, listXml(isProbe(request.url) ? [alone] : page.split(' '), 'next'))(request, response);
      });

    test('is asked for a page of one, once: there has to be the same first key', async () => {
      await using server = await serverOf('a b c', 'a');
      const target = server.target();
      for (let n = 0; n < 3; n++) expect(await keysUntil(target, 'b')).toEqual(['a', 'b']);
      expect(server.requests.map((request) => isProbe(request))).toEqual([false, true, false, false]);
    });

    test.each(['c', 'x'])(
      'whose page of one begins at %s is of a server that does not list its pages in order',
      async (alone) => {
        await using server = await serverOf('a b c', alone);
        const target = server.target();
        for (let n = 0; n < 2; n++) {
          await expect(keysUntil(target, 'b')).rejects.toMatchObject({
            code: 'TARGET_ERROR',
            message: expect.stringMatching(/pages in key order/),
          });
        }
      },
    );

    test('shows nothing where an object was put before it or deleted in between, and is asked again', async () => {
      for (const [alone, isThere] of [
        ['0', true],
        ['b', false],
      ] as const) {
        await using server = await serverOf('a b c', alone, isThere);
        const target = server.target();
        for (let n = 0; n < 2; n++) expect(await keysUntil(target, 'b')).toEqual(['a', 'b']);
        expect(server.requests.filter((request) => isProbe(request))).toHaveLength(2);
      }
    });
  });

  test('takes names for text, passes over those that are no keys, and leaves out what it did not ask for', async () => {
    const names = ['Foo', '00012', '1e5', 'a%2Fb', 'a%20b', 'x/'];
    await using server = await oddServer(pages(listXml([...names].sort())));
    expect(await keysOf(server.target())).toEqual(['00012', '1e5', 'a/b']);
  });

  const broken: [string, string, string][] = [
    ['says that there is more but not where', listXml(['a'], undefined, true), 'TARGET_UNAVAILABLE'],
    ['is cut off', listXml(['a', 'b']).slice(0, -40), 'TARGET_UNAVAILABLE'],
    ['is empty', '', 'TARGET_UNAVAILABLE'],
    [
      'does not say whether it is the last',
      listXml(['a']).replace('IsTruncated>', 'X>').replace('/IsTruncated', '/X'),
      'TARGET_UNAVAILABLE',
    ],
    ['is not in order', listXml(['b', 'a']), 'TARGET_ERROR'],
    ['names a key twice', listXml(['a', 'a']), 'TARGET_ERROR'],
    ['has no sizes', listXml(['a']).replace('<Size>7</Size>', ''), 'TARGET_UNAVAILABLE'],
  ];
  test.each(broken)('whose page %s is an error and never the end', async (_name, page, code) => {
    await using server = await oddServer(pages(page));
    await expect(keysOf(server.target())).rejects.toMatchObject({ code });
  });

  test('whose pages name the same next page again and again ends with an error', async () => {
    await using empty = await oddServer(pages(listXml([], 'same')));
    await expect(keysOf(empty.target())).rejects.toMatchObject({ code: 'TARGET_ERROR' });
    await using full = await oddServer(pages(listXml(['a'], 'same')));
    await expect(keysOf(full.target())).rejects.toMatchObject({ code: 'TARGET_ERROR' });
    let turn = 0;
    await using cycle = await oddServer((request, response) => {
      xml(200, listXml([], turn++ % 2 === 0 ? 'one' : 'other'))(request, response);
    });
    await expect(keysOf(cycle.target())).rejects.toMatchObject({ code: 'TARGET_ERROR' });
  });

  test('of another prefix than was asked for is an error', async () => {
    await using server = await oddServer(pages(listXml(['b/a'])));
    await expect(keysOf(server.target(), 'a')).rejects.toMatchObject({ code: 'TARGET_ERROR' });
  });
});

describe('deleting many', () => {
  const deleted = (inside: string) => xml(200, `<DeleteResult>${inside}</DeleteResult>`);

  test('takes a thousand a request, and says so of each that failed', async () => {
    await using server = await oddServer(deleted(''));
    await server.target().deleteMany(Array.from({ length: 2001 }, (_, index) => `k${index}`));
    expect(server.requests).toEqual(Array(3).fill('POST /bucket?delete='));
    await server.target().deleteMany([]);
    expect(server.requests).toHaveLength(3);
  });

  test('rejects when one of them failed, though the status is 200', async () => {
    const failed = '<Error><Key>a</Key><Code>AccessDenied</Code><Message>no</Message></Error>';
    await using server = await oddServer(deleted(failed));
    await expect(server.target().deleteMany(['a', 'b'])).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await using busy = await oddServer(deleted('<Error><Key>a</Key><Code>InternalError</Code></Error>'));
    await expect(busy.target().deleteMany(['a'])).rejects.toMatchObject({
      code: 'TARGET_UNAVAILABLE',
      retryable: true,
    });
  });

  test('takes an absent object for a success, and half an answer for none', async () => {
    await using server = await oddServer(deleted('<Error><Key>a</Key><Code>NoSuchKey</Code></Error>'));
    await server.target().deleteMany(['a']);
    await using cut = await oddServer(xml(200, '<DeleteResult><Deleted>'));
    await expect(cut.target().deleteMany(['a'])).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' });
  });
});

describe('checksums', () => {
  const sha256 = (bytes: Uint8Array, encoding: 'hex' | 'base64') => createHash('sha256').update(bytes).digest(encoding);
  const keeping: Answer = (request, response) => {
    const length = request.method === 'PUT' ? 0 : 3;
    response.writeHead(200, { 'x-amz-checksum-sha256': sha256(body(), 'base64'), 'content-length': length });
    response.end(request.method === 'GET' ? body() : undefined);
  };

  test('are sent in the signed query, told and compared where the server keeps them', async () => {
    await using server = await oddServer(keeping);
    const target = server.target({ checksums: true });
    await target.put('a', body());
    expect(server.urls[0]?.searchParams.get('x-amz-checksum-sha256')).toBe(sha256(body(), 'base64'));
    expect(Object.keys(server.headers[0] ?? {}).filter((name) => name.startsWith('x-amz-'))).toEqual([]);
    expect(target.capabilities.checksums).toBe(true);
    expect((await target.stat('a'))?.sha256).toBe(sha256(body(), 'hex'));
    expect(server.urls[1]?.searchParams.get('x-amz-checksum-mode')).toBe('ENABLED');
    expect(await target.get('a')).toEqual(body());
    await target.put('b', body());
    expect(server.headers.map((each) => each['content-md5'] !== undefined)).toEqual([true, false, false, false]);
  });

  test('are sent in a header to a server that reads no query for them', async () => {
    await using server = await oddServer((request, response) => {
      const sent = request.headers['x-amz-checksum-sha256'];
      const answered = sent === undefined ? {} : { 'x-amz-checksum-sha256': sent as string };
      response.writeHead(200, { 'content-length': 0, ...answered }).end();
    });
    const target = server.target({ checksums: true });
    for (const key of ['a', 'b', 'c']) await target.put(key, body());
    expect(server.headers.map((each) => each['x-amz-checksum-sha256'] !== undefined)).toEqual([false, true, true]);
    expect(server.headers.map((each) => each['content-md5'] !== undefined)).toEqual([true, true, false]);
    await target.stat('a');
    expect(server.headers[3]?.['x-amz-checksum-mode']).toBe('ENABLED');
    expect(target.capabilities.checksums).toBe(true);
  });

  test('are no longer promised once the server has shown that it does not keep them', async () => {
    await using server = await oddServer(xml(200, ''));
    const target = server.target({ checksums: true });
    await target.put('a', body());
    await target.put('b', body());
    expect(target.capabilities.checksums).toBe(false);
  });

  test.each([400, 403, 405, 501])('that a server refuses with %i are done without', async (status) => {
    await using server = await oddServer((request, response) => {
      const asked = request.url?.includes('x-amz-checksum') || 'x-amz-checksum-sha256' in request.headers;
      xml(asked ? status : 200, asked ? errorXml('InvalidArgument') : '')(request, response);
    });
    const target = server.target({ checksums: true });
    await target.put('a', body(), { createOnly: true });
    expect(target.capabilities.checksums).toBe(false);
    const sent = server.requests.length;
    await target.put('b', body());
    expect(server.requests.length).toBe(sent + 1);
    expect(server.headers.at(-1)?.['content-md5']).toBe(createHash('md5').update(body()).digest('base64'));
  });

  test('that are wrong are no reason to do without, and never repeated', async () => {
    await using server = await oddServer(xml(503, errorXml('SlowDown')));
    const target = server.target({ checksums: true });
    await expect(target.put('a', body())).rejects.toMatchObject({ code: 'TARGET_THROTTLED' });
    expect(server.requests).toHaveLength(1);
    expect(target.capabilities.checksums).toBe(true);
  });

  test('that do not fit the body are CHECKSUM_MISMATCH', async () => {
    await using server = await oddServer((_request, response) => {
      response.writeHead(200, { 'x-amz-checksum-sha256': sha256(body(), 'base64') });
      response.end(new Uint8Array([1, 2, 4]));
    });
    const get = server.target({ checksums: true }).get('a');
    await expect(get).rejects.toMatchObject({ code: 'CHECKSUM_MISMATCH', retryable: true });
  });

  test('without them Content-MD5 guards a body, of many slices as well', async () => {
    await using server = await oddServer(xml(200, ''));
    const large = new Uint8Array(2 * 1024 * 1024 + 5).map((_, index) => index % 251);
    await server.target().put('a', large);
    expect(server.headers[0]?.['content-md5']).toBe(createHash('md5').update(large).digest('base64'));
    expect(server.urls[0]?.search).not.toContain('checksum');
  });
});

describe('the region', () => {
  const located =
    (location: string): Answer =>
    (request, response) =>
      request.url?.startsWith('/bucket?location=')
        ? xml(200, location)(request, response)
        : xml(200, '')(request, response);

  test.each([
    ['<LocationConstraint xmlns="x">eu-north-1</LocationConstraint>', 'eu-north-1'],
    ['<LocationConstraint/>', 'us-east-1'],
    ['<LocationConstraint>EU</LocationConstraint>', 'eu-west-1'],
  ])('is asked for once where the client has none: %s', async (location, region) => {
    await using server = await oddServer(located(location));
    const target = server.target({ client: server.client({ region: '' }) });
    await target.put('a', body());
    await target.put('b', body());
    expect(server.requests).toEqual(['GET /bucket?location=', 'PUT /bucket/a', 'PUT /bucket/b']);
    expect(server.urls[1]?.searchParams.get('X-Amz-Credential')).toContain(`/${region}/s3/`);
  });

  test('is learnt from who may not ask for it', async () => {
    const denied = errorXml('AuthorizationHeaderMalformed', '<Region>eu-north-1</Region>');
    await using server = await oddServer((request, response) =>
      request.url?.startsWith('/bucket?location=')
        ? xml(400, denied)(request, response)
        : xml(200, '')(request, response),
    );
    await server.target({ client: server.client({ region: '' }) }).put('a', body());
    expect(server.urls[1]?.searchParams.get('X-Amz-Credential')).toContain('/eu-north-1/s3/');
  });

  test('of a missing bucket is BUCKET_NOT_FOUND', async () => {
    await using server = await oddServer(xml(404, errorXml('NoSuchBucket')));
    const target = server.target({ client: server.client({ region: '' }) });
    await expect(target.stat('a')).rejects.toMatchObject({ code: 'BUCKET_NOT_FOUND' });
  });
});

test('the client is left as it was: its retries, its transport, its log', async () => {
  const warned = vi.spyOn(console, 'warn');
  await using server = await oddServer(xml(503, ''));
  const client = server.client();
  const before = { ...client };
  await expect(server.target({ client }).get('a')).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' });
  expect({ ...client }).toEqual(before);
  expect(warned).not.toHaveBeenCalled();
});

test('credentials that are not to be had are CREDENTIALS_REFUSED, and those out of reach may be tried again', async () => {
  await using server = await oddServer(xml(200, ''));
  const targetWith = (error: Error) => {
    const client = server.client();
    Object.assign(client, { credentialsProvider: { getCredentials: () => Promise.reject(error) } });
    return server.target({ client });
  };
  await expect(targetWith(new Error('secret-thing')).get('a')).rejects.toMatchObject({
    code: 'CREDENTIALS_REFUSED',
    message: expect.not.stringContaining('secret-thing'),
  });
  const missing = Object.assign(new Error('Unable to get credentials: no file'), { code: 'ENOENT' });
  await expect(targetWith(missing).get('a')).rejects.toMatchObject({ code: 'CREDENTIALS_REFUSED', retryable: false });
  const unreachable = Object.assign(new Error('connect'), { code: 'ECONNREFUSED' });
  await expect(targetWith(unreachable).get('a')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE', retryable: true });
});

test('a body over 5 GiB is refused before anything is sent', async () => {
  await using server = await oddServer(xml(200, ''));
  const huge = Object.defineProperty(new Uint8Array(1), 'byteLength', { value: 5 * 1024 ** 3 + 1 });
  await expect(server.target().put('a', huge)).rejects.toMatchObject({ code: 'OBJECT_TOO_LARGE' });
  expect(server.requests).toEqual([]);
});

test('misuse is a TypeError', async () => {
  await using server = await oddServer(() => {});
  expect(() => server.target({ bucket: '' })).toThrow(TypeError);
  for (const prefix of ['/a', 'a//b', 'a/../b', '.', 'é', 'x'.repeat(501)]) {
    expect(() => server.target({ prefix }), prefix).toThrow(TypeError);
  }
  expect(() => server.target({ requestTimeoutMs: 0 })).toThrow(TypeError);
  for (const totalTimeoutMs of [0, 2 ** 31]) expect(() => server.target({ totalTimeoutMs })).toThrow(TypeError);
  for (const client of [{}, undefined, null, 'client']) {
    expect(() => server.target({ client: client as never })).toThrow(/options\.client .*npm install minio@8/);
  }
  expect(() => new S3Target(undefined as never)).toThrow(/must name a client and a bucket/);
  expect(() => new S3Target({ client: server.client() } as never)).toThrow(/options\.bucket/);
  for (const bucket of ['ab', 'Bucket', 'a..b', 'a/b', '-ab', 7]) {
    expect(() => server.target({ bucket: bucket as string }), String(bucket)).toThrow(/options\.bucket/);
  }
  expect(() => server.target({ checksum: true } as never)).toThrow(/did you mean checksums/);
  expect(() => server.target({ deleteVersions: 'yes' } as never)).toThrow(/options\.deleteVersions/);
  expect(() => server.target({ createOnly: 0 } as never)).toThrow(/options\.createOnly/);
  expect(() => server.target({ agent: {} } as never)).toThrow(/options\.agent/);
  await expect(server.target().get('a', { range: { offset: -1, length: 1 } })).rejects.toThrow(TypeError);
});

test('the prefix is put before every key, and nothing else is seen', async () => {
  await using server = await oddServer((request, response) =>
    request.method === 'GET'
      ? xml(200, listXml(['Old%20stuff/b/c']))(request, response)
      : xml(200, '')(request, response),
  );
  const target = server.target({ prefix: 'Old stuff/' });
  await target.put('a/b', body());
  expect(await keysOf(target, 'b')).toEqual(['b/c']);
  expect(server.requests[0]).toBe('PUT /bucket/Old%20stuff/a/b');
  expect(server.requests[1]).toContain('prefix=Old%20stuff%2Fb');
});
