import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Client } from 'minio';
import type { S3TargetOptions } from '../../../../src/targets/s3/s3-options.ts';
import { S3Target } from '../../../../src/targets/s3/s3-target.ts';

export const ACCESS_KEY = 'AKIAODDSERVERTESTKEY';
export const SECRET_KEY = 'a+very/secret/key+of/forty+characters+00';
export const SESSION_TOKEN = 'FwoGZXIvYXdzEXAMPLETOKENvaluethatislong==';

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

export interface OddServer extends AsyncDisposable {
  /** What was asked for: method, path and query. */
  readonly requests: string[];
  /** With the signature. */
  readonly urls: URL[];
  readonly headers: IncomingMessage['headers'][];
  target(options?: Partial<S3TargetOptions>): S3Target;
  client(options?: { region?: string; sessionToken?: string }): Client;
}

/** A server on loopback that answers what a test says, however odd. */
export async function oddServer(answer: Answer): Promise<OddServer> {
  const requests: string[] = [];
  const urls: URL[] = [];
  const headers: IncomingMessage['headers'][] = [];
  const server = createServer((request, response) => {
    // Without the signature, which is in the query.
    requests.push(`${request.method} ${request.url?.replace(/[?&]X-Amz-[^&]*/g, '').replace(/^([^?]*)&/, '$1?')}`);
    urls.push(new URL(request.url ?? '', 'http://host'));
    headers.push(request.headers);
    request.resume();
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client: OddServer['client'] = ({ region = 'us-east-1', sessionToken = SESSION_TOKEN } = {}) =>
    new Client({
      endPoint: '127.0.0.1',
      port,
      useSSL: false,
      accessKey: ACCESS_KEY,
      secretKey: SECRET_KEY,
      sessionToken,
      ...(region === '' ? {} : { region }),
    });
  return {
    requests,
    urls,
    headers,
    client,
    target: (options) => new S3Target({ client: client(), bucket: 'bucket', requestTimeoutMs: 5_000, ...options }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Answers with a status and a body of XML. */
export function xml(status: number, body: string, headers: Record<string, string> = {}): Answer {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/xml', ...headers });
    response.end(body);
  };
}

export function errorXml(code: string, fields = ''): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code>${fields}</Error>`;
}

export function listXml(keys: readonly string[], nextToken?: string, truncated = nextToken !== undefined): string {
  const contents = keys.map(
    (key) =>
      `<Contents><Key>${key}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&quot;x&quot;</ETag><Size>7</Size></Contents>`,
  );
  const token = nextToken === undefined ? '' : `<NextContinuationToken>${nextToken}</NextContinuationToken>`;
  return `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><EncodingType>url</EncodingType><IsTruncated>${truncated}</IsTruncated>${contents.join('')}${token}</ListBucketResult>`;
}
