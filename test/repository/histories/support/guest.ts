import { MemoryDevice } from '../../../../src/device/memory-device.ts';
import { randomBytesFrom, seededRandom } from '../../../../src/testing/seeded-random.ts';
import { CopyOnWriteVolume, type SyncVolumeAccess } from '../../../../src/volume/copy-on-write-volume.ts';
import { BLOCK } from '../../support/repositories.ts';

/** What a write puts there: content that nobody has seen, zeroes, content that many blocks have, or what is there already. */
export type Content = 'fresh' | 'zeroes' | 'alike' | 'same';

/** One write, its place in fractions of the volume. */
export interface GuestWrite {
  readonly at: number;
  readonly bytes: number;
  readonly content: Content;
}

/** Whoever writes to a volume, and the device under it. Sparse: what nobody has written is zeroes. */
export class Guest {
  readonly name: string;
  device: MemoryDevice;
  volume!: CopyOnWriteVolume & SyncVolumeAccess;
  readonly #fresh: () => number;

  private constructor(name: string, size: number, seed: number) {
    this.name = name;
    this.device = new MemoryDevice(size);
    this.#fresh = seededRandom(seed);
  }

  static async open(name: string, size: number, seed: number): Promise<Guest> {
    const guest = new Guest(name, size, seed);
    for (let at = 0; at < size; at += 5 * BLOCK) {
      guest.device.bytes.set(guest.#bytes(Math.min(size - at, BLOCK), 'fresh'), at);
    }
    await guest.#open();
    return guest;
  }

  get size(): number {
    return this.device.size;
  }

  /** All of it, as it is now. */
  copy(): Uint8Array {
    return this.device.bytes.slice();
  }

  async write({ at, bytes, content }: GuestWrite): Promise<void> {
    const offset = Math.floor(at * this.size);
    const length = Math.min(bytes, this.size - offset);
    if (content === 'zeroes') await this.volume.writeZeroes?.(offset, length);
    else await this.volume.write(offset, this.#bytes(length, content, offset));
  }

  /** Another volume object, which knows nothing of what was written before; perhaps of another size. */
  async reopen(size = this.size): Promise<void> {
    await this.volume.close();
    const { bytes } = this.device;
    this.device = new MemoryDevice(size);
    this.device.bytes.set(bytes.subarray(0, size));
    await this.#open();
  }

  async #open(): Promise<void> {
    this.volume = await CopyOnWriteVolume.open(this.device, { blockSize: BLOCK, name: this.name });
  }

  #bytes(length: number, content: Content, offset = 0): Uint8Array {
    if (content === 'fresh') return randomBytesFrom(this.#fresh, length);
    if (content === 'same') return this.device.bytes.slice(offset, offset + length);
    return new Uint8Array(length).fill(content === 'alike' ? 0x77 : 0);
  }
}
