import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import { statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BackupError } from '../common/errors.ts';
import type { SyncBlockDevice } from '../device/block-device.ts';
import { fileError } from '../device/file-errors.ts';

const FLAGS = fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL;
const READABLE_BY_OWNER_ONLY = 0o600;

const LEFT_FOR_OTHERS_BYTES = 64 * 1024 * 1024;
const ASKED_AGAIN_MS = 100;

/** What is known of the disk below, and how more is learned. */
export interface SpillDiskOptions {
  /** What was free when the volume opened; `undefined` where the system did not tell. */
  readonly freeBytes?: number | undefined;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
  readonly statfs?: ((folder: string) => Promise<{ readonly bavail: number; readonly bsize: number }>) | undefined;
}

type Moved = (error: Error | null, count: number) => void;
type Transfer = (fd: number, buffer: Uint8Array, at: number, length: number, position: number, done: Moved) => void;
type SyncTransfer = (fd: number, buffer: Uint8Array, at: number, length: number, position: number) => number;

/**
 * A file that is made when something is first written to it, so that a volume that never needs a spill has none. It has no
 * name from then on where the system allows it, so that nothing is left however the process ends, and nobody else can open it.
 */
export class LazySpillFile implements SyncBlockDevice {
  readonly size: number;
  readonly sectorSize = 1;
  readonly #folder: string;
  #fd: number | undefined;
  #opening: Promise<number> | undefined;
  /** Where the file is, if the system did not let its name be taken away. */
  #pathLeft: string | undefined;
  #lettingGo: Promise<unknown> = Promise.resolve();
  #inFlight = 0;
  #whenIdle: (() => void) | undefined;
  /** Called when a look has found the room that was refused before. */
  onRoom: (() => void) | undefined;
  readonly #now: () => number;
  readonly #statfs: NonNullable<SpillDiskOptions['statfs']>;
  #freeBytes: number | undefined;
  /** Since that was found. */
  #grantedBytes = 0;
  #refusedBytes: number | undefined;
  #lookedAt: number;
  #isLooking = false;

  constructor(folder: string, size: number, disk: SpillDiskOptions = {}) {
    this.size = size;
    this.#folder = folder;
    this.#now = disk.now ?? (() => performance.now());
    this.#statfs = disk.statfs ?? ((path) => statfs(path));
    this.#freeBytes = disk.freeBytes;
    this.#lookedAt = disk.freeBytes === undefined ? Number.NEGATIVE_INFINITY : this.#now();
  }

  /**
   * Whether its disk has room for so many more bytes, and something left for others. Answers at once, by the last look and by
   * what was granted since: a filesystem that hangs must not stop the process, which a synchronous call would.
   */
  hasRoomFor(bytes: number): boolean {
    this.lookAgain();
    if (!this.#isRoom(bytes)) {
      this.#refusedBytes = bytes;
      return false;
    }
    this.#grantedBytes += bytes;
    return true;
  }

