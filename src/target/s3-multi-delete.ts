import { BackupError } from '../common/errors.ts';
import { plainWord, s3Error } from './s3-errors.ts';
import { childText, escapeXml, parseXml } from './s3-xml.ts';

/** The body of a request that deletes several objects and tells only of failures. */
export function deleteBody(names: readonly string[]): Uint8Array<ArrayBuffer> {
  const objects = names.map((name) => `<Object><Key>${escapeXml(name)}</Key></Object>`).join('');
  const xmlns = 'http://s3.amazonaws.com/doc/2006-03-01/';
  return new TextEncoder().encode(`<Delete xmlns="${xmlns}"><Quiet>true</Quiet>${objects}</Delete>`);
}

/** The error of the first object that was not deleted, of which the answer, whose status is 200, tells. */
export function failedDeletes(what: string, body: Uint8Array): BackupError | undefined {
  const root = parseXml(new TextDecoder().decode(body));
  if (root?.name === 'Error') return failure(what, childText(root, 'Code'));
  if (root?.name !== 'DeleteResult') {
    return new BackupError('TARGET_UNAVAILABLE', `${what}: the answer is not whole`, { retryable: true });
  }
  const failed = root.children.filter((child) => child.name === 'Error' && childText(child, 'Code') !== 'NoSuchKey');
  const [first] = failed;
  if (first === undefined) return undefined;
  return failure(`${what}, of which ${failed.length} failed`, childText(first, 'Code'));
}

function failure(what: string, code: string | undefined): BackupError {
  return s3Error(what, { status: 200, code: plainWord(code), message: undefined, requestId: undefined });
}
