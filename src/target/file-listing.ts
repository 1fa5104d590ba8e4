import { lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ObjectInfo } from './cloud-target.ts';
import { isMissing } from './file-errors.ts';
import { type EntryMeaning, meaningOf } from './file-path.ts';

/** How many files are asked for their size at once. */
const STAT_AHEAD = 32;

interface Entry extends EntryMeaning {
  readonly path: string;
}

/**
 * The objects in `folder` in key order, one directory in memory at a time (and those above it). Whatever is not
 * named as an object is passed over: temporary files, and files of other programs.
 */
export function listFiles(
  folder: string,
  prefix: string,
  after: string | undefined,
): AsyncGenerator<ObjectInfo, void, undefined> {
  return walk(folder, '', false, prefix, after);
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
      if (!found.isFile() && !found.isDirectory()) continue;
      const meaning = meaningOf(start, cut, found.name, found.isDirectory());
      if (meaning !== undefined && isWanted(meaning, prefix, after)) {
        entries.push({ ...meaning, path: join(directory, found.name) });
      }
    }
  } catch (error) {
    if (!isMissing(error)) throw error; // Pruned meanwhile, or a folder that nothing was put into yet.
  }
  // Two entries never share a text, and the keys under one never lie on both sides of another's.
  return entries.sort((one, other) => (one.text < other.text ? -1 : 1));
}

/** Whether an object is asked for, or any key of a directory may be. */
function isWanted({ kind, text }: EntryMeaning, prefix: string, after: string | undefined): boolean {
  if (kind === 'object') return text.startsWith(prefix) && (after === undefined || text > after);
  if (!text.startsWith(prefix) && !prefix.startsWith(text)) return false;
  return after === undefined || text > after || after.startsWith(text);
}

async function infoOf(entry: Entry): Promise<ObjectInfo | undefined> {
  try {
    const info = await lstat(entry.path);
    return info.isFile() ? { key: entry.text, size: info.size, modifiedAt: info.mtime } : undefined;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