  /** Has a look in the background, if the last one is some time ago. */
  lookAgain(): void {
    if (!this.#isLooking && this.#now() - this.#lookedAt >= ASKED_AGAIN_MS) void this.look();
  }

  /** Finds out what is free. Does not reject. */
  async look(): Promise<void> {
    this.#isLooking = true;
    this.#lookedAt = this.#now();
    const granted = this.#grantedBytes;
    try {
      const { bavail, bsize } = await this.#statfs(this.#folder);
      this.#freeBytes = bavail * bsize;
    } catch {
      this.#freeBytes = undefined;
    }
    this.#isLooking = false;
    this.#grantedBytes -= granted;
    if (this.#refusedBytes === undefined || !this.#isRoom(this.#refusedBytes)) return;
    this.#refusedBytes = undefined;
    this.onRoom?.();
  }

  #isRoom(bytes: number): boolean {
    if (this.#freeBytes === undefined) return true; // Not known: the write will tell.
    return this.#freeBytes - this.#grantedBytes >= bytes + Math.min(LEFT_FOR_OTHERS_BYTES, this.size);
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#moveAll('read', fs.read as Transfer, offset, into);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    await this.#moveAll('write', fs.write as Transfer, offset, from);
  }

  async flush(): Promise<void> {} // Nothing in it outlives the process.

  readSync(offset: number, into: Uint8Array): void {
    this.#moveAllSync('read', fs.readSync as SyncTransfer, offset, into);
  }

  writeSync(offset: number, from: Uint8Array): void {
    this.#moveAllSync('write', fs.writeSync as SyncTransfer, offset, from);
  }

  flushSync(): void {}

  async [Symbol.asyncDispose](): Promise<void> {
    // A number that is closed under a call is soon another file's.
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
      });
    }
    this.letGo();
    await this.#lettingGo;
  }

  /** Gives the disk its room back; nothing may be in use. The next write makes another file. */
  letGo(): void {
    const [fd, path] = [this.#fd, this.#pathLeft];
    if (fd === undefined) return;
    this.#fd = undefined;
    this.#pathLeft = undefined;
    // In the background: to free the blocks of a large file takes a while.
    const closing = promisify(fs.close)(fd)
      .then(() => (path === undefined ? undefined : unlink(path)))
      .catch(() => {});
    this.#lettingGo = Promise.all([this.#lettingGo, closing]);
  }

  async #moveAll(verb: 'read' | 'write', some: Transfer, offset: number, buffer: Uint8Array): Promise<void> {
    this.#inFlight++;
    try {
      const fd = this.#fd ?? (await this.#opened());
      for (let moved = 0; moved < buffer.length; ) {
        const count = await new Promise<number>((resolve, reject) => {
          const done: Moved = (error, some) => (error === null ? resolve(some) : reject(error));
          some(fd, buffer, moved, buffer.length - moved, offset + moved, done);
        });
        if (count === 0) throw this.#short(verb);
        moved += count;
      }
    } catch (error) {
      throw fileError(verb, `the spill in ${this.#folder}`, error);
    } finally {
      this.#inFlight--;
      if (this.#inFlight === 0) this.#whenIdle?.();
    }
  }

  #moveAllSync(verb: 'read' | 'write', some: SyncTransfer, offset: number, buffer: Uint8Array): void {
    try {
      this.#fd ??= this.#openSync();
      for (let moved = 0; moved < buffer.length; ) {
        const count = some(this.#fd, buffer, moved, buffer.length - moved, offset + moved);
        if (count === 0) throw this.#short(verb);
        moved += count;
      }
    } catch (error) {
      throw fileError(verb, `the spill in ${this.#folder}`, error);
    }
  }

  #opened(): Promise<number> {
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #open(): Promise<number> {
    const path = this.#newPath();
    const fd = await promisify(fs.open)(path, FLAGS, READABLE_BY_OWNER_ONLY);
    const isUnlinked = await unlink(path).then(
      () => true,
      () => false,
    );
    if (this.#fd !== undefined) {
      // The synchronous door has made one meanwhile.
      await promisify(fs.close)(fd);
      if (!isUnlinked) await unlink(path).catch(() => {});
      return this.#fd;
    }
    this.#fd = fd;
    if (!isUnlinked) this.#pathLeft = path;
    return fd;
  }

  #openSync(): number {
    const path = this.#newPath();
    const fd = fs.openSync(path, FLAGS, READABLE_BY_OWNER_ONLY);
    try {
      fs.unlinkSync(path);
    } catch {
      this.#pathLeft = path;
    }
    return fd;
  }

  #newPath(): string {
    return join(this.#folder, `cow-cloud-backup-${randomUUID()}.spill`);
  }

  #short(verb: 'read' | 'write'): BackupError {
    return new BackupError(
      verb === 'read' ? 'SHORT_READ' : 'SHORT_WRITE',
      `the spill in ${this.#folder} ends in the middle of a ${verb}`,
    );
  }
}
