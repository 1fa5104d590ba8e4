import type { AbortOptions } from '../common/abort.ts';
import type { ByteRange } from '../common/byte-range.ts';
import { isZero } from '../common/bytes.ts';
import type { BlockDevice } from './block-device.ts';
import { byteDevice } from './byte-device.ts';

const ZEROES = new Uint8Array(1024 * 1024);

/** The device that is restored onto. It takes any offset and length, and splits calls by the `maxTransferBytes` of the device. */
export class RestoreDevice {
  readonly size: number;
  /** The number of bytes that were written. */
  writtenBytes = 0;
  readonly #device: BlockDevice;
  readonly #mostBytes: number;

  constructor(device: BlockDevice) {
    this.#device = device.sectorSize === 1 ? device : byteDevice(device);
    this.size = device.size;
    this.#mostBytes = this.#device.maxTransferBytes ?? Number.POSITIVE_INFINITY;
  }

  async read(offset: number, into: Uint8Array, options: AbortOptions): Promise<void> {
    for (const { at, length } of this.#calls(into.length)) {
      await this.#device.read(offset + at, into.subarray(at, at + length), options);
    }
  }

  async write(offset: number, from: Uint8Array, options: AbortOptions): Promise<void> {
    for (const { at, length } of this.#calls(from.length)) {
      await this.#device.write(offset + at, from.subarray(at, at + length), options);
      this.writtenBytes += length;
    }
  }

  /** Makes a range read as zeroes. Ranges that are zeroes already are not written, so that a sparse file stays sparse. */
  async zero(offset: number, length: number, options: AbortOptions): Promise<void> {
    const { writeZeroes } = this.#device;
    for await (const range of this.#unknown(offset, length, options)) {
      if (writeZeroes === undefined) {
        await this.#zeroByHand(range, options);
        continue;
      }
      for (const { at, length: bytes } of this.#calls(range.length)) {
        await writeZeroes.call(this.#device, range.offset + at, bytes, options);
        this.writtenBytes += bytes;
      }
    }
  }

  async flush(options: AbortOptions): Promise<void> {
    await this.#device.flush(options);
  }

  async #zeroByHand({ offset, length }: ByteRange, options: AbortOptions): Promise<void> {
    const found = new Uint8Array(Math.min(length, ZEROES.length));
    for (let at = 0; at < length; at += ZEROES.length) {
      const part = found.subarray(0, Math.min(ZEROES.length, length - at));
      await this.read(offset + at, part, options);
      if (!isZero(part)) await this.write(offset + at, ZEROES.subarray(0, part.length), options);
    }
  }

  /** The parts of a range that the device does not know to be zeroes. */
  async *#unknown(offset: number, length: number, options: AbortOptions): AsyncGenerator<ByteRange> {
    const { extents } = this.#device;
    if (extents === undefined) {
      yield { offset, length };
      return;
    }
    for await (const extent of extents.call(this.#device, offset, length, options)) {
      if (extent.kind !== 'zero') yield extent;
    }
  }

  *#calls(total: number): Generator<{ at: number; length: number }> {
    for (let at = 0; at < total; at += this.#mostBytes) yield { at, length: Math.min(this.#mostBytes, total - at) };
  }
}
