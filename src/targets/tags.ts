import { BackupError } from '../common/errors.ts';
import type { PutResult } from './cloud-target.ts';

/** The tag of the object that a put has stored; `undefined` if its target does not say it. A host's own target may resolve to anything. */
export function tagOfPut(result: PutResult): string | undefined {
  const tag: unknown = (result as { tag?: unknown } | null | undefined)?.tag;
  return typeof tag === 'string' && tag !== '' ? tag : undefined;
}

/** Throws `OBJECT_CHANGED` unless an object has the tag that a get asks for. */
export function requireTag(what: string, tag: string | undefined, ifTag: string | undefined): void {
  if (ifTag !== undefined && tag !== ifTag) throw changed(what, tag);
}

function changed(what: string, tag: string | undefined): BackupError {
  const how = tag === undefined ? 'it has no tag (any more)' : 'it has another tag';
  return new BackupError(
    'OBJECT_CHANGED',
    `object ${what} is not the one that was asked for: ${how}; list or stat it again`,
  );
}
