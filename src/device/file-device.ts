import * as fs from 'node:fs';
import { unlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { AbortOptions } from '../common/abort.ts';
import { integerArgument, textArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import type { SyncBlockDevice } from './block-device.ts';
import { makeNameDurable } from './durable-name.ts';
import { fileError } from './file-errors.ts';
import { lockDescriptor, lockingOpenFlags } from './file-lock.ts';
import { blockSpecialShape } from './file-size.ts';
import { checkSpan } from './span.ts';

/** Options of {@link FileDevice.open}. @public */
export interface FileDeviceOptions {
  /** Refuse writes with `READ_ONLY`; several readers may have the file open. @defaultValue false */
  readOnly?: boolean | undefined;
  /** Take no lock: somebody else may have the file open too. @defaultValue false */
  shared?: boolean | undefined;
  /** Make the file, sparse, this long. It must not be there yet (`DEVICE_EXISTS`). */
  create?: { sizeBytes: number } | undefined;
}

/** Linux moves at most 0x7ffff000 bytes a call, and Node takes lengths of 31 bits. */
const MAX_CALL_BYTES = 1 << 30;

/**
 * A raw image, sparse or not, or a block special file.
 *
 * Exclusive unless told otherwise: an advisory lock that the kernel drops with the process, and on Linux also
 * `O_EXCL` for block special files, which a mounted one refuses. `flush` is fdatasync(2).
 *
 * @public
 */
export class FileDevice implements SyncBlockDevice {
  readonly path: string;
  /** Bytes, as found when it was opened. */
  readonly size: number;
  /** 1 for a file; a block special file's logical sector. */
  readonly sectorSize: number;
  readonly readOnly: boolean;
  readonly #fd: number;
  #inFlight = 0;
  #closing: Promise<void> | undefined;
  #whenIdle: (() => void) | undefined;

  private constructor(path: string, fd: number, shape: { size: number; sectorSize: number }, readOnly: boolean) {
    this.path = path;
    this.#fd = fd;
    this.size = shape.size;
    this.sectorSize = shape.sectorSize;
    this.readOnly = readOnly;
  }

  /**
   * Opens a file or block special file, or makes a file.
   *
   * @throws `DEVICE_NOT_FOUND`, `DEVICE_EXISTS`, `DEVICE_BUSY` (open elsewhere, or mounted), `DEVICE_UNSUPPORTED` (a
   * folder, a pipe ...), `PERMISSION_DENIED`, `NO_SPACE`, `LOCK_UNAVAILABLE`
   */
  static async open(path: string, options: FileDeviceOptions = {}): Promise<FileDevice> {
    textArgument('path', path);
    const { readOnly = false, shared = false, create } = options;
    if (create !== undefined) {
      integerArgument('create.sizeBytes', create.sizeBytes, 0);
      if (readOnly) throw new TypeError('a device that is created can not be read-only');
    }
    const fd = await openDescriptor(path, readOnly, shared, create !== undefined);
    try {
      if (!shared) await lockDescriptor(fd, path, readOnly);
      if (create !== undefined) {
        await promisify(fs.ftruncate)(fd, create.sizeBytes);
        await makeNameDurable(path);
      }
      return new FileDevice(path, fd, await shapeOf(fd, path), readOnly);
    } catch (error) {
      fs.closeSync(fd);
      if (create !== undefined) await unlink(path).catch(() => {});
      throw fileError('open', path, error);
    }
  }

  read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void> {
    return this.#call(options, offset, into, 'read', this.#readSome);
  }

  write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void> {
    return this.#call(options, offset, from, 'write', this.#writeSome);
  }

  flush(options?: AbortOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      options?.signal?.throwIfAborted();
      this.#check(0, 0);
      this.#inFlight++;
      fs.fdatasync(this.#fd, (error) => {
        this.#settled();
        if (error === null) resolve();
        else reject(fileError('flush', this.path, error));
      });
    });
  }

  readSync(offset: number, into: Uint8Array): void {
    this.#check(offset, into.length);
    this.#eachSync('read', into, (at, length) => fs.readSync(this.#fd, into, at, length, offset + at));
  }

  writeSync(offset: number, from: Uint8Array): void {
    this.#checkWrite(offset, from.length);
    this.#eachSync('write', from, (at, length) => fs.writeSync(this.#fd, from, at, length, offset + at));
  }

  flushSync(): void {
    this.#check(0, 0);
    try {
      fs.fdatasyncSync(this.#fd);
    } catch (error) {
      throw fileError('flush', this.path, error);
    }
  }

  /** Waits for calls in flight and lets the file go. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
      });
    }
    await promisify(fs.close)(this.#fd).catch((error: unknown) => {
      throw fileError('close', this.path, error);
    });
  }

  #check(offset: number, length: number): void {
    if (this.#closing !== undefined) throw new BackupError('CLOSED', `${this.path} is closed`);
    checkSpan(this, offset, length);
  }

  #checkWrite(offset: number, length: number): void {
    this.#check(offset, length);
    if (this.readOnly) throw new BackupError('READ_ONLY', `${this.path} is open for reading only`);
  }

  readonly #readSome: Transfer = (buffer, at, length, position, done) => {
    fs.read(this.#fd, buffer, at, length, position, done);
  };

  readonly #writeSome: Transfer = (buffer, at, length, position, done) => {
    fs.write(this.#fd, buffer, at, length, position, done);
  };

  /** Moves all of `buffer`, however many system calls it takes. */
  #call(
    options: AbortOptions | undefined,
    offset: number,
    buffer: Uint8Array,
    verb: 'read' | 'write',
    some: Transfer,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      options?.signal?.throwIfAborted();
      if (verb === 'write') this.#checkWrite(offset, buffer.length);
      else this.#check(offset, buffer.length);
      let moved = 0;
      const step = (error: Error | null, count: number) => {
        moved += error === null ? count : 0;
        if (error === null && count > 0 && moved < buffer.length && options?.signal?.aborted !== true) {
          some(buffer, moved, Math.min(buffer.length - moved, MAX_CALL_BYTES), offset + moved, step);
          return;
        }
        this.#settled();
        if (error !== null) reject(fileError(verb, this.path, error));
        else if (moved === buffer.length) resolve();
        else if (count > 0) reject(options?.signal?.reason);
        else reject(this.#short(verb, moved, buffer.length));
      };
      if (buffer.length === 0) {
        resolve();
        return;
      }
      some(buffer, 0, Math.min(buffer.length, MAX_CALL_BYTES), offset, step);
      this.#inFlight++; // Not before: what is no buffer at all is refused by throwing.
    });
  }

  #eachSync(verb: 'read' | 'write', buffer: Uint8Array, some: (at: number, length: number) => number): void {
    for (let moved = 0; moved < buffer.length; ) {
      let count: number;
      try {
        count = some(moved, Math.min(buffer.length - moved, MAX_CALL_BYTES));
      } catch (error) {
        throw fileError(verb, this.path, error);
      }
      if (count === 0) throw this.#short(verb, moved, buffer.length);
      moved += count;
    }
  }

  #short(verb: 'read' | 'write', moved: number, wanted: number): BackupError {
    // A file that was cut behind our back reads short; nothing that was not read is passed off as content.
    const code = verb === 'read' ? 'SHORT_READ' : 'SHORT_WRITE';
    return new BackupError(code, `${verb} of ${wanted} bytes ended after ${moved} in ${this.path}`);
  }

  #settled(): void {
    this.#inFlight--;
    if (this.#inFlight === 0) this.#whenIdle?.();
  }
}

