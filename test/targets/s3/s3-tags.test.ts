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
    ['unless it is weak, as proxies make it', 'W/"abc"', 'W/"abc"', [undefined, undefined, undefined]],
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
  test('sends no If-Match, which some servers refuse for every ETag, or with quotes, or without', async () => {
    await using server = await oddServer((request, response) => {
      if (request.headers['if-match'] !== undefined) return xml(412, errorXml('PreconditionFailed'))(request, response);
      const range = request.headers.range === undefined ? undefined : { 'content-range': 'bytes 0-2/9' };
      response.writeHead(range ? 206 : 200, { 'content-length': '3', etag: '"abc"', ...range });
      response.end(Buffer.from(body()));
    });
    const target = server.target();
    expect(await target.get('a', { ifTag: 'abc' })).toEqual(body());
    expect(await target.get('a', { ifTag: 'abc', range: { offset: 0, length: 3 } })).toEqual(body());
    expect(server.requests).toHaveLength(2);
  });

  test('is OBJECT_CHANGED where another object is too short for the range', async () => {
    for (const [etag, code] of [
      ['"other"', 'OBJECT_CHANGED'],
      ['"abc"', 'RANGE_UNSATISFIABLE'],
    ] as const) {
      await using server = await oddServer((request, response) => {
        if (request.method === 'GET') return xml(416, errorXml('InvalidRange'))(request, response);
        etags(etag, undefined)(request, response);
      });
      const get = server.target().get('a', { ifTag: 'abc', range: { offset: 5, length: 3 } });
      await expect(get).rejects.toMatchObject({ code });
    }
  });

  test('is OBJECT_CHANGED where the server answers another object, or does not say which', async () => {
    for (const etag of ['"other"', 'W/"abc"', undefined]) {
      await using server = await oddServer(etags(etag, undefined));
      const target = server.target();
      for (const range of [undefined, { offset: 3, length: 0 }]) {
        await expect(target.get('a', { ifTag: 'abc', range })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
      }
      expect(await target.get('a')).toEqual(body());
    }
  });

  test('is OBJECT_CHANGED where the host says that ETags are of no use, and asks no more', async () => {
    await using server = await oddServer(etags('"abc"', '"abc"'));
    const target = server.target({ tags: false });
    await expect(target.get('a', { ifTag: 'abc' })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
    expect(server.requests).toEqual(['GET /bucket/a']);
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

describe('a server', () => {
  const listedTags = (target: S3Target) => Array.fromAsync(target.list(''), ({ tag }) => tag);

  test('whose listings have other ETags than its headers has no tags once a get has met that', async () => {
    await using server = await oddServer(etags('"of-the-body"', '"of-what-is-stored"'));
    const target = server.target();
    const [tag] = await listedTags(target);
    await expect(target.get('a', { ifTag: tag })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
    expect(server.requests.slice(-3).map((request) => request.split(' ')[0])).toEqual(['HEAD', 'GET', 'HEAD']);
    expect(await listedTags(target)).toEqual([undefined]);
    expect(await tagsOf(target)).toEqual([undefined, undefined, undefined]);
    expect(await target.get('a')).toEqual(body());
  });

  test('whose headers have weak ETags has no tags once an answer has shown it', async () => {
    await using server = await oddServer(etags('W/"abc"', '"abc"'));
    const target = server.target();
    expect(await listedTags(target)).toEqual(['abc']);
    await expect(target.get('a', { ifTag: 'abc' })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
    expect(await listedTags(target)).toEqual([undefined]);
  });

  test('whose object was replaced keeps its tags, and is compared with its listings only once', async () => {
    await using server = await oddServer(etags('"new"', '"new"'));
    const target = server.target();
    for (let round = 0; round < 3; round++) {
      await expect(target.get('a', { ifTag: 'old' })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
    }
    expect(server.requests).toHaveLength(3 + 3);
    expect(await listedTags(target)).toEqual(['new']);
    expect(await target.get('a', { ifTag: 'new' })).toEqual(body());
  });

  test('that replaces its object while it is compared with its listing keeps its tags', async () => {
    let answers = 0;
    await using server = await oddServer((request, response) => {
      answers++;
      etags(`"${answers}"`, `"${answers}"`)(request, response);
    });
    const target = server.target();
    await expect(target.get('a', { ifTag: 'old' })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
    expect(await listedTags(target)).toEqual(['5']);
  });

  test('that fails while it is compared has said all the same that the object is another one', async () => {
    await using server = await oddServer((request, response) => {
      if (request.method === 'HEAD') return xml(503, '')(request, response);
      etags('"new"', '"new"')(request, response);
    });
    await expect(server.target().get('a', { ifTag: 'old' })).rejects.toMatchObject({ code: 'OBJECT_CHANGED' });
  });
});
