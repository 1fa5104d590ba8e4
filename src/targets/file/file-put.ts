import type { BigIntStats } from 'node:fs';
import { join } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import { isMissing, systemCode } from '../../common/system-errors.ts';
import type { StoredObject } from '../cloud-target.ts';
import { keyInTheWay } from '../keys.ts';
import { type DurableFiles, discard } from './durable-file.ts';
import { type ObjectPath, objectOrDirectoryAt, wayTo } from './object-path.ts';
import type { TargetFolder } from './target-folder.ts';
import { unfinishedName } from './unfinished-files.ts';

/** A directory vanishes during a put when its last object is deleted. More often than this, something else removes it. */
const MAX_VANISHED = 20;

/** The arguments of a put. */
export interface FilePut {
  readonly key: string;
  readonly at: ObjectPath;
  readonly body: Uint8Array;
  /** The length of the body when the call began, in bytes. */
  readonly length: number;
  readonly createOnly: boolean;
  readonly onSent: ((bytes: number) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Writes the body to a file in the reserved folder, and gives the file the object's name when its content is durable. Only
 * whole objects ever have an object's name. Because the reserved folder exists only in the folder that was opened, nothing is
 * ever put into the folder below a mount point, whenever the disk is unmounted.
 */
export async function putFile(folder: TargetFolder, files: DurableFiles, put: FilePut): Promise<StoredObject> {
  await folder.prepare();
  await checkWay(folder.path, put);
  let tag: string | undefined;
  for (let vanished = 0; ; vanished++) {
    const temporary = join(folder.reserved, unfinishedName());
    try {
      tag = folder.tagOf(await write(folder, files, temporary, put));
      put.signal?.throwIfAborted();
      await makeDirectories(folder.path, files, put.at.directories);
      if (put.createOnly) await files.publishNew(temporary, put.at.path, put.key);
      else await files.publish(temporary, put.at.path);
      break;
    } catch (error) {
      await discard(temporary);
      // A delete has removed the directory with its last object, or another process has taken the temporary file for a
      // leftover. Nothing has been published, so another attempt is safe, if this is still the same folder.
      if (isMissing(error) || systemCode(error) === 'ENOTDIR') await folder.isThere();
      if (!isMissing(error) || vanished === MAX_VANISHED) throw refused(error, put);
    }
  }
  // All directories are synced, because another writer may have created them and not have made their names durable yet.
  const { directories } = put.at;
  for (let depth = directories.length; depth >= 0; depth--) {
    await files.sync(join(folder.path, ...directories.slice(0, depth)));
  }
  // If the disk was unplugged after the object got its name, the folder below the mount point was synced instead.
  await folder.isThere();
  return { tag };
}

/** Throws if an object, a link or a directory is in the way. Checked first, so that nothing is created behind a link. */
async function checkWay(folder: string, { key, at }: FilePut): Promise<void> {
  const way = await wayTo(folder, at.directories);
  if (way === 'object') throw keyInTheWay(key, 'a part of it is one');
  if (way === 'there' && (await objectOrDirectoryAt(at.path))?.isDirectory()) {
    throw keyInTheWay(key, 'others begin with it');
  }
}

async function write(folder: TargetFolder, files: DurableFiles, path: string, put: FilePut): Promise<BigIntStats> {
  try {
    return await files.write(path, put.body, put.length, folder.isExact, put.onSent);
  } catch (error) {
    if (!isMissing(error)) throw error;
    await folder.isThere();
    throw folder.emptied();
  }
}

/** Creates directories one by one, and never the folder itself, which `mkdir -p` would create after the disk was unmounted. */
async function makeDirectories(folder: string, files: DurableFiles, directories: readonly string[]): Promise<void> {
  for (let depth = 1; depth <= directories.length; depth++) {
    await files.makeOne(join(folder, ...directories.slice(0, depth)));
  }
}

function refused(error: unknown, { key }: FilePut): unknown {
  const code = systemCode(error);
  if (code === 'ENOTDIR') return keyInTheWay(key, 'a part of it is one');
  if (code === 'EISDIR') return keyInTheWay(key, 'others begin with it');
  if (!isMissing(error)) return error;
  const message = `put of object ${key}: another program removed its directory ${MAX_VANISHED} times during the call`;
  return new BackupError('TARGET_ERROR', message, { cause: error });
}
