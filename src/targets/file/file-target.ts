import { constants } from 'node:fs';
import { type FileHandle, open, rmdir, unlink } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type AbortOptions, abortable } from '../../common/abort.ts';
import { textArgument } from '../../common/arguments.ts';
import type { ByteRange } from '../../common/byte-range.ts';
import { BackupError } from '../../common/errors.ts';
import { isMissing, systemCode } from '../../common/system-errors.ts';
import type {
  CloudTarget,
  GetOptions,
  Leftovers,
  ListOptions,
  ObjectInfo,
  PutOptions,
  RemoveLeftoversOptions,
  TargetCapabilities,
} from '../cloud-target.ts';
import { checkKey } from '../keys.ts';
import { Lifetime } from '../lifetime.ts';
import { rangeWithin, roomFor } from '../object-range.ts';
import { abortOptions, bodyArgument, getOptions, listOptions, prefixOfList, putOptions } from '../target-arguments.ts';
import { DurableFiles, heldOnWindows } from './durable-file.ts';
import { objectOrDirectoryAt, unexpected, wayTo } from './file-entries.ts';
import { fileError } from './file-errors.ts';
import { TargetFolder } from './file-folder.ts';
import { listFiles } from './file-listing.ts';
import { type Place, placeOf } from './file-path.ts';
import { putFile } from './file-put.ts';
import { checkFileTargetOptions, type FileTargetOptions } from './file-target-options.ts';
import { readFully } from './file-transfer.ts';
import { checkLeftoversOptions } from './leftovers-options.ts';

/** Neither a symbolic link nor the far end of a pipe is ever an object. */
const READ_FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/** What says that nothing can be written to this folder now, of which `storeTime` has to make do without an answer. */
const NOT_WRITABLE: ReadonlySet<string | undefined> = new Set([
  'EROFS',
  'EACCES',
  'EPERM',
  'ERR_ACCESS_DENIED',
  'ENOSPC',
  'EDQUOT',
]);

/**
 * Stores objects as files in a folder. Each object is the file that its key names, so a sync tool can copy a bucket into a
 * folder that this class opens, and the reverse. Any number of processes may use one folder at once.
 *
 * An object appears whole or not at all, whatever happens to the process or the power, and is durable when `put` has
 * resolved; where the file system refuses to sync directories, `capabilities.durableNames` becomes false and the process
 * warns once (`COW_NAMES_NOT_DURABLE`): what was put last may then be missing after a loss of power. Create-only puts
 * need hard links. **Windows** is supported in so far as Node and NTFS are documented, and was never tested.
 *
 * The folder is made by the first put (see {@link FileTargetOptions.createFolder}), for its owner alone; a folder that is
 * not there holds no objects. Once this instance has seen the folder it never creates it again: while the folder is
 * missing or another one has its name (a disk that was unmounted), every call rejects with `FOLDER_CHANGED`. While the folder
 * has been emptied, puts reject in the same way. A share that was mounted again is recognised.
 *
 * The folder may be a symbolic link to a directory; below it nothing is followed. A link, or anything else that is neither a
 * file nor a directory, is `TARGET_ERROR` to every call that comes upon it, listings too. Files of other programs are
 * passed over if no key could name them.
 *
 * In addition to what is said at each call, all of them throw `INVALID_KEY`, `CLOSED`, `signal.reason`, `FOLDER_CHANGED`,
 * `FOLDER_NOT_FOUND`, and for what the system refuses `PERMISSION_DENIED`, `TARGET_ERROR` or, with `retryable`,
 * `TARGET_UNAVAILABLE`, `TARGET_UNREACHABLE` and `TARGET_TIMEOUT` (the last two from folders on a network).
 *
 * @example
 * ```ts
 * await using target = new FileTarget('/mnt/backup-disk/repository', { createFolder: false });
 * ```
 *
 * @public
 */
export class FileTarget implements CloudTarget {
  /** Where the objects are, as an absolute path. */
  readonly folder: string;
  readonly #lifetime: Lifetime;
  readonly #files: DurableFiles;
  readonly #there: TargetFolder;

  /**
   * @param folder - a relative path is resolved against the process's current directory at once
   * @throws `TypeError` when `folder` is empty or no string, or an option is unknown or invalid
   */
  constructor(folder: string, options: FileTargetOptions = {}) {
    this.folder = resolve(textArgument('folder', folder));
    const { createFolder, ...modes } = checkFileTargetOptions(options);
    const what = `the FileTarget in ${this.folder}`;
    this.#lifetime = new Lifetime(what);
    this.#files = new DurableFiles(what, modes);
    this.#there = new TargetFolder(this.folder, createFolder, this.#files);
  }

  /** `createOnly` and `durableNames` become false when the file system first refuses what they need. */
  get capabilities(): TargetCapabilities {
    const { durableNames, hardLinks } = this.#files;
    return { createOnly: hardLinks, checksums: false, ...(durableNames === undefined ? {} : { durableNames }) };
  }

