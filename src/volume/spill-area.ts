import { crc32 } from 'node:zlib';
import { BackupError } from '../common/errors.ts';
import { type BlockDevice, hasSyncDoor } from '../device/block-device.ts';

/**
 * A device cut into slots of one block each, for pre-images that memory has no room for. Nothing in it outlives the
 * volume. If the host wishes, each slot's CRC-32 is kept in memory, and what reads back wrong is found out.
 */
export class SpillArea {
  readonly #device: BlockDevice;
  readonly #slotBytes: number;
  /** Slots in all. */
  readonly slotCount: number;
  /** By slot; `undefined` when the host trusts this device as it trusts the volume's own. */
  readonly #checksums: Map<number, number> | undefined;
  readonly #free: number[] = [];
  #everUsed = 0;

  constructor(device: BlockDevice, slotBytes: number, limitBytes: number, isVerified: boolean) {
    this.#device = device;
    this.#checksums = isVerified ? new Map() : undefined;
    this.#slotBytes = slotBytes;
    this.slotCount = Math.floor(Math.min(limitBytes, device.size) / slotBytes);
  }

  /** A slot that nobody has, `undefined` when all are taken. Slots given back are taken first, so the file stays small. */
  take(): number | undefined {
    const reused = this.#free.pop();
    if (reused !== undefined) return reused;
    return this.#everUsed < this.slotCount ? this.#everUsed++ : undefined;
  }

  give(slot: number): void {
    this.#checksums?.delete(slot);
    this.#free.push(slot);
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
    if (!hasSyncDoor(this.#device)) throw new BackupError('SPILL_FAILED', 'the spill device has no synchronous door');
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
