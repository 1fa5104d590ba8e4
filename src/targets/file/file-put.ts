import { join } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import { isMissing, systemCode } from '../../common/system-errors.ts';
import { keyInTheWay } from '../keys.ts';
import { type DurableFiles, discard } from './durable-file.ts';
import { objectOrDirectoryAt, wayTo } from './file-entries.ts';
import type { TargetFolder } from './file-folder.ts';
import type { Place } from './file-path.ts';
import { unfinishedName } from './unfinished-files.ts';

/** A directory can vanish under a writer as often as somebody empties it; more often than this is no accident. */
const MAX_VANISHED = 20;

/** A put as `FileTarget` was asked for it. */
export interface FilePut {
  readonly key: string;
  readonly place: Place;
  readonly body: Uint8Array;
  /** Bytes of the body when the call was made. */
  readonly length: number;
  readonly createOnly: boolean;
  readonly onSent: ((bytes: number) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Writes the body to a file of the reserved folder, which is only there in the folder that was opened, and gives it its
 * name when its content is durable. So nothing can be put into the folder below a mount point, at whatever moment the
 * disk is unmounted, and nothing but whole objects ever has an object's name.
 */
export async function putFile(folder: TargetFolder, files: DurableFiles, put: FilePut): Promise<void> {
  await folder.prepare();
  await checkWay(folder.path, put);
  for (let vanished = 0; ; vanished++) {
    const temporary = join(folder.reserved, unfinishedName());
    try {
      await write(folder, files, temporary, put);
      put.signal?.throwIfAborted();
      await makeDirectories(folder.path, files, put.place.directories);
      if (put.createOnly) await files.publishNew(temporary, put.place.path, put.key);
      else await files.publish(temporary, put.place.path);
      break;
    } catch (error) {
      await discard(temporary);
      // A delete removed the directory with its last object, or somebody took the temporary file for a leftover. Nothing
      // has been published, so again is safe.
      // A key is to blame, or a directory to be made again, only in a folder that is still there.
      if (isMissing(error) || systemCode(error) === 'ENOTDIR') await folder.isThere();
      if (!isMissing(error) || vanished === MAX_VANISHED) throw refused(error, put);
    }
  }
  // Up to the folder itself: another writer may have made the directories and not come to this point yet.
  const { directories } = put.place;
  for (let depth = directories.length; depth >= 0; depth--) {
    await files.sync(join(folder.path, ...directories.slice(0, depth)));
  }
  // Where the disk was unplugged after the object got its name, what was synced is the folder below the mount point.
  await folder.isThere();
}

/** Before anything is made, lest it be made at the far end of a link; and the error that says what is in the way. */
async function checkWay(folder: string, { key, place }: FilePut): Promise<void> {
  const way = await wayTo(folder, place.directories);
  if (way === 'object') throw keyInTheWay(key, 'a part of it is one');
  if (way === 'there' && (await objectOrDirectoryAt(place.path))?.isDirectory()) {
    throw keyInTheWay(key, 'others begin with it');
  }
}

async function write(folder: TargetFolder, files: DurableFiles, path: string, put: FilePut): Promise<void> {
  try {
    await files.write(path, put.body, put.length, put.onSent);
  } catch (error) {
    if (!isMissing(error)) throw error;
    await folder.isThere();
    throw folder.emptied();
  }
}

/** One by one, and never the folder itself: `mkdir -p` would make it anew where a disk was unmounted. */
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