  /**
   * Stores `body`, durably, replacing what was there unless `createOnly` is set.
   *
   * @throws `OBJECT_EXISTS` and `CREATE_ONLY_UNSUPPORTED` (a file system without hard links) with `createOnly`;
   * `NO_SPACE`, `READ_ONLY`, `OBJECT_TOO_LARGE` (for the file system); `INVALID_KEY` also for a key that stands below an
   * object or above others; `TypeError` for a body that is no `Uint8Array`, or whose length changes meanwhile
   */
  async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<void> {
    const { createOnly = false, onSent, signal } = putOptions(options);
    const length = bodyArgument(body).byteLength;
    this.#lifetime.check(signal);
    const put = { key, place: this.#locate(key), body, length, createOnly, onSent, signal };
    await this.#run(() => putFile(this.#there, this.#files, put), `put of object ${key}`, signal);
  }

  /**
   * The body of an object, or the bytes of a range of it.
   *
   * @throws `OBJECT_NOT_FOUND`, `RANGE_UNSATISFIABLE`, `OBJECT_TOO_LARGE` (for one array), `TypeError` for a range that is none
   */
  async get(key: string, options: GetOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const { range, signal } = getOptions(options);
    this.#lifetime.check(signal);
    const place = this.#locate(key);
    const read = async () => {
      const bytes = await this.#ifThere(place, () => readObject(key, place.path, range));
      if (bytes === undefined) throw new BackupError('OBJECT_NOT_FOUND', `there is no object ${key} in ${this.folder}`);
      return bytes;
    };
    return this.#run(read, `get of object ${key}`, signal);
  }

  /** Size in bytes and time of an object, `undefined` when there is none. */
  async stat(key: string, options: AbortOptions = {}): Promise<ObjectInfo | undefined> {
    const { signal } = abortOptions(options);
    this.#lifetime.check(signal);
    const place = this.#locate(key);
    const look = async (): Promise<ObjectInfo | undefined> => {
      const info = await objectOrDirectoryAt(place.path);
      return info?.isFile() ? { key, size: info.size, modifiedAt: info.mtime } : undefined;
    };
    return this.#run(() => this.#ifThere(place, look), `stat of object ${key}`, signal);
  }

  /** The objects whose key begins with `prefix`, in key order; of those in one directory all names are held at once. */
  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    const { after, signal } = listOptions(options);
    const what = `list of ${JSON.stringify(prefixOfList(prefix))}`;
    this.#lifetime.check(signal);
    const entries = listFiles(this.#there, prefix, after);
    for (;;) {
      const { value, done } = await this.#run(() => entries.next(), what, signal);
      if (done) return;
      yield value;
      this.#lifetime.check(signal);
    }
  }

  /**
   * Removes an object, durably, and the directories that are left empty; an absent object is a success.
   *
   * @throws `READ_ONLY` on a read-only file system
   */
  async delete(key: string, options: AbortOptions = {}): Promise<void> {
    const { signal } = abortOptions(options);
    this.#lifetime.check(signal);
    const place = this.#locate(key);
    const remove = async (): Promise<undefined> => {
      if (!(await objectOrDirectoryAt(place.path))?.isDirectory()) await unlinkObject(place.path);
      // Also where the file is gone: the program that removed it may not have come to this point yet.
      await this.#files.sync(place.directory);
      await this.#prune(place.directory);
    };
    await this.#run(() => this.#ifThere(place, remove), `delete of object ${key}`, signal);
  }

  /** The time that the file system gives to a file written now; `undefined` where none can be written. */
  async storeTime(options: AbortOptions = {}): Promise<Date | undefined> {
    const { signal } = abortOptions(options);
    this.#lifetime.check(signal);
    const look = async (): Promise<Date | undefined> => {
      if (!(await this.#there.isThere())) return undefined;
      try {
        return new Date(await this.#there.time());
      } catch (error) {
        if (NOT_WRITABLE.has(systemCode(error))) return undefined;
        throw error;
      }
    };
    return this.#run(look, 'a look at the clock', signal);
  }

  /**
   * Removes what puts of killed processes left. A file is left over when its process is known to be dead (Linux, same boot
   * and process namespace); else when it is older than `olderThanMs` by the file system's clock. A put that is under way
   * loses nothing in either case: it writes its file again.
   *
   * @throws `READ_ONLY` on a read-only file system
   */
  async removeLeftovers(options: RemoveLeftoversOptions = {}): Promise<Leftovers> {
    const checked = checkLeftoversOptions(options);
    this.#lifetime.check(checked.signal);
    const remove = async (): Promise<Leftovers> => {
      if (!(await this.#there.isThere())) return { count: 0, bytes: 0 };
      return this.#there.removeLeftovers(checked);
    };
    return this.#run(remove, 'removal of leftovers', checked.signal);
  }

  /** Calls made later reject with `CLOSED`. The folder stays as it is. */
  async close(): Promise<void> {
    this.#lifetime.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #locate(key: string): Place {
    return placeOf(this.folder, checkKey(key));
  }

  /** What `work` gives, or undefined for what is absent, which is only believed of a folder that is still there. */
  async #ifThere<T>(place: Place, work: () => Promise<T | undefined>): Promise<T | undefined> {
    if (!(await this.#there.isThere())) return undefined;
    if ((await wayTo(this.folder, place.directories)) === 'there') {
      const result = await work();
      if (result !== undefined) return result;
    }
    await this.#there.isThere();
    return undefined;
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
    }
  }

  async #run<T>(work: () => Promise<T>, what: string, signal: AbortSignal | undefined): Promise<T> {
    try {
      return await abortable(work(), signal);
    } catch (error) {
      throw signal?.aborted && error === signal.reason ? error : fileError(error, `${what} in ${this.folder}`);
    }
  }
}

async function unlinkObject(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!isMissing(error)) throw heldOnWindows(error, path);
  }
}

/** The bytes of an object, undefined when there is none. */
async function readObject(
  key: string,
  path: string,
  range: ByteRange | undefined,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, READ_FLAGS);
  } catch (error) {
    if (isMissing(error) || systemCode(error) === 'EISDIR') return undefined;
    throw error;
  }
  try {
    const info = await file.stat();
    if (info.isDirectory()) return undefined; // The beginning of other keys.
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
