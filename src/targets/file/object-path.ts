import type { BigIntStats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { isMissing, systemCode } from '../../common/system-errors.ts';
import type { ObjectInfo } from '../cloud-target.ts';
import { unexpected } from './file-errors.ts';

/**
 * Where `FileTarget` keeps an object: in the file that its key names below the folder, which is where a sync tool puts it when
 * it copies a bucket. All other files are in one reserved folder, whose name is not a key (`docs/FORMAT.md`, section 11).
 *
 * No call follows a symbolic link below the folder: a listing that skipped one would silently be incomplete where `get` works.
 */

/** The name of the folder for the mark of the target's folder and for unfinished puts. */
export const RESERVED = '.cow-cloud-backup';

/** The path of an object: the names of its directories below the folder, the path of the last one, and that of the file. */
export interface ObjectPath {
  readonly directories: readonly string[];
  readonly directory: string;
  readonly path: string;
}

/** The path of the object with a key in `folder`. */
export function pathOf(folder: string, key: string): ObjectPath {
  const names = key.split('/');
  const directories = names.slice(0, -1);
  return { directories, directory: join(folder, ...directories), path: join(folder, ...names) };
}

/** The state of an object's directories: all exist, one does not, or a file has the name of one. */
export type Way = 'there' | 'absent' | 'object';

/** Looks for `directories` from `folder` down. @throws `TARGET_ERROR` for one that is a link or a special file */
export async function wayTo(folder: string, directories: readonly string[]): Promise<Way> {
  let path = folder;
  for (const name of directories) {
    path = join(path, name);
    const info = await entryAt(path);
    if (info === undefined) return 'absent';
    if (info.isFile()) return 'object';
    if (!info.isDirectory()) throw unexpected(path, 'a directory');
  }
  return 'there';
}

/** The status of an object's file, or of a directory of that name. @throws `TARGET_ERROR` if it is something else */
export async function objectOrDirectoryAt(path: string): Promise<BigIntStats | undefined> {
  const info = await entryAt(path);
  if (info !== undefined && !info.isFile() && !info.isDirectory()) throw unexpected(path, "an object's file");
  return info;
}

/** What the file system knows about an object; `undefined` if there is no such object. */
export async function objectInfoAt(
  key: string,
  path: string,
  tagOf: (info: BigIntStats) => string | undefined,
): Promise<ObjectInfo | undefined> {
  const info = await objectOrDirectoryAt(path);
  if (!info?.isFile()) return undefined;
  const tag = tagOf(info);
  return { key, size: Number(info.size), modifiedAt: info.mtime, ...(tag && { tag }) };
}

/** The status of whatever has a name; `undefined` if nothing has it, or if a file has the name of a directory above. */
async function entryAt(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (isMissing(error) || systemCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}
