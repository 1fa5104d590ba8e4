import { constants } from 'node:fs';
import { type FileHandle, open, rmdir, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { type AbortOptions, abortable } from '../common/abort.ts';
import { textArgument } from '../common/arguments.ts';
import type { ByteRange } from '../common/byte-range.ts';
import { BackupError } from '../common/errors.ts';
import type {
  CloudTarget,
  GetOptions,
  ListOptions,
  ObjectInfo,
  PutOptions,
  TargetCapabilities,
} from './cloud-target.ts';
import {
  discard,
  makeDirectory,
  publish,
  publishNew,
  removeStaleTemporaries,
  syncDirectory,
  syncName,
  writeTemporary,
} from './durable-file.ts';
import { directoriesExist, objectAt, unexpected } from './file-entries.ts';
import { fileError, isMissing, systemCode } from './file-errors.ts';
import { listFiles } from './file-listing.ts';
import { objectPath } from './file-path.ts';
import { readFully } from './file-transfer.ts';
import { checkKey } from './keys.ts';
import { Lifetime } from './lifetime.ts';
import { checkRange, rangeWithin, roomFor } from './object-range.ts';

/** A directory can vanish under a writer as often as somebody empties it; more often than this is no accident. */
const MAX_VANISHED = 20;

/** Neither a symbolic link nor the far end of a pipe is ever an object. */
const READ_FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/** Where an object is: the names of its directories below the folder, and two paths. */
interface Place {
  readonly directories: readonly string[];
  readonly directory: string;
  readonly path: string;
}

/**
 * Objects as files in a folder, which is made when the first one is put; a folder that is not there holds no
 * objects. Any number of processes may use one folder at once.
 *
 * An object appears whole or not at all, whatever happens to the process or the power, and is durable when
 * `put` has resolved. Needs a POSIX file system, with hard links for create-only puts. **Windows is not supported**: its
 * file systems drop dots at the end of a name, so that two keys could be one file, and directories can't be synced.
 *
 * The folder may be a symbolic link to a directory; below it nothing is followed. A link, or anything else that is
 * not what a key's name says, is `TARGET_ERROR` to every call that comes upon it, listings too. Files of other programs
 * are passed over unless a key or prefix leads into one as if it were a directory.
 *
 * Besides what is said at each call, all of them throw `INVALID_KEY`, `CLOSED`, `signal.reason`, and for what the
 * system refuses `PERMISSION_DENIED`, `TARGET_ERROR` or, with `retryable`, `TARGET_UNAVAILABLE`, `TARGET_UNREACHABLE` and
 * `TARGET_TIMEOUT` (the last two from folders on a network).
 *
 * @public
 */
export class FileTarget implements CloudTarget {
  readonly capabilities: TargetCapabilities = { createOnly: true, checksums: false };
  /** Where the objects are, as an absolute path. */
  readonly folder: string;
  readonly #lifetime: Lifetime;
  /** Directories that this instance has looked through for what dead writers left. */
  readonly #swept = new Set<string>();
  /** Whether this instance has made the folder's own name durable. */
  #named = false;

  /** @throws `TypeError` when `folder` is no text or empty. A relative one is of the process's directory as of now. */
  constructor(folder: string) {
    this.folder = resolve(textArgument('folder', folder));
    this.#lifetime = new Lifetime(`the FileTarget in ${this.folder}`);
  }

  /**
   * Stores `body`, durably, replacing what was there unless `createOnly` is set.
   *
   * @throws `OBJECT_EXISTS` and `CREATE_ONLY_UNSUPPORTED` (a file system without hard links) with `createOnly`;
   * `NO_SPACE`, `READ_ONLY`, `OBJECT_TOO_LARGE` (for the file system)
   */
  async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<void> {
    this.#lifetime.check(options.signal);
    const place = this.#locate(key);
    const store = async () => {
      for (let vanished = 0; ; vanished++) {
        try {
          return await this.#store(key, place, body, options);
        } catch (error) {
          // A delete that pruned the directory came between; Node's mkdir takes that for ENOTDIR at times. Nothing
          // has been published, so again is safe.
          const pruned = isMissing(error) || systemCode(error) === 'ENOTDIR';
          if (!pruned || vanished === MAX_VANISHED) throw error;
        }
      }
    };
    await this.#run(store, `put of object ${key}`, options.signal);
  }

  async #store(key: string, place: Place, body: Uint8Array, options: PutOptions): Promise<void> {
    const { directories, directory, path } = place;
    // Before the directories are made, lest they be made at the far end of a link.
    if (!(await directoriesExist(this.folder, directories))) await makeDirectory(directory);
    else await objectAt(path);
    if (!this.#swept.has(directory)) {
      this.#swept.add(directory);
      await removeStaleTemporaries(directory);
    }
    const temporary = await writeTemporary(directory, body);
    try {
      options.signal?.throwIfAborted();
      if (options.createOnly) await publishNew(temporary, path, key);
      else await publish(temporary, path);
    } catch (error) {
      await discard(temporary);
      throw error;
    }
    // Up to the folder itself: another writer may have made the directories and not come to this point yet.
    for (let above = directory; ; above = dirname(above)) {
      await syncDirectory(above);
      if (above === this.folder) break;
    }
    if (this.#named) return;
    await syncName(this.folder);
    this.#named = true;
  }

  /**
   * The body of an object, or the bytes of a range of it.
   *
   * @throws `OBJECT_NOT_FOUND`, `RANGE_UNSATISFIABLE`, `OBJECT_TOO_LARGE` (for one array), `TypeError` for a range that is none
   */
  async get(key: string, options: GetOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    this.#lifetime.check(options.signal);
    const range = checkRange(options.range);
    const place = this.#locate(key);
    const read = async () => {
      if (await directoriesExist(this.folder, place.directories)) return readObject(key, place.path, range);
      throw new BackupError('OBJECT_NOT_FOUND', `there is no object ${key}`);
    };
    return this.#run(read, `get of object ${key}`, options.signal);
  }

  /** Size in bytes and time of an object, `undefined` when there is none. */
  async stat(key: string, options: AbortOptions = {}): Promise<ObjectInfo | undefined> {
    this.#lifetime.check(options.signal);
    const { directories, path } = this.#locate(key);
    const look = async (): Promise<ObjectInfo | undefined> => {
      if (!(await directoriesExist(this.folder, directories))) return undefined;
      const info = await objectAt(path);
      return info && { key, size: info.size, modifiedAt: info.mtime };
    };
    return this.#run(look, `stat of object ${key}`, options.signal);
  }

  /** The objects whose key begins with `prefix`, in key order; of those in one directory all names are held at once. */
  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    const what = `list of ${JSON.stringify(prefix)}`;
    this.#lifetime.check(options.signal);
    const entries = listFiles(this.folder, prefix, options.after);
    for (;;) {
      const { value, done } = await this.#run(() => entries.next(), what, options.signal);
      if (done) return;
      yield value;
      this.#lifetime.check(options.signal);
    }
  }

  /**
   * Removes an object, durably, and the directories that are left empty; an absent object is a success.
   *
   * @throws `READ_ONLY` on a read-only file system
   */
  async delete(key: string, options: AbortOptions = {}): Promise<void> {
    this.#lifetime.check(options.signal);
    const { directories, directory, path } = this.#locate(key);
    const remove = async () => {
      if (await directoriesExist(this.folder, directories)) await objectAt(path);
      try {
        await unlink(path);
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
      await syncDirectory(directory);
      await this.#prune(directory);
    };
    await this.#run(remove, `delete of object ${key}`, options.signal);
  }

  /** Calls made later reject with `CLOSED`. The folder stays as it is. */
  async close(): Promise<void> {
    this.#lifetime.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #locate(key: string): Place {
    const { directories, file } = objectPath(checkKey(key));
    const directory = join(this.folder, ...directories);
    return { directories, directory, path: join(directory, file) };
  }

  /** Removes directories that hold nothing any more, up to the folder, which stays. */
  async #prune(directory: string): Promise<void> {
    for (let empty = directory; empty !== this.folder; empty = dirname(empty)) {
      try {
        await rmdir(empty);
      } catch (error) {
        if (isMissing(error)) continue;
        return; // Not empty, or not ours to remove: an empty directory does no harm.
      }
      this.#swept.delete(empty);
    }
  }

  async #run<T>(work: () => Promise<T>, what: string, signal: AbortSignal | undefined): Promise<T> {
    try {
      return await abortable(work(), signal);
    } catch (error) {
      throw signal?.aborted && error === signal.reason ? error : fileError(error, what);
    }
  }
}

async function readObject(key: string, path: string, range: ByteRange | undefined): Promise<Uint8Array<ArrayBuffer>> {
  let file: FileHandle;
  try {
    file = await open(path, READ_FLAGS);
  } catch (error) {
    if (!isMissing(error)) throw error;
    throw new BackupError('OBJECT_NOT_FOUND', `there is no object ${key}`, { cause: error });
  }
  try {
    const info = await file.stat();
    if (!info.isFile()) throw unexpected(path, "an object's file");
    const { offset, length } = rangeWithin(key, info.size, range);
    const bytes = roomFor(`get of object ${key}`, length);
    const done = await readFully(file, bytes, offset);
    if (done === length) return bytes;
    throw new BackupError('TARGET_ERROR', `object ${key} was cut short while it was read, at byte ${offset + done}`);
  } finally {
    await file.close();
  }
}
