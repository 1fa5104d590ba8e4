import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import { isMissing, systemCode } from '../../common/system-errors.ts';

/**
 * What stands where a directory or an object of `FileTarget` should be. Nothing below its folder is reached through a
 * symbolic link, in no call: a listing that passed one over would be silently incomplete where `get` still works.
 */

/** What is found on the way to an object: all of its directories, not all of them, or a file that has the name of one. */
export type Way = 'there' | 'absent' | 'object';

/**
 * Follows `directories` from `folder` down, each in the one before.
 *
 * @throws `TARGET_ERROR` when a link or anything else that is neither a directory nor a file stands in the place of one
 */
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

/**
 * What the system tells of an object's file or of a directory in its place, `undefined` when nothing is there.
 *
 * @throws `TARGET_ERROR` when something else has its name
 */
export async function objectOrDirectoryAt(path: string): Promise<Stats | undefined> {
  const info = await entryAt(path);
  if (info !== undefined && !info.isFile() && !info.isDirectory()) throw unexpected(path, "an object's file");
  return info;
}

/** The error for what is neither a directory nor an object's file where it should be. */
export function unexpected(path: string, wanted: string): BackupError {
  return new BackupError('TARGET_ERROR', `${path} is not ${wanted}: links and other files are not followed`);
}

/** What has this name, `undefined` for nothing: also where a file stands in the place of a directory above. */
async function entryAt(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (isMissing(error) || systemCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}
