import type { Dirent } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ObjectInfo } from './cloud-target.ts';
import { directoriesExist, objectAt, unexpected } from './file-entries.ts';
import { isMissing } from './file-errors.ts';
import { type EntryMeaning, meaningOf } from './file-path.ts';

/** How many files are asked for their size at once. */
const STAT_AHEAD = 32;

interface Entry extends EntryMeaning {
  readonly path: string;
}

/**
 * The objects in `folder` in key order, one directory in memory at a time (and those above it). Whatever is not
 * named as an object or a directory of ours is passed over: temporary files, and files of other programs.
 *
 * @throws `TARGET_ERROR` at a link or anything else in the place of an object or a directory that is asked for. A
 * plain file in the place of a directory is only one if `prefix` leads into it; else it is another program's.
 */
export async function* listFiles(
  folder: string,
  prefix: string,
  after: string | undefined,
): AsyncGenerator<ObjectInfo, void, undefined> {
  if (await directoriesExist(folder, [])) yield* walk(folder, '', false, prefix, after);
}

async function* walk(
  directory: string,
  start: string,
  cut: boolean,
  prefix: string,
  after: string | undefined,
): AsyncGenerator<ObjectInfo, void, undefined> {
  const entries = await entriesOf(directory, start, cut, prefix, after);
  for (let index = 0; index < entries.length; ) {
    const entry = entries[index] as Entry;
    if (entry.kind === 'directory') {
      index++;
      yield* walk(entry.path, entry.text, entry.cut, prefix, after);
      continue;
    }
    let end = index + 1;
    while (end < entries.length && end - index < STAT_AHEAD && entries[end]?.kind === 'object') end++;
    const infos = await Promise.all(entries.slice(index, end).map(infoOf));
    for (const info of infos) if (info !== undefined) yield info;
    index = end;
  }
}

async function entriesOf(
  directory: string,
  start: string,
  cut: boolean,
  prefix: string,
  after: string | undefined,
): Promise<Entry[]> {
  const entries: Entry[] = [];
  try {
    for await (const found of await opendir(directory, { bufferSize: 256 })) {
      const meaning = meaningOf(start, cut, found.name);
      if (meaning === undefined || !isWanted(meaning, prefix, after)) continue;
      const path = join(directory, found.name);
      if (await isAsMeant(directory, found, meaning, prefix)) entries.push({ ...meaning, path });
    }
  } catch (error) {
    if (!isMissing(error)) throw error; // Pruned meanwhile, or a folder that nothing was put into yet.
  }
  // Two entries never share a text, and the keys under one never lie on both sides of another's.
  return entries.sort((one, other) => (one.text < other.text ? -1 : 1));
}

/** Whether an entry is what its name says; another program's file in the place of a directory is nobody's error. */
async function isAsMeant(directory: string, found: Dirent, meaning: EntryMeaning, prefix: string): Promise<boolean> {
  if (meaning.kind === 'object') {
    // Not every file system tells the kind along with the name, and it may have been replaced meanwhile.
    return found.isFile() || (await objectAt(join(directory, found.name))) !== undefined;
  }
  if (found.isDirectory()) return true;
  if (!found.isFile()) return directoriesExist(directory, [found.name]);
  if (prefix.startsWith(meaning.text)) throw unexpected(join(directory, found.name), 'a directory');
  return false;
}

/** Whether an object is asked for, or any key of a directory may be. */
function isWanted({ kind, text }: EntryMeaning, prefix: string, after: string | undefined): boolean {
  if (kind === 'object') return text.startsWith(prefix) && (after === undefined || text > after);
  if (!text.startsWith(prefix) && !prefix.startsWith(text)) return false;
  return after === undefined || text > after || after.startsWith(text);
}

async function infoOf(entry: Entry): Promise<ObjectInfo | undefined> {
  const info = await objectAt(entry.path);
  return info && { key: entry.text, size: info.size, modifiedAt: info.mtime };
}
