import { BackupError } from '../../common/errors.ts';
import { plainWord, s3Error, withoutSecrets } from './s3-errors.ts';
import type { S3Victim } from './s3-versions.ts';
import { childText, escapeXml, parseXml, type XmlElement } from './s3-xml.ts';

/** The body of a request that deletes several objects. */
export function deleteBody(victims: readonly S3Victim[]): Uint8Array<ArrayBuffer> {
  const objects = victims.map(({ name, versionId }) => {
    const version = versionId === undefined ? '' : `<VersionId>${escapeXml(versionId)}</VersionId>`;
    return `<Object><Key>${escapeXml(name)}</Key>${version}</Object>`;
  });
  const xmlns = 'http://s3.amazonaws.com/doc/2006-03-01/';
  // Not quiet: the answer tells where a deletion has only left a mark.
  return new TextEncoder().encode(`<Delete xmlns="${xmlns}"><Quiet>false</Quiet>${objects.join('')}</Delete>`);
}

/** What the answer to such a request says, whose status is 200 also where objects were not deleted. */
export interface S3DeleteAnswer {
  /** The error of the first object that was not deleted. */
  readonly failed: BackupError | undefined;
  /** Whether an object was only marked as deleted. */
  readonly marked: boolean;
}

export function deleteAnswer(what: string, body: Uint8Array): S3DeleteAnswer {
  const root = parseXml(new TextDecoder().decode(body));
  if (root?.name === 'Error') return { failed: failure(what, root), marked: false };
  if (root?.name !== 'DeleteResult') {
    const failed = new BackupError('TARGET_UNAVAILABLE', `${what}: the answer is not whole`, { retryable: true });
    return { failed, marked: false };
  }
  const marked = root.children.some(
    (child) =>
      child.name === 'Deleted' && childText(child, 'DeleteMarker') === 'true' && !childText(child, 'VersionId'),
  );
  const failed = root.children.filter((child) => child.name === 'Error' && childText(child, 'Code') !== 'NoSuchKey');
  const [first] = failed;
  if (first === undefined) return { failed: undefined, marked };
  const name = childText(first, 'Key')?.slice(0, 200);
  return { failed: failure(`${what}, of which ${failed.length} failed, the first one ${name}`, first), marked };
}

function failure(what: string, error: XmlElement): BackupError {
  const message = withoutSecrets(childText(error, 'Message'), []);
  return s3Error(what, { status: 200, code: plainWord(childText(error, 'Code')), message, requestId: undefined });
}
