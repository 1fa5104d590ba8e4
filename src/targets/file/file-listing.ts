import type { Dirent } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { join } from 'node:path';
import { isMissing, systemCode } from '../../common/system-errors.ts';
import type { ObjectInfo } from '../cloud-target.ts';
import { isKey, isKeySegment } from '../keys.ts';
import { objectOrDirectoryAt } from './file-entries.ts';
import type { TargetFolder } from './file-folder.ts';

/** How many files are asked for their size at once. */
const STAT_AHEAD = 32;

interface Entry {
  readonly kind: 'object' | 'directory';
  /** The key of an object, or what all keys within a directory begin with. */
  readonly text: string;
  readonly path: string;
}

/** Which keys are asked for. */
interface Wanted {
  readonly prefix: string;
  readonly after: string | undefined;
}

/**
 * The objects in `folder` in key order, one directory in memory at a time (and those above it). What has a name that
 * no key could give it is passed over.
 *
 * @throws `TARGET_ERROR` at a link, or anything else but a file or a directory, in the place of an object that is asked
 * for; what `folder` throws when it is no longer the one it was
 */
export async function* listFiles(
  folder: TargetFolder,
  prefix: string,
  after: string | undefined,
): AsyncGenerator<ObjectInfo, void, undefined> {
  if (!(await folder.isThere())) return;
  yield* walk(folder, folder.path, '', { prefix, after });
  await folder.isThere(); // What vanished in the meantime would have been listed as empty.
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
    const infos = await Promise.all(entries.slice(index, end).map(infoOf));
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
    // Removed meanwhile with its last object, or an object has its name by now.
    if (!isMissing(error) && systemCode(error) !== 'ENOTDIR') throw error;
    await folder.isThere();
  }
  // Two entries never share a text, and the keys under one never lie on both sides of another's.
  return entries.sort((one, other) => (one.text < other.text ? -1 : 1));
}

/** Not every file system tells the kind along with the name. */
async function kindOf(found: Dirent, path: string): Promise<Entry['kind'] | undefined> {
  if (found.isFile()) return 'object';
  if (found.isDirectory()) return 'directory';
  const info = await objectOrDirectoryAt(path);
  return info && (info.isFile() ? 'object' : 'directory');
}

function isObjectWanted(key: string, { prefix, after }: Wanted): boolean {
  return key.startsWith(prefix) && (after === undefined || key > after) && isKey(key);
}

/** Whether any key that begins with `start` is asked for. */
function isAnyWanted(start: string, { prefix, after }: Wanted): boolean {
  if (!start.startsWith(prefix) && !prefix.startsWith(start)) return false;
  return after === undefined || start > after || after.startsWith(start);
}

async function infoOf(entry: Entry): Promise<ObjectInfo | undefined> {
  const info = await objectOrDirectoryAt(entry.path);
  return info?.isFile() ? { key: entry.text, size: info.size, modifiedAt: info.mtime } : undefined;
}
