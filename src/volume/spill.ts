import { crc32 } from 'node:zlib';
import { BackupError } from '../common/errors.ts';
import { type BlockDevice, hasSyncDoor } from '../device/block-device.ts';
import { FileDevice } from '../device/file-device.ts';
import { findSpillFolder, removeName, SpillFile, spillFolders, type UnusableFolder } from './spill-file.ts';
import type { CheckedVolumeOptions } from './volume-options.ts';

/** How much of the disk is reserved at a time. */
const GROWTH_BYTES = 16 * 1024 * 1024;
/** A file that has grown to this size is given up once none of its slots is in use. */
const WORTH_RESETTING_BYTES = 64 * 1024 * 1024;
/** A volume's own spill takes no more than this, and no more than a quarter of what is free when the volume opens. */
const MAX_OWN_BYTES = 32 * 1024 ** 3;
/** Each pre-image takes some 150 bytes of memory, wherever its content is. */
const MAX_OWN_BLOCKS = 2 ** 20;
const SHARE_OF_FREE = 1 / 4;

/** What the disk below a spill can say and do; a `SpillFile` has all of it. */
interface SpillDisk {
  /** Sets space aside, and returns whether there was enough. It answers at once, by what it knows. */
  reserve?(bytes: number): boolean;
  /** Finds out in the background how much is free, if that was not done recently. */
  measureIfStale?(): void;
  /** The disk calls this when it has space that it had refused. */
  onSpace?: (() => void) | undefined;
  /** Gives the space back to the disk; no slot is in use. */
  reset?(): void;
}

interface SpillSettings {
  readonly slotBytes: number;
  readonly limitBytes: number;
  /** Whether the CRC-32 of every slot is kept in memory and compared when the slot is read. */
  readonly isVerified: boolean;
  readonly disk?: SpillDisk;
  readonly close?: () => Promise<void>;
}

/**
 * A device that is divided into slots of one block each, for pre-images that memory has no room for. Nothing in it
 * outlives the volume.
 */
export class Spill {
  readonly #device: BlockDevice;
  readonly #slotBytes: number;
  readonly #limit: number;
  /** By slot; `undefined` when the host trusts this device as it trusts the volume's own. */
  readonly #checksums: Map<number, number> | undefined;
  readonly #free: number[] = [];
  readonly #disk: SpillDisk;
  /** Closes and removes the spill's file, if it is the volume's. */
  readonly close: () => Promise<void>;
  #everUsed = 0;
  /** The number of slots for which the disk has reserved space. */
  #reserved = 0;
  #isDiskFull = false;

  constructor(device: BlockDevice, { slotBytes, limitBytes, isVerified, disk = {}, close }: SpillSettings) {
    this.#device = device;
    this.#disk = disk;
    this.close = close ?? (async () => {});
    this.#checksums = isVerified ? new Map() : undefined;
    this.#slotBytes = slotBytes;
    this.#limit = Math.floor(Math.min(limitBytes, device.size) / slotBytes);
  }

  /** Called when the disk has space again. */
  set onSpace(callback: () => void) {
    this.#disk.onSpace = callback;
  }

  /** How many slots there are; while the disk has no space for more, those that were ever used. */
  get slotCount(): number {
    return this.#isDiskFull ? this.#everUsed : this.#limit;
  }

  /** A free slot, or `undefined` when there is none. Released slots come first, so that the file stays small. */
  allocate(): number | undefined {
    const reused = this.#free.pop();
    if (reused !== undefined) return reused;
    return this.#everUsed < this.#limit && this.#isReserved() ? this.#everUsed++ : undefined;
  }

