import * as fs from 'node:fs';
import { unlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { type AbortOptions, abortOptionsArgument } from '../common/abort.ts';
import { BackupError } from '../common/errors.ts';
import { hasBrand } from '../common/realms.ts';
import type { BlockDevice, DeviceStamp, Extent, SyncBlockDevice } from './block-device.ts';
import { checkTransfer, closedError, lengthError } from './door.ts';
import { checkFileDeviceOptions, type FileDeviceOptions } from './file-device-options.ts';
import { fileError } from './file-errors.ts';
import { FoundData, holeCalls, holesAndData, type WhileOpen } from './file-holes.ts';
import { lockDescriptor } from './file-lock.ts';
import { makeFile, openDescriptor, shapeOf } from './file-open.ts';
import { type Bounds, checkSpan } from './span.ts';
import type { SystemCalls } from './system-calls.ts';

/** The most bytes of one system call. Linux moves at most 0x7ffff000 bytes, and Node takes lengths of 31 bits. */
const MAX_CALL_BYTES = 1 << 30;

/** A file's times are those of the last tick of the system's clock, up to 10 ms ago on Linux before 6.13. This is somewhat longer. */
const TICK_MS = 15;

const BRAND = Symbol.for('cow-cloud-backup.FileDevice');

/** Whether `value` is a `FileDevice`, of this or another copy of this package. */
export function isFileDevice(value: unknown): value is FileDevice {
  return hasBrand(value, BRAND);
}

/**
 * A device over a raw image, which may be sparse, or over a block special file.
 *
 * The device is exclusive unless `shared` is set: it takes an advisory lock, which the kernel releases with the process. On Linux it
 * also opens block special files with `O_EXCL`, which fails if they are mounted. `flush` is fdatasync(2).
 *
 * On Linux the lock is flock(2), which Node can't call. The optional package `koffi` calls it, or else the program `flock`
 * (util-linux, BusyBox). Without both, opening fails with `LOCK_UNAVAILABLE`. With `koffi` the device also has `extents` on ext2 to
 * ext4, XFS, Btrfs and tmpfs, so that holes are not read.
 *
 * @example
 * ```ts
 * await using device = await FileDevice.open('disk.img', { create: { sizeBytes: 2 ** 30 } });
 * ```
 *
 * @public
 */
export class FileDevice implements SyncBlockDevice {
  readonly path: string;
  /** @internal */
  readonly [BRAND] = true;
  /** The size in bytes when the file was opened. */
  readonly size: number;
  /** 1 for a file, the logical sector for a block special file. */
  readonly sectorSize: number;
  readonly readOnly: boolean;
  /** Lists the holes and the data of a range as the kernel reports them at that moment. It is absent if the kernel can't be asked. */
  readonly extents?: NonNullable<BlockDevice['extents']>;
  /** Of a file: its inode and when that was created, and the time of its last change, made durable. It is absent for a block special file. */
  readonly stamp?: NonNullable<BlockDevice['stamp']>;
  readonly #fd: number;
  readonly #foundData = new FoundData();
  #inFlight = 0;
  #closing: Promise<void> | undefined;
  #whenIdle: (() => void) | undefined;

  private constructor(path: string, fd: number, shape: Bounds, readOnly: boolean, holes: SystemCalls | undefined) {
    this.path = path;
    this.#fd = fd;
    this.size = shape.size;
    this.sectorSize = shape.sectorSize;
    this.readOnly = readOnly;
    if (holes !== undefined) this.extents = this.#extents.bind(this, holes);
    // The inode of a block special file is that of its name, and does not change when the disk is written.
    if (shape.sectorSize === 1) this.stamp = this.#stamp.bind(this);
  }

  /**
   * Opens a file or block special file, or creates a file.
   *
   * @example
   * ```ts
   * // A new image of 1 GiB, sparse.
   * await using created = await FileDevice.open('new.img', { create: { sizeBytes: 2 ** 30 } });
   * // A disk, exclusively: `DEVICE_BUSY` while it is mounted.
   * await using disk = await FileDevice.open('/dev/nvme1n1');
   * // An image that other programs may read at the same time.
   * await using image = await FileDevice.open('disk.img', { readOnly: true });
   * ```
   *
   * @throws `DEVICE_NOT_FOUND`, `DEVICE_EXISTS`, `DEVICE_BUSY` (another program has it open, or it is mounted), `DEVICE_UNSUPPORTED`
   * (a folder, a pipe ...), `PERMISSION_DENIED`, `NO_SPACE`, `LOCK_UNAVAILABLE`
   */
  static async open(path: string, options: FileDeviceOptions = {}): Promise<FileDevice> {
    const { readOnly, shared, create } = checkFileDeviceOptions(path, options);
    const fd = await openDescriptor(path, readOnly, shared, create?.mode);
    try {
      if (!shared) await lockDescriptor(fd, path, readOnly);
      if (create !== undefined) await makeFile(fd, path, create);
      return new FileDevice(path, fd, await shapeOf(fd, path), readOnly, await holeCalls(fd));
    } catch (error) {
      fs.closeSync(fd);
      if (create !== undefined) await unlink(path).catch(() => {});
      throw fileError('open', path, error);
    }
  }

  read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void> {
    return this.#call(options, offset, into, 'read', fs.read);
  }

  write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void> {
    return this.#call(options, offset, from, 'write', fs.write);
  }

  flush(options?: AbortOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      abortOptionsArgument(options);
      this.#check(0, 0);
      this.#inFlight++;
      fs.fdatasync(this.#fd, (error) => {
        this.#settled();
        if (error === null) resolve();
        else reject(fileError('flush', this.path, error));
      });
    });
  }

  #stamp(): Promise<DeviceStamp> {
    return new Promise((resolve, reject) => {
      this.#check(0, 0);
      this.#inFlight++;
      const failed = (error: Error) => {
        this.#settled();
        reject(fileError('read', this.path, error));
      };
      // `fdatasync` does not make the time of the last change durable: after a loss of power it would be an earlier one.
      const sync = this.readOnly ? (done: (error: Error | null) => void) => done(null) : fs.fsync.bind(fs, this.#fd);
      sync((synced) => {
        if (synced !== null) return failed(synced);
        fs.fstat(this.#fd, { bigint: true }, (error, stat) => {
          if (error !== null) return failed(error);
          const { ino, birthtimeNs, mtimeNs } = stat;
          const version = Number(mtimeNs) / 1e6;
          const resolved = () => {
            this.#settled();
            // Not the number of the file system's device, which may be another one after the system has started again.
            resolve({ identity: `${ino}, ${birthtimeNs}`, version });
          };
          // A write that follows in the same tick of the system's clock would leave the file with this time.
          const waitMs = Math.min(TICK_MS, version + TICK_MS - Date.now());
          if (waitMs > 0) setTimeout(resolved, Math.ceil(waitMs));
          else resolved();
        });
      });
    });
  }

  readSync(offset: number, into: Uint8Array): void {
    this.#checkTransfer('into', offset, into);
    this.#eachSync('read', into, (at, length) => fs.readSync(this.#fd, into, at, length, offset + at));
  }

  writeSync(offset: number, from: Uint8Array): void {
    this.#checkTransfer('from', offset, from);
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

  /** Waits for calls in flight, closes the file and releases the lock. */
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
    if (this.#closing !== undefined) throw closedError(this.path);
    checkSpan(this, offset, length);
  }

  #checkTransfer(name: 'into' | 'from', offset: number, bytes: Uint8Array): void {
    if (this.#closing !== undefined) throw closedError(this.path);
    checkTransfer(this, name, offset, bytes);
    if (name === 'from' && this.readOnly) throw new BackupError('READ_ONLY', `${this.path} is open for reading only`);
  }

  /** Reads or writes all of `buffer`, in as many system calls as it takes. */
  #call(
    options: AbortOptions | undefined,
    offset: number,
    buffer: Uint8Array,
    verb: 'read' | 'write',
    some: Transfer,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      abortOptionsArgument(options);
      const name = verb === 'write' ? 'from' : 'into';
      this.#checkTransfer(name, offset, buffer);
      const { length } = buffer;
      let moved = 0;
      const step = (error: Error | null, count: number) => {
        moved += error === null ? count : 0;
        const isWhole = buffer.length === length;
        if (error === null && count > 0 && moved < length && isWhole && options?.signal?.aborted !== true) {
          some(this.#fd, buffer, moved, Math.min(length - moved, MAX_CALL_BYTES), offset + moved, step);
          return;
        }
        this.#settled();
        if (error !== null) reject(fileError(verb, this.path, error));
        else if (!isWhole) reject(lengthError(name, buffer, length));
        else if (moved === length) resolve();
        else if (count > 0) reject(options?.signal?.reason);
        else reject(this.#short(verb, moved, length));
      };
      if (length === 0) {
        resolve();
        return;
      }
      some(this.#fd, buffer, 0, Math.min(length, MAX_CALL_BYTES), offset, step);
      this.#inFlight++; // Counted only now, because Node throws if it refuses the arguments.
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

  async *#extents(
    calls: SystemCalls,
    offset: number,
    length: number,
    options?: AbortOptions,
  ): AsyncGenerator<Extent, void, undefined> {
    this.#check(offset, length);
    const signal = abortOptionsArgument(options);
    for await (const extent of holesAndData(calls, this.#fd, this.#whileOpen, offset, length, this.#foundData)) {
      yield extent;
      signal?.throwIfAborted();
    }
  }

  readonly #whileOpen: WhileOpen = async (work) => {
    this.#check(0, 0);
    this.#inFlight++;
    try {
      return await work();
    } catch (error) {
      throw fileError('look for holes in', this.path, error);
    } finally {
      this.#settled();
    }
  };

  #short(verb: 'read' | 'write', moved: number, wanted: number): BackupError {
    // The file was shortened by another program. Bytes that were not read must not pass for content.
    const code = verb === 'read' ? 'SHORT_READ' : 'SHORT_WRITE';
    return new BackupError(code, `${verb} of ${wanted} bytes ended after ${moved} bytes in ${this.path}`);
  }

  #settled(): void {
    this.#inFlight--;
    if (this.#inFlight === 0) this.#whenIdle?.();
  }
}

type Transfer = (
  fd: number,
  buffer: Uint8Array,
  at: number,
  length: number,
  position: number,
  done: (error: Error | null, count: number) => void,
) => void;
