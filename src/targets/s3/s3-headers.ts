import type { IncomingHttpHeaders } from 'node:http';
import type { ByteRange } from '../../common/byte-range.ts';
import { BackupError } from '../../common/errors.ts';
import type { ObjectInfo } from '../cloud-target.ts';

/** What the headers of an answer to HEAD tell of an object. */
export function infoOfHeaders(what: string, key: string, headers: IncomingHttpHeaders): ObjectInfo {
  const size = headers['content-length'];
  if (size === undefined || !/^\d{1,15}$/.test(size)) {
    throw new BackupError('TARGET_ERROR', `${what}: the server does not send the object's size`);
  }
  const modifiedAt = dateOf(headers['last-modified']);
  const sha256 = sha256OfHeaders(headers);
  const retainUntil = dateOf(headers['x-amz-object-lock-retain-until-date']);
  return {
    key,
    size: Number(size),
    ...(modifiedAt && { modifiedAt }),
    ...(sha256 && { sha256 }),
    ...(retainUntil && { retainUntil }),
  };
}

/** The SHA-256 of a whole body in hexadecimal digits. That of an object put in parts is something else: `<base64>-<parts>`. */
export function sha256OfHeaders(headers: IncomingHttpHeaders): string | undefined {
  const value = headers['x-amz-checksum-sha256'];
  if (typeof value !== 'string' || !/^[A-Za-z0-9+/]{43}=$/.test(value)) return undefined;
  return Buffer.from(value, 'base64').toString('hex');
}

/**
 * How many bytes the body of an answer to GET must have; `undefined` for a whole object whose size the server does not
 * tell beforehand. S3 cuts a range off at the object's end.
 *
 * @param maxBytes - no object is larger
 * @throws unless the answer is about to hold exactly what was asked for, and shows where it ends. One that just ends
 * with its connection can't be told from one that was cut short.
 */
export function expectedLength(
  what: string,
  answer: { readonly status: number; readonly headers: IncomingHttpHeaders },
  range: ByteRange | undefined,
  maxBytes: number,
): number | undefined {
  const ofRange = range && lengthOfRange(what, answer, range);
  if (range === undefined && answer.status !== 200) {
    throw new BackupError('TARGET_ERROR', `${what}: status ${answer.status} to a request for the whole object`);
  }
  const told = answer.headers['content-length'];
  if (told === undefined && !/(?:^|,\s*)chunked\s*$/i.test(answer.headers['transfer-encoding'] ?? '')) {
    throw unavailable(what, 'the server does not tell where its answer ends');
  }
  if (told === undefined) return ofRange;
  const length = /^\d{1,15}$/.test(told) ? Number(told) : Number.NaN;
  if (!(length <= maxBytes)) throw new BackupError('TARGET_ERROR', `${what}: the server answers ${told} bytes`);
  if (ofRange !== undefined && length !== ofRange) {
    throw unavailable(what, `the server answers ${length} bytes for a range of ${ofRange}`);
  }
  return length;
}

function lengthOfRange(
  what: string,
  answer: { readonly status: number; readonly headers: IncomingHttpHeaders },
  range: ByteRange,
): number {
  const parts = /^bytes (\d{1,15})-(\d{1,15})\/(?:\d{1,15}|\*)$/.exec(answer.headers['content-range'] ?? '');
  if (answer.status !== 206 || parts === null || Number(parts[1]) !== range.offset) {
    throw new BackupError('TARGET_ERROR', `${what}: the server does not answer the range that was asked for`);
  }
  const length = Number(parts[2]) + 1 - range.offset;
  if (length < range.length) {
    throw new BackupError(
      'RANGE_UNSATISFIABLE',
      `${what}: only ${length} of ${range.length} bytes from ${range.offset}`,
    );
  }
  if (length === range.length) return length;
  throw new BackupError('TARGET_ERROR', `${what}: the server answers more than the range that was asked for`);
}

function unavailable(what: string, why: string): BackupError {
  return new BackupError('TARGET_UNAVAILABLE', `${what}: ${why}`, { retryable: true });
}

function dateOf(value: string | string[] | undefined): Date | undefined {
  const time = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isNaN(time) ? undefined : new Date(time);
}
