import * as fs from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import { syncDirectory } from '../../common/system-errors.ts';
import { fileError } from '../../device/file-errors.ts';
import { lockDescriptor, lockingOpenFlags } from '../../device/file-lock.ts';
import type { StateFile, StateStorage } from './state-storage.ts';

const LOCK = 'lock';
const READABLE_BY_OWNER_ONLY = 0o600;
const FOLDER_OF_OWNER_ONLY = 0o700;

/** The state of a volume in a folder of its own, which must not lie on the volume. */
export class StateFolder implements StateStorage {
  readonly name: string;
  readonly #folder: string;
  readonly #lock: FileHandle;
  #isClosed = false;

  private constructor(folder: string, lock: FileHandle) {
    this.name = folder;
    this.#folder = folder;
    this.#lock = lock;
  }

  /**
   * Opens a folder, or creates it in a folder that exists, and locks it.
   *
   * @throws `DEVICE_BUSY` if another volume or program uses it, `LOCK_UNAVAILABLE`, and errors of files
   */
  static async open(path: string): Promise<StateFolder> {
    const folder = resolve(path);
    try {
      await mkdir(folder, { mode: FOLDER_OF_OWNER_ONLY });
      await syncDirectory(resolve(folder, '..'));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw fileError('create', folder, error);
    }
    const lockPath = join(folder, LOCK);
    const flags = fs.constants.O_RDWR | fs.constants.O_CREAT | lockingOpenFlags(false);
    const lock = await guarded('open', lockPath, () => open(lockPath, flags, READABLE_BY_OWNER_ONLY));
    try {
      await lockDescriptor(lock.fd, lockPath, false);
    } catch (error) {
      await lock.close();
      throw error;
    }
    return new StateFolder(folder, lock);
  }

  async list(): Promise<string[]> {
    this.#requireOpen();
    const names = await guarded('read', this.#folder, () => readdir(this.#folder));
    return names.filter((name) => name !== LOCK);
  }

  create(name: string): Promise<StateFile> {
    return this.#open(name, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_TRUNC);
  }

  open(name: string): Promise<StateFile> {
    return this.#open(name, fs.constants.O_RDWR);
  }

  async rename(from: string, to: string): Promise<void> {
    await guarded('rename', this.#path(from), () => rename(this.#path(from), this.#path(to)));
  }

  async remove(name: string): Promise<void> {
    await guarded('remove', this.#path(name), () => rm(this.#path(name), { force: true }));
  }

  async sync(): Promise<void> {
    this.#requireOpen();
    await guarded('sync', this.#folder, () => syncDirectory(this.#folder));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await this.#lock.close();
  }

  async #open(name: string, flags: number): Promise<StateFile> {
    const path = this.#path(name);
    const handle = await guarded('open', path, () => open(path, flags, READABLE_BY_OWNER_ONLY));
    const { ino, birthtimeNs } = await guarded('read', path, () => handle.stat({ bigint: true }));
    // Not the number of the file system's device, which may be another one after the system has started again.
    return new FolderFile(path, handle, `${ino}, ${birthtimeNs}`);
  }

  /** Without the lock, the files may be another volume's. */
  #requireOpen(): void {
    if (this.#isClosed) throw new BackupError('CLOSED', `${this.#folder} is closed`);
  }

  #path(name: string): string {
    this.#requireOpen();
    return join(this.#folder, name);
  }
}

class FolderFile implements StateFile {
  readonly identity: string;
  readonly #path: string;
  readonly #handle: FileHandle;

  constructor(path: string, handle: FileHandle, identity: string) {
    this.#path = path;
    this.#handle = handle;
    this.identity = identity;
  }

  async size(): Promise<number> {
    return (await guarded('read', this.#path, () => this.#handle.stat())).size;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; ) {
      const part = into.subarray(done);
      const { bytesRead } = await guarded('read', this.#path, () =>
        this.#handle.read(part, 0, part.length, offset + done),
      );
      if (bytesRead === 0) throw short('SHORT_READ', this.#path, 'read');
      done += bytesRead;
    }
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    for (let done = 0; done < from.length; ) {
      const part = from.subarray(done);
      const { bytesWritten } = await guarded('write', this.#path, () =>
        this.#handle.write(part, 0, part.length, offset + done),
      );
      if (bytesWritten === 0) throw short('SHORT_WRITE', this.#path, 'write');
      done += bytesWritten;
    }
  }

  async sync(): Promise<void> {
    await guarded('sync', this.#path, () => this.#handle.datasync());
  }

  writeSync(offset: number, from: Uint8Array): void {
    try {
      for (let done = 0; done < from.length; ) {
        const count = fs.writeSync(this.#handle.fd, from, done, from.length - done, offset + done);
        if (count === 0) throw short('SHORT_WRITE', this.#path, 'write');
        done += count;
      }
    } catch (error) {
      throw fileError('write', this.#path, error);
    }
  }

  syncSync(): void {
    try {
      fs.fdatasyncSync(this.#handle.fd);
    } catch (error) {
      throw fileError('sync', this.#path, error);
    }
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

async function guarded<T>(verb: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fileError(verb, path, error);
  }
}

function short(code: 'SHORT_READ' | 'SHORT_WRITE', path: string, verb: string): BackupError {
  return new BackupError(code, `${path} ends in the middle of a ${verb}`);
}