type Transfer = (
  buffer: Uint8Array,
  at: number,
  length: number,
  position: number,
  done: (error: Error | null, count: number) => void,
) => void;

async function openDescriptor(path: string, readOnly: boolean, shared: boolean, create: boolean): Promise<number> {
  const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NONBLOCK = 0 } = fs.constants;
  // Without O_NONBLOCK the opening of a pipe that took a file's place meanwhile waits for its other end.
  let flags = (readOnly ? O_RDONLY : O_RDWR) | O_NONBLOCK;
  if (create) flags |= O_CREAT | O_EXCL;
  if (!shared) flags |= lockingOpenFlags(readOnly);
  try {
    // On Linux, O_EXCL without O_CREAT means exclusive use of a block special file.
    const there = await promisify(fs.stat)(path).catch(() => undefined);
    // Found out before it is opened: opening a terminal or a tape has effects, and a socket can't be opened at all.
    if (there !== undefined && !create) requireSupported(there, path);
    if (process.platform === 'linux' && there?.isBlockDevice() && !shared && !readOnly) flags |= O_EXCL;
    return await promisify(fs.open)(path, flags, 0o600);
  } catch (error) {
    throw fileError('open', path, error);
  }
}

async function shapeOf(fd: number, path: string): Promise<{ size: number; sectorSize: number }> {
  const stat = await promisify(fs.fstat)(fd);
  requireSupported(stat, path);
  return stat.isFile() ? { size: stat.size, sectorSize: 1 } : await blockSpecialShape(fd, stat.rdev);
}

function requireSupported(stat: fs.Stats, path: string): void {
  if (stat.isFile() || stat.isBlockDevice()) return;
  throw new BackupError('DEVICE_UNSUPPORTED', `${path} is neither a file nor a block special file`);
}
