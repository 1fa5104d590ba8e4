// This folder is the target that keeps objects as files.

import { rmdir, unlink } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type AbortOptions, abortable } from '../../common/abort.ts';
import { textArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { isMissing, systemCode } from '../../common/system-errors.ts';
import type {
  CloudTarget,
  GetOptions,
  Leftovers,
  ListOptions,
  ObjectInfo,
  PutOptions,
  PutResult,
  RemoveLeftoversOptions,
  TargetCapabilities,
} from '../cloud-target.ts';
import { checkKey } from '../keys.ts';
import { Lifetime } from '../lifetime.ts';
import {
  abortOptions,
  bodyArgument,
  getOptions,
  leftoversOptions,
  listOptions,
  prefixOfList,
  putOptions,
} from '../target-arguments.ts';
import { DurableFiles } from './durable-file.ts';
import { fileError, heldOnWindows } from './file-errors.ts';
import { putFile } from './file-put.ts';
import { listFiles, readObject } from './file-reads.ts';
import { checkFileTargetOptions, type FileTargetOptions } from './file-target-options.ts';
import { type ObjectPath, objectInfoAt, objectOrDirectoryAt, pathOf, wayTo } from './object-path.ts';
import { TargetFolder } from './target-folder.ts';

/** Codes that mean that nothing can be written to the folder. `storeTime` has no answer then. */
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
 * folder for this class, and the reverse. Any number of processes may use one folder at once.
 *
 * An object appears whole or not at all, also after a crash or a loss of power, and is durable when `put` has resolved. If the
 * file system can't sync directories, `capabilities.durableNames` becomes false and the process warns once
 * (`COW_NAMES_NOT_DURABLE`): the last objects may be missing after a loss of power then. Create-only puts need hard links.
 * **Windows** is supported according to the documentation of Node and NTFS, and was never tested.
 *
 * The first put creates the folder (see {@link FileTargetOptions.createFolder}), for its owner alone. A folder that does not
 * exist holds no objects. Once an instance has seen the folder, it never creates it again: while the folder is missing or
 * another folder has its name (a disk was unmounted), every call rejects with `FOLDER_CHANGED`. If the folder was emptied, puts
 * reject with this code, too. A share that was mounted again is recognised.
 *
 * Objects have tags on Linux, on ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, ZFS and bcachefs, if the file system keeps times more exactly
 * than to the second. A file that another program has put there has a tag, too, unless its time is in whole seconds.
 *
 * The folder itself may be a symbolic link to a directory. A link or a special file below it is `TARGET_ERROR` in every call
 * that meets it, listings included. Files of other programs are ignored if their names can't be part of a key.
 *
 * All calls throw `INVALID_KEY`, `CLOSED`, `signal.reason`, `FOLDER_CHANGED`, `FOLDER_NOT_FOUND`, and for failures of the system
 * `PERMISSION_DENIED`, `TARGET_ERROR` or, with `retryable`, `TARGET_UNAVAILABLE`, `TARGET_UNREACHABLE` and `TARGET_TIMEOUT` (the
 * last two from folders on a network), in addition to the codes that are listed at each call.
 *
 * @example
 * ```ts
 * // `createFolder: false`: where the disk is not mounted, nothing is written into the empty mount point.
 * await using target = new FileTarget('/mnt/backup-disk/repository', { createFolder: false });
 * await target.put('notes/first.txt', Buffer.from('hello'));
 * const text = Buffer.from(await target.get('notes/first.txt')).toString();
 * for await (const { key, size } of target.list('notes/')) console.log(key, size, text);
 * ```
 *
 * @public
 */
export class FileTarget implements CloudTarget {
  /** The absolute path of the folder. */
  readonly folder: string;
  readonly #lifetime: Lifetime;
  readonly #files: DurableFiles;
  readonly #there: TargetFolder;

  /**
   * @param folder - a path. A relative one is resolved at once, against the current directory of the process
   * @throws `TypeError` if `folder` is empty or not a string, or an option is unknown or invalid
   */
  constructor(folder: string, options: FileTargetOptions = {}) {
    this.folder = resolve(textArgument('folder', folder));
    const { createFolder, ...modes } = checkFileTargetOptions(options);
    const what = `the FileTarget in ${this.folder}`;
    this.#lifetime = new Lifetime(what);
    this.#files = new DurableFiles(what, modes);
    this.#there = new TargetFolder(this.folder, createFolder, this.#files);
  }

  /** `createOnly` and `durableNames` become false when the file system refuses what they need. */
  get capabilities(): TargetCapabilities {
    const { durableNames, hardLinks } = this.#files;
    return { createOnly: hardLinks, checksums: false, ...(durableNames === undefined ? {} : { durableNames }) };
  }

  /**
   * Stores `body` durably, and replaces an earlier object unless `createOnly` is set.
   *
   * @throws `OBJECT_EXISTS` and `CREATE_ONLY_UNSUPPORTED` (a file system without hard links) with `createOnly`;
   * `NO_SPACE`, `READ_ONLY`, `OBJECT_TOO_LARGE` (for the file system); `INVALID_KEY` also for a key that is below another object
   * or above others; `TypeError` for a body that is not a `Uint8Array` or whose length changes during the call
   */
  async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<PutResult> {
    const { createOnly = false, onSent, signal } = putOptions(options);
    const length = bodyArgument(body).byteLength;
    this.#lifetime.check(signal);
    const put = { key, at: this.#locate(key), body, length, createOnly, onSent, signal };
    return this.#run(() => putFile(this.#there, this.#files, put), `put of object ${key}`, signal);
  }

  /**
   * Returns the body of an object, or the bytes of a range of it.
   *
   * @throws `OBJECT_NOT_FOUND`, `OBJECT_CHANGED`, `RANGE_UNSATISFIABLE`, `OBJECT_TOO_LARGE` (for one array), `TypeError` for an
   * invalid range or tag
   */
  async get(key: string, options: GetOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const { range, ifTag, signal } = getOptions(options);
    this.#lifetime.check(signal);
    const at = this.#locate(key);
    const read = async () => {
      const bytes = await this.#ifThere(at, () => readObject(at.path, { key, range, ifTag }, this.#there.tagOf));
      if (bytes === undefined) throw new BackupError('OBJECT_NOT_FOUND', `there is no object ${key} in ${this.folder}`);
      return bytes;
    };
    return this.#run(read, `get of object ${key}`, signal);
  }

  /** Returns the size in bytes, the time and the tag of an object; `undefined` if there is no such object. */
  async stat(key: string, options: AbortOptions = {}): Promise<ObjectInfo | undefined> {
    const signal = this.#lifetime.check(abortOptions(options).signal);
    const at = this.#locate(key);
    const look = () => objectInfoAt(key, at.path, this.#there.tagOf);
    return this.#run(() => this.#ifThere(at, look), `stat of object ${key}`, signal);
  }

  /** Lists the objects whose key begins with `prefix`, in key order. The names in one directory are in memory at once. */
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
   * Deletes an object durably, and the directories that become empty. The call succeeds if there is no such object.
   *
   * @throws `READ_ONLY` on a read-only file system
   */
  async delete(key: string, options: AbortOptions = {}): Promise<void> {
    const signal = this.#lifetime.check(abortOptions(options).signal);
    const at = this.#locate(key);
    const remove = async (): Promise<undefined> => {
      if (!(await objectOrDirectoryAt(at.path))?.isDirectory()) await unlinkObject(at.path);
      // Done even if the file is gone, because the program that removed it may not have synced the directory yet.
      await this.#files.sync(at.directory);
      await this.#prune(at.directory);
    };
    await this.#run(() => this.#ifThere(at, remove), `delete of object ${key}`, signal);
  }

  /** Returns the time that the file system gives to a file that is written now; `undefined` if none can be written. */
  async storeTime(options: AbortOptions = {}): Promise<Date | undefined> {
    const signal = this.#lifetime.check(abortOptions(options).signal);
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
   * Removes what the puts of killed processes have left. A file is left over if its process is known to be dead (on Linux, in the
   * same boot and process namespace), or else if it is older than `olderThanMs` by the file system's clock. A put that is under
   * way loses nothing in either case, because it writes its file again.
   *
   * @throws `READ_ONLY` on a read-only file system
   */
  async removeLeftovers(options: RemoveLeftoversOptions = {}): Promise<Leftovers> {
    const checked = leftoversOptions(options);
    this.#lifetime.check(checked.signal);
    const remove = async (): Promise<Leftovers> => {
      if (!(await this.#there.isThere())) return { count: 0, bytes: 0 };
      return this.#there.removeLeftovers(checked);
    };
    return this.#run(remove, 'removal of leftovers', checked.signal);
  }

  /** Closes the target: later calls reject with `CLOSED`. The folder is not affected. */
  async close(): Promise<void> {
    this.#lifetime.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #locate(key: string): ObjectPath {
    return pathOf(this.folder, checkKey(key));
  }

  /** Returns the result of `work`; `undefined` if the object is absent and the folder is still the same. */
  async #ifThere<T>(at: ObjectPath, work: () => Promise<T | undefined>): Promise<T | undefined> {
    if (!(await this.#there.isThere())) return undefined;
    if ((await wayTo(this.folder, at.directories)) === 'there') {
      const result = await work();
      if (result !== undefined) return result;
    }
    await this.#there.isThere();
    return undefined;
  }

  /** Removes directories that have become empty, up to but not including the folder. */
  async #prune(directory: string): Promise<void> {
    for (let empty = directory; empty !== this.folder; empty = dirname(empty)) {
      try {
        await rmdir(empty);
      } catch (error) {
        if (isMissing(error)) continue;
        return; // It is not empty, or this user may not remove it; an empty directory does no harm.
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
