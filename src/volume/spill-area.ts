import { crc32 } from 'node:zlib';
import { BackupError } from '../common/errors.ts';
import { type BlockDevice, hasSyncDoor } from '../device/block-device.ts';

/** So much of the disk is asked for at a time. */
const GROWTH_BYTES = 16 * 1024 * 1024;
/** A file that has taken up so much is given up once nothing of it is in use. */
const WORTH_LETTING_GO_BYTES = 64 * 1024 * 1024;

/** What the disk below a spill can say and do. */
export interface SpillDisk {
  /** Whether there is room for so many more bytes than were ever used. Answers at once, by what it knows. */
  hasRoomFor?(bytes: number): boolean;
  /** Room is being used: what is known of the disk may be old. */
  lookAgain?(): void;
  /** Called by the disk when there is room that it had refused. */
  onRoom?: (() => void) | undefined;
  /** Nothing of the spill is in use: its room may go back to the disk. */
  letGo?(): void;
}

/**
 * A device cut into slots of one block each, for pre-images that memory has no room for. Nothing in it outlives the
 * volume. If the host wishes, each slot's CRC-32 is kept in memory, and what reads back wrong is found out.
 */
export class SpillArea {
  readonly #device: BlockDevice;
  readonly #slotBytes: number;
  readonly #limit: number;
  /** By slot; `undefined` when the host trusts this device as it trusts the volume's own. */
  readonly #checksums: Map<number, number> | undefined;
  readonly #free: number[] = [];
  readonly #disk: SpillDisk;
  #everUsed = 0;
  /** So many slots have been found to have room on the disk. */
  #grownTo = 0;
  #isDiskFull = false;

  constructor(device: BlockDevice, slotBytes: number, limitBytes: number, isVerified: boolean, disk: SpillDisk = {}) {
    this.#device = device;
    this.#disk = disk;
    this.#checksums = isVerified ? new Map() : undefined;
    this.#slotBytes = slotBytes;
    this.#limit = Math.floor(Math.min(limitBytes, device.size) / slotBytes);
  }

  /** Called when the disk has room again. */
  set onRoom(callback: () => void) {
    this.#disk.onRoom = callback;
  }

  /** Slots in all; while the disk has no room for more, those that were ever used. */
  get slotCount(): number {
    return this.#isDiskFull ? this.#everUsed : this.#limit;
  }

  /** A slot that nobody has, `undefined` when all are taken. Slots given back are taken first, so the file stays small. */
  take(): number | undefined {
    const reused = this.#free.pop();
    if (reused !== undefined) return reused;
    return this.#everUsed < this.#limit && this.#hasRoomOnDisk() ? this.#everUsed++ : undefined;
  }

  give(slot: number): void {
    this.#checksums?.delete(slot);
    this.#free.push(slot);
    if (this.#free.length < this.#everUsed || this.#everUsed * this.#slotBytes < WORTH_LETTING_GO_BYTES) return;
    this.#free.length = 0;
    this.#everUsed = 0;
    this.#grownTo = 0;
    this.#disk.letGo?.();
  }

  /** Asked before slots are taken: a write that fails breaks snapshots, and one that finds no room waits for some (R13). */
  #hasRoomOnDisk(): boolean {
    if (this.#everUsed < this.#grownTo) {
      this.#disk.lookAgain?.(); // So that it knows by the time more is asked for.
      return true;
    }
    const more = Math.min(this.#limit - this.#everUsed, Math.max(1, Math.floor(GROWTH_BYTES / this.#slotBytes)));
    this.#isDiskFull = this.#disk.hasRoomFor?.(more * this.#slotBytes) === false;
    if (!this.#isDiskFull) this.#grownTo = this.#everUsed + more;
    return !this.#isDiskFull;
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

  /** Part of a slot's content, from byte `start` of it on. @throws `SPILL_FAILED`, `SPILL_CORRUPT` */
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
}

function spillFailed(verb: string, cause: unknown): BackupError {
  return new BackupError('SPILL_FAILED', `can't ${verb} the spill`, { cause, retryable: true });
}
