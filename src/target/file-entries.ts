import type { Stats } from 'node:fs';
import { lstat, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BackupError } from '../common/errors.ts';
import { isMissing } from './file-errors.ts';

/**
 * What stands where a directory or an object of `FileTarget` should be. Nothing below its folder is reached through a
 * symbolic link, in no call: a listing that passed one over would be silently incomplete where `get` still works.
 */

/**
 * Whether all of these directories are there, each in the one before, the first in `folder`.
 *
 * @throws `TARGET_ERROR` when something else stands in the place of one
 */
export async function directoriesExist(folder: string, directories: readonly string[]): Promise<boolean> {
  const top = await found(folder);
  if (top === undefined) return false;
  // The folder itself may be a link, to a directory that is there.
  const target = top.isSymbolicLink() ? await existing(stat(folder)) : top;
  if (!target?.isDirectory()) throw unexpected(folder, 'a directory');
  let path = folder;
  for (const name of directories) {
    path = join(path, name);
    const info = await found(path);
    if (info === undefined) return false;
    if (!info.isDirectory()) throw unexpected(path, 'a directory');
  }
  return true;
}

/**
 * What the system tells of an object's file, `undefined` when it is not there.
 *
 * @throws `TARGET_ERROR` when something else than a file has its name
 */
export async function objectAt(path: string): Promise<Stats | undefined> {
  const info = await found(path);
  if (info !== undefined && !info.isFile()) throw unexpected(path, "an object's file");
  return info;
}

/** The error for what is neither a directory nor an object's file where it should be. */
export function unexpected(path: string, wanted: string): BackupError {
  return new BackupError('TARGET_ERROR', `${path} is not ${wanted}: links and other files are not followed`);
}

function found(path: string): Promise<Stats | undefined> {
  return existing(lstat(path));
}

async function existing(looking: Promise<Stats>): Promise<Stats | undefined> {
  try {
    return await looking;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