  release(slot: number): void {
    this.#checksums?.delete(slot);
    this.#free.push(slot);
    if (this.#free.length < this.#everUsed || this.#everUsed * this.#slotBytes < WORTH_RESETTING_BYTES) return;
    this.#free.length = 0;
    this.#everUsed = 0;
    this.#reserved = 0;
    this.#disk.reset?.();
  }

  async write(slot: number, bytes: Uint8Array): Promise<void> {
    try {
      const written = this.#device.write(slot * this.#slotBytes, bytes);
      this.#checksums?.set(slot, crc32(bytes)); // While the device is at work.
      await written;
    } catch (cause) {
      throw spillFailed('write to', cause);
    }
  }

  writeSync(slot: number, bytes: Uint8Array): void {
    if (!hasSyncDoor(this.#device))
      throw new BackupError(
        'SPILL_FAILED',
        'the spill device has no synchronous calls (readSync, writeSync), which a synchronous write needs',
      );
    try {
      this.#device.writeSync(slot * this.#slotBytes, bytes);
    } catch (cause) {
      throw spillFailed('write to', cause);
    }
    this.#checksums?.set(slot, crc32(bytes));
  }

  /** Reads a part of a slot's content, from byte `start` of the slot on. @throws `SPILL_FAILED`, `SPILL_CORRUPT` */
  async read(slot: number, start: number, into: Uint8Array): Promise<void> {
    const { sectorSize } = this.#device;
    const isDirect = this.#checksums === undefined && start % sectorSize === 0 && into.length % sectorSize === 0;
    const bytes = isDirect ? into : new Uint8Array(this.#slotBytes);
    try {
      await this.#device.read(slot * this.#slotBytes + (isDirect ? start : 0), bytes);
    } catch (cause) {
      throw spillFailed('read', cause);
    }
    if (isDirect) return;
    if (this.#checksums !== undefined && crc32(bytes) !== this.#checksums.get(slot)) {
      throw new BackupError('SPILL_CORRUPT', `slot ${slot} of the spill does not read back as it was written`);
    }
    into.set(bytes.subarray(start, start + into.length));
  }

  /** The disk is asked before a slot is given out: a failed write breaks snapshots, but a write without room waits (R13). */
  #isReserved(): boolean {
    if (this.#everUsed < this.#reserved) {
      this.#disk.measureIfStale?.(); // So that the answer is known by the time more is asked for.
      return true;
    }
    const more = Math.min(this.#limit - this.#everUsed, Math.max(1, Math.floor(GROWTH_BYTES / this.#slotBytes)));
    this.#isDiskFull = this.#disk.reserve?.(more * this.#slotBytes) === false;
    if (!this.#isDiskFull) this.#reserved = this.#everUsed + more;
    return !this.#isDiskFull;
  }
}

function spillFailed(verb: string, cause: unknown): BackupError {
  return new BackupError('SPILL_FAILED', `can't ${verb} the spill`, { cause, retryable: true });
}

/** Opens the spill that the options name; if they name none, one in a file of the volume's own that is created when needed. */
export async function openSpill(
  device: BlockDevice,
  options: CheckedVolumeOptions,
  folders: readonly string[] = spillFolders(device),
): Promise<Spill | undefined> {
  const { spillPath, spillDevice, spillBytes, verifySpill: isVerified, blockSize: slotBytes } = options;
  if (spillBytes === 0) return undefined;
  if (spillDevice !== undefined) {
    return new Spill(spillDevice, { slotBytes, limitBytes: spillBytes ?? spillDevice.size, isVerified });
  }
  const wanted = wholeBlocks(spillBytes ?? Math.ceil(device.size / slotBytes) * slotBytes, slotBytes);
  if (spillPath !== undefined) return openSpillFile(spillPath, wanted, options);
  const most = spillBytes === undefined ? Math.min(wanted, MAX_OWN_BYTES, MAX_OWN_BLOCKS * slotBytes) : wanted;
  const found = await findSpillFolder(folders, spillBytes === undefined ? most / SHARE_OF_FREE : most);
  if (!('folder' in found)) return refuseOrWarn(device, options, found);
  // A number that the host has given is bounded by nothing else.
  const bounded = spillBytes === undefined ? Math.min(most, found.freeBytes * SHARE_OF_FREE) : most;
  const limitBytes = wholeBlocks(bounded, slotBytes);
  if (limitBytes === 0) return refuseOrWarn(device, options, [{ folder: found.folder, reason: 'is full' }]);
  const file = new SpillFile(found.folder, limitBytes, { freeBytes: found.freeBytes });
  const close = () => file[Symbol.asyncDispose]();
  return new Spill(file, { slotBytes, limitBytes, isVerified, disk: file, close });
}

async function openSpillFile(path: string, sizeBytes: number, options: CheckedVolumeOptions): Promise<Spill> {
  const file = await FileDevice.open(path, { create: { sizeBytes }, shared: true });
  // Where the system allows it the file has no name from here on, so that it disappears however the process ends.
  const isUnlinked = await removeName(path);
  const close = async () => {
    await file.close();
    if (!isUnlinked) await removeName(path);
  };
  const { blockSize, verifySpill } = options;
  return new Spill(file, { slotBytes: blockSize, limitBytes: sizeBytes, isVerified: verifySpill, close });
}

let hasWarned = false;

/** Without a spill, pre-images are kept in memory only: a warning says so once a process, where memory could be too little. */
function refuseOrWarn(
  device: BlockDevice,
  options: CheckedVolumeOptions,
  folders: readonly UnusableFolder[],
): undefined {
  const why = folders.map(({ folder, reason }) => `${folder} (${reason})`).join(', ');
  const message = `no folder on a disk was found for a spill of pre-images: ${why}; name one by preserve.spillPath`;
  if (options.memoryBytes < options.blockSize) throw new BackupError('PREIMAGE_SPACE', message);
  if (hasWarned || device.size <= options.memoryBytes) return;
  hasWarned = true;
  const limit = `only ${options.memoryBytes} bytes of pre-images are kept, in memory`;
  process.emitWarning(`${message}, or set preserve.spillBytes to 0 to do without; ${limit}`, {
    type: 'BackupWarning',
    code: 'NO_SPILL',
  });
}

function wholeBlocks(bytes: number, blockSize: number): number {
  return Math.floor(bytes / blockSize) * blockSize;
}
