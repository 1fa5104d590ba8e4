import { type BigIntStats, constants, type Dirent } from 'node:fs';
import { type FileHandle, open, opendir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ByteRange } from '../../common/byte-range.ts';
import { BackupError } from '../../common/errors.ts';
import { isMissing, systemCode } from '../../common/system-errors.ts';
import type { ObjectInfo } from '../cloud-target.ts';
import { isKey, isKeySegment } from '../keys.ts';
import { rangeWithin, roomFor } from '../object-range.ts';
import { requireTag } from '../tags.ts';
import { unexpected } from './file-errors.ts';
import { readFully } from './file-transfer.ts';
import { objectInfoAt, objectOrDirectoryAt } from './object-path.ts';
import type { TargetFolder } from './target-folder.ts';

/* Reading a folder of objects: one of them, and the list of them. */

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

/** The number of files whose sizes are read at once. */
const STAT_AHEAD = 32;

interface Entry {
  readonly kind: 'object' | 'directory';
  /** The key of an object, or the prefix of all keys in a directory. */
  readonly text: string;
  readonly path: string;
}

/** The arguments of a listing. */
interface Wanted {
  readonly prefix: string;
  readonly after: string | undefined;
}

/**
 * Lists the objects in `folder` in key order. Only one directory and those above it are in memory at a time. Files whose names
 * can't be part of a key are left out.
 */
export async function* listFiles(
  folder: TargetFolder,
  prefix: string,
  after: string | undefined,
): AsyncGenerator<ObjectInfo, void, undefined> {
  if (!(await folder.isThere())) return;
  yield* walk(folder, folder.path, '', { prefix, after });
  await folder.isThere(); // A folder that has vanished meanwhile would have been listed as empty.
}

async function* walk(
  folder: TargetFolder,
  directory: string,
  start: string,
  wanted: Wanted,
): AsyncGenerator<ObjectInfo, void, undefined> {
  const entries = await entriesOf(folder, directory, start, wanted);
  for (let index = 0; index < entries.length; ) {
    const entry = entries[index] as Entry;
    if (entry.kind === 'directory') {
      index++;
      yield* walk(folder, entry.path, entry.text, wanted);
      continue;
    }
    let end = index + 1;
    while (end < entries.length && end - index < STAT_AHEAD && entries[end]?.kind === 'object') end++;
    const infos = await Promise.all(
      entries.slice(index, end).map(({ text, path }) => objectInfoAt(text, path, folder.tagOf)),
    );
    for (const info of infos) if (info !== undefined) yield info;
    index = end;
  }
}

async function entriesOf(folder: TargetFolder, directory: string, start: string, wanted: Wanted): Promise<Entry[]> {
  const entries: Entry[] = [];
  try {
    for await (const found of await opendir(directory, { bufferSize: 256 })) {
      if (!isKeySegment(found.name)) continue;
      const path = join(directory, found.name);
      const [object, inside] = [`${start}${found.name}`, `${start}${found.name}/`];
      const mayBeWanted = isObjectWanted(object, wanted) || isAnyWanted(inside, wanted);
      const kind = mayBeWanted ? await kindOf(found, path) : undefined;
      if (kind === 'directory' && isAnyWanted(inside, wanted)) entries.push({ kind, text: inside, path });
      if (kind === 'object' && isObjectWanted(object, wanted)) entries.push({ kind, text: object, path });
    }
  } catch (error) {
    // The directory was removed with its last object meanwhile, or an object has its name by now.
    if (!isMissing(error) && systemCode(error) !== 'ENOTDIR') throw error;
    await folder.isThere();
  }
  // Two entries never have the same text, and the keys in one directory are never on both sides of another entry.
  return entries.sort((one, other) => (one.text < other.text ? -1 : 1));
}

/** The kind of an entry, which not every file system provides along with the name. */
async function kindOf(found: Dirent, path: string): Promise<Entry['kind'] | undefined> {
  if (found.isFile()) return 'object';
  if (found.isDirectory()) return 'directory';
  const info = await objectOrDirectoryAt(path);
  return info && (info.isFile() ? 'object' : 'directory');
}

function isObjectWanted(key: string, { prefix, after }: Wanted): boolean {
  return key.startsWith(prefix) && (after === undefined || key > after) && isKey(key);
}

/** Whether the listing may hold a key that begins with `start`. */
function isAnyWanted(start: string, { prefix, after }: Wanted): boolean {
  if (!start.startsWith(prefix) && !prefix.startsWith(start)) return false;
  return after === undefined || start > after || after.startsWith(start);
}
