import { describe, expect, test } from 'vitest';
import type { S3TargetOptions } from '../../../src/targets/s3/s3-options.ts';
import type { S3Target } from '../../../src/targets/s3/s3-target.ts';
import { type Answer, errorXml, oddServer, xml } from './support/odd-server.ts';

const body = () => new Uint8Array([1, 2, 3]);

/** A server that gives its only object an ETag as a test says: in headers, and in a listing. */
function etags(inHeaders: string | undefined, inXml: string | undefined): Answer {
  return (request, response) => {
    if (request.url?.includes('list-type')) {
      const etag = inXml === undefined ? '' : `<ETag>${inXml.replaceAll('"', '&quot;')}</ETag>`;
      const entry = `<Contents><Key>a</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>${etag}<Size>3</Size></Contents>`;
      return xml(200, `<ListBucketResult><IsTruncated>false</IsTruncated>${entry}</ListBucketResult>`)(
        request,
        response,
      );
    }
    const headers = { 'content-length': '3', ...(inHeaders === undefined ? {} : { etag: inHeaders }) };
    response.writeHead(200, request.method === 'PUT' ? { ...headers, 'content-length': '0' } : headers);
    response.end(request.method === 'GET' ? Buffer.from(body()) : undefined);
  };
}

/** The tags that put, stat and list give. */
async function tagsOf(target: S3Target): Promise<unknown[]> {
  const stored = (await target.put('a', body())) as { tag?: string };
  const [listed] = await Array.fromAsync(target.list(''));
  return [stored.tag, (await target.stat('a'))?.tag, listed?.tag];
}

describe('the tag of an object is its ETag', () => {
  test.each<[string, string | undefined, string | undefined, unknown[], Partial<S3TargetOptions>?]>([
    ['without the quotes', '"abc-2"', '"abc-2"', ['abc-2', 'abc-2', 'abc-2']],
    ['whether it has quotes or not', '"abc"', 'abc', ['abc', 'abc', 'abc']],
    ['unless it is weak, as proxies make it', 'W/"abc"', '"abc"', [undefined, undefined, 'abc']],
    ['unless it is weak and has no quotes', 'W/abc', 'W/abc', [undefined, undefined, undefined]],
    ['unless it is empty', '""', '', [undefined, undefined, undefined]],
    ['unless it is no ETag', '"a b"', '"a"b"', [undefined, undefined, undefined]],
    ['unless there is none', undefined, undefined, [undefined, undefined, undefined]],
    ['unless the host says that it is of no use', '"abc"', '"abc"', [undefined, undefined, undefined], { tags: false }],
  ])('%s', async (_name, inHeaders, inXml, expected, options) => {
    await using server = await oddServer(etags(inHeaders, inXml));
    expect(await tagsOf(server.target(options))).toEqual(expected);
  });
});

describe('a get with ifTag', () => {
  test('sends If-Match, also with a range, and no other get does', async () => {
    await using server = await oddServer((request, response) => {
      const range = request.headers.range === undefined ? undefined : { 'content-range': 'bytes 0-2/9' };
      response.writeHead(range ? 206 : 200, { 'content-length': '3', etag: '"abc"', ...range });
      response.end(Buffer.from(body()));
    });
    const target = server.target();
    expect(await target.get('a', { ifTag: 'abc' })).toEqual(body());
    expect(await target.get('a', { ifTag: 'abc', range: { offset: 0, length: 3 } })).toEqual(body());
    await target.get('a');
    expect(server.headers.map((headers) => headers['if-match'])).toEqual(['"abc"', '"abc"', undefined]);
  });

  test('is OBJECT_CHANGED where the server says 412, with what it said as the cause', async () => {
    await using server = await oddServer(xml(412, errorXml('PreconditionFailed')));
    await expect(server.target().get('a', { ifTag: 'abc' })).rejects.toMatchObject({
      code: 'OBJECT_CHANGED',
      retryable: false,
      message: expect.stringContaining('get of object a in bucket bucket'),
      cause: { code: 'PreconditionFailed', status: 412 },
    });
    expect(server.requests).toHaveLength(1);
  });

  test('is OBJECT_CHANGED where the server ignores If-Match and answers another object, or does not say which', async () => {
    for (const etag of ['"other"', 'W/"abc"', undefined]) {
      await using server = await oddServer(etags(etag, undefined));
      const target = server.target();
      for (const range of [undefined, { offset: 3, length: 0 }]) {
        await expect(target.get('a', { ifTag: 'abc', range })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
      }
      expect(await target.get('a')).toEqual(body());
    }
  });

  test('is OBJECT_CHANGED without a request where the host says that ETags are of no use', async () => {
    await using server = await oddServer(etags('"abc"', '"abc"'));
    const target = server.target({ tags: false });
    await expect(target.get('a', { ifTag: 'abc' })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
    expect(server.requests).toEqual([]);
  });

  test('is what other failures are', async () => {
    for (const [status, said, code] of [
      [404, 'NoSuchKey', 'OBJECT_NOT_FOUND'],
      [404, 'NoSuchBucket', 'BUCKET_NOT_FOUND'],
      [403, 'AccessDenied', 'PERMISSION_DENIED'],
      [503, 'SlowDown', 'TARGET_THROTTLED'],
    ] as const) {
      await using server = await oddServer(xml(status, errorXml(said)));
      await expect(server.target().get('a', { ifTag: 'abc' })).rejects.toMatchObject({ code });
    }
  });
});
