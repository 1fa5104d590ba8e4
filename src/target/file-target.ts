import { constants } from 'node:fs';
import { type FileHandle, lstat, open, rmdir, unlink } from 'node:fs/promises';
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
  writeTemporary,
} from './durable-file.ts';
import { fileError, isMissing } from './file-errors.ts';
import { listFiles } from './file-listing.ts';
import { objectPath } from './file-path.ts';
import { checkKey } from './keys.ts';
import { Lifetime } from './lifetime.ts';
import { checkRange, rangeWithin } from './object-range.ts';

/** A directory can vanish under a writer as often as somebody empties it; more often than this is no accident. */
const MAX_VANISHED = 20;

/** Neither a symbolic link nor the far end of a pipe is ever an object. */
const READ_FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/**
 * Objects as files in a folder, which is made when the first one is put; a folder that is not there holds no
 * objects. Any number of processes may use one folder at once.
 *
 * An object appears whole or not at all, whatever happens to the process or the power, and is durable when
 * `put` has resolved. Needs a POSIX file system with hard links for create-only puts.
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

  constructor(folder: string) {
    this.folder = resolve(textArgument('folder', folder));
    this.#lifetime = new Lifetime(`the FileTarget in ${this.folder}`);
  }

  async put(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions = {}): Promise<void> {
    this.#lifetime.check(options.signal);
    const { directory, path } = this.#locate(key);
    const store = async () => {
      for (let vanished = 0; ; vanished++) {
        try {
          return await this.#store(key, directory, path, body, options);
        } catch (error) {
          // A delete that pruned the directory came between. Nothing has been published, so again is safe.
          if (!isMissing(error) || vanished === MAX_VANISHED) throw error;
        }
      }
    };
    await this.#run(store, `put of object ${key}`, options.signal);
  }

  async #store(key: string, directory: string, path: string, body: Uint8Array, options: PutOptions): Promise<void> {
    await makeDirectory(directory);
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
      if (above === this.folder) return;
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    this.#lifetime.check(options.signal);
    const range = checkRange(options.range);
    const { path } = this.#locate(key);
    return this.#run(() => readObject(key, path, range), `get of object ${key}`, options.signal);
  }

  async stat(key: string, options: AbortOptions = {}): Promise<ObjectInfo | undefined> {
    this.#lifetime.check(options.signal);
    const { path } = this.#locate(key);
    const look = async (): Promise<ObjectInfo | undefined> => {
      const info = await lstat(path).catch((error: unknown) => {
        if (isMissing(error)) return undefined;
        throw error;
      });
      if (info === undefined) return undefined;
      if (!info.isFile()) throw notAFile(key);
      return { key, size: info.size, modifiedAt: info.mtime };
    };
    return this.#run(look, `stat of object ${key}`, options.signal);
  }

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

  async delete(key: string, options: AbortOptions = {}): Promise<void> {
    this.#lifetime.check(options.signal);
    const { directory, path } = this.#locate(key);
    const remove = async () => {
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

  #locate(key: string): { directory: string; path: string } {
    const { directories, file } = objectPath(checkKey(key));
    const directory = join(this.folder, ...directories);
    return { directory, path: join(directory, file) };
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
    if (!info.isFile()) throw notAFile(key);
    const { offset, length } = rangeWithin(key, info.size, range);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await file.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) {
        throw new BackupError(
          'TARGET_ERROR',
          `object ${key} was cut short while it was read, at byte ${offset + done}`,
        );
      }
      done += bytesRead;
    }
    return bytes;
  } finally {
    await file.close();
  }
}

function notAFile(key: string): BackupError {
  return new BackupError('TARGET_ERROR', `what is in the place of object ${key} is not a file`);
}
