import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import { access, constants, statfs, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { BackupError } from '../common/errors.ts';
import { type BlockDevice, deviceStack, type SyncBlockDevice } from '../device/block-device.ts';
import { isFileDevice } from '../device/file-device.ts';
import { fileError } from '../device/file-errors.ts';

/** A folder on a disk in which a spill may be created. */
export interface SpillFolder {
  readonly folder: string;
  /** Bytes that were free when the folder was examined. */
  readonly freeBytes: number;
}

/** Why a spill can't be created in a folder. */
export interface UnusableFolder {
  readonly folder: string;
  readonly reason: string;
}

/** The types by which `statfs` names filesystems in memory: tmpfs, ramfs and hugetlbfs, of <linux/magic.h>. */
const MEMORY_FILESYSTEMS: ReadonlySet<number> = new Set([0x01021994, 0x858458f6, 0x958458f6]);

/** The folders in which a volume's own spill may be created, best first: those for temporary files, then that of the image. */
export function spillFolders(device: BlockDevice): string[] {
  const folders = process.platform === 'win32' ? [tmpdir()] : [tmpdir(), '/var/tmp'];
  // Last: a spill there takes up the room that a sparse image grows into.
  for (const each of deviceStack(device)) if (isFileDevice(each)) folders.push(dirname(each.path));
  // Absolute, because the file is created later, when the process may have another working directory.
  return [...new Set(folders.map((folder) => resolve(folder)))];
}

/**
 * Finds the first folder that can be written to, is not in memory and has enough free; if none has enough, the one with
 * the most. If no folder is usable, the result says why.
 */
export async function findSpillFolder(
  folders: readonly string[],
  wantedFreeBytes: number,
): Promise<SpillFolder | readonly UnusableFolder[]> {
  const refused: UnusableFolder[] = [];
  let best: SpillFolder | undefined;
  for (const folder of folders) {
    const found = await examine(folder);
    if ('reason' in found) refused.push(found);
    else if (found.freeBytes >= wantedFreeBytes) return found;
    else if (found.freeBytes > (best?.freeBytes ?? 0)) best = found;
    else refused.push({ folder, reason: 'is full' });
  }
  return best ?? refused;
}

async function examine(folder: string): Promise<SpillFolder | UnusableFolder> {
  try {
    await access(folder, constants.W_OK | constants.X_OK);
    const { type, bsize, bavail } = await statfs(folder);
    if (isInMemory(folder, type)) return { folder, reason: 'is, or may be, in memory' };
    return { folder, freeBytes: bsize * bavail };
  } catch (error) {
    return { folder, reason: (error as NodeJS.ErrnoException).code ?? String(error) };
  }
}

function isInMemory(folder: string, type: number): boolean {
  if (process.platform === 'linux') return MEMORY_FILESYSTEMS.has(type >>> 0);
  // macOS and Windows keep temporary files on the disk unless a RAM disk was set up. On other systems `type` says nothing,
  // and only /var/tmp, which must outlive a restart, is certainly on a disk.
  return process.platform !== 'darwin' && process.platform !== 'win32' && folder === tmpdir() && folder !== '/var/tmp';
}

const FLAGS = fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL;
const READABLE_BY_OWNER_ONLY = 0o600;

/** What the spill leaves free on its disk, for others. */
const RESERVE_BYTES = 64 * 1024 * 1024;
const STALE_MS = 100;

export interface SpillFileOptions {
  /** Bytes that were free when the volume opened; `undefined` where that is not known. */
  readonly freeBytes?: number | undefined;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
  readonly statfs?: ((folder: string) => Promise<{ readonly bavail: number; readonly bsize: number }>) | undefined;
}

/** Removes the name of an open file, and returns whether the system allows that. */
export async function removeName(path: string): Promise<boolean> {
  const [{ status }] = await Promise.allSettled([unlink(path)]);
  return status === 'fulfilled';
}

type Moved = (error: Error | null, count: number) => void;
type Transfer = (fd: number, buffer: Uint8Array, at: number, length: number, position: number, done: Moved) => void;
type SyncTransfer = (fd: number, buffer: Uint8Array, at: number, length: number, position: number) => number;

/**
 * A file that is created when something is first written to it, so that a volume that never needs a spill has none. Where
 * the system allows it the file has no name from then on: nothing is left however the process ends, and no other process
 * can open it.
 */
export class SpillFile implements SyncBlockDevice {
  readonly size: number;
  readonly sectorSize = 1;
  readonly #folder: string;
  #fd: number | undefined;
  #opening: Promise<number> | undefined;
  /** The path of the file, where the system did not allow its name to be removed. */
  #pathLeft: string | undefined;
  #closing: Promise<unknown> = Promise.resolve();
  #inFlight = 0;
  #whenIdle: (() => void) | undefined;
  /** Called when a measurement finds the space that was refused before. */
  onSpace: (() => void) | undefined;
  readonly #now: () => number;
  readonly #statfs: NonNullable<SpillFileOptions['statfs']>;
  #freeBytes: number | undefined;
  /** Reserved since the disk was measured. */
  #reservedBytes = 0;
  #refusedBytes: number | undefined;
  #measuredAt: number;
  #isMeasuring = false;

  constructor(folder: string, size: number, disk: SpillFileOptions = {}) {
    this.size = size;
    this.#folder = folder;
    this.#now = disk.now ?? (() => performance.now());
    this.#statfs = disk.statfs ?? ((path) => statfs(path));
    this.#freeBytes = disk.freeBytes;
    this.#measuredAt = disk.freeBytes === undefined ? Number.NEGATIVE_INFINITY : this.#now();
  }

  /**
   * Sets bytes of the disk aside, unless too little would be left for others. It answers at once, by the last measurement
   * and what was reserved since: a synchronous call to a filesystem that hangs would stop the process.
   */
  reserve(bytes: number): boolean {
    this.measureIfStale();
    if (!this.#hasSpace(bytes)) {
      this.#refusedBytes = bytes;
      return false;
    }
    this.#reservedBytes += bytes;
    return true;
  }

  measureIfStale(): void {
    if (!this.#isMeasuring && this.#now() - this.#measuredAt >= STALE_MS) void this.measure();
  }

  /** Finds out how much is free. Does not reject. */
  async measure(): Promise<void> {
    this.#isMeasuring = true;
    this.#measuredAt = this.#now();
    const reserved = this.#reservedBytes;
    try {
      const { bavail, bsize } = await this.#statfs(this.#folder);
      this.#freeBytes = bavail * bsize;
    } catch {
      this.#freeBytes = undefined;
    }
    this.#isMeasuring = false;
    this.#reservedBytes -= reserved;
    if (this.#refusedBytes === undefined || !this.#hasSpace(this.#refusedBytes)) return;
    this.#refusedBytes = undefined;
    this.onSpace?.();
  }

  #hasSpace(bytes: number): boolean {
    if (this.#freeBytes === undefined) return true; // Unknown: the write will show it.
    return this.#freeBytes - this.#reservedBytes >= bytes + Math.min(RESERVE_BYTES, this.size);
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
    // A descriptor that is closed during a call may already belong to another file.
    const idle = new Promise<void>((resolve) => {
      this.#whenIdle = resolve;
    });
    if (this.#inFlight > 0) await idle;
    this.reset();
    await this.#closing;
  }

  /** Gives the space back to the disk; nothing may be in use. The next write creates another file. */
  reset(): void {
    const [fd, path] = [this.#fd, this.#pathLeft];
    if (fd === undefined) return;
    this.#fd = undefined;
    this.#pathLeft = undefined;
    // In the background, because freeing the blocks of a large file takes a while.
    const closing = promisify(fs.close)(fd)
      .catch(() => {})
      .then(() => path !== undefined && removeName(path));
    this.#closing = Promise.all([this.#closing, closing]);
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
    const isUnlinked = await removeName(path);
    if (this.#fd !== undefined) {
      // The synchronous door has created one in the meantime.
      await promisify(fs.close)(fd);
      if (!isUnlinked) await removeName(path);
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
