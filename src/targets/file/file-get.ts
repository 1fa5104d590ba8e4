import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { ByteRange } from '../../common/byte-range.ts';
import { BackupError } from '../../common/errors.ts';
import { isMissing, systemCode } from '../../common/system-errors.ts';
import { rangeWithin, roomFor } from '../object-range.ts';
import { requireTag } from '../tags.ts';
import { unexpected } from './file-errors.ts';
import { readFully } from './file-transfer.ts';

/** An object is never opened through a symbolic link, and opening a pipe must not wait for its other end. */
const READ_FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/** The arguments of a get. */
export interface FileGet {
  readonly key: string;
  readonly range: ByteRange | undefined;
  readonly ifTag: string | undefined;
}

/** The bytes of an object; `undefined` if there is no such object. */
export async function readObject(
  path: string,
  { key, range, ifTag }: FileGet,
  tagOf: (info: BigIntStats) => string | undefined,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, READ_FLAGS);
  } catch (error) {
    if (isMissing(error) || systemCode(error) === 'EISDIR') return undefined;
    throw error;
  }
  try {
    const info = await file.stat({ bigint: true });
    if (info.isDirectory()) return undefined; // Other keys begin with this one.
    if (!info.isFile()) throw unexpected(path, "an object's file");
    requireTag(key, tagOf(info), ifTag);
    const { offset, length } = rangeWithin(key, Number(info.size), range);
    const bytes = roomFor(`get of object ${key}`, length);
    const done = await readFully(file, bytes, offset);
    // Another program may have written to the file meanwhile.
    if (ifTag !== undefined) requireTag(key, tagOf(await file.stat({ bigint: true })), ifTag);
    if (done === length) return bytes;
    throw new BackupError(
      'TARGET_ERROR',
      `the file of object ${key} was shortened to ${offset + done} bytes while it was read`,
    );
  } finally {
    await file.close();
  }
}
