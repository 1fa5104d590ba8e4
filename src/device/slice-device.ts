import type { AbortOptions } from '../common/abort.ts';
import { integerArgument, plainObjectArgument } from '../common/arguments.ts';
import type { ByteRange } from '../common/byte-range.ts';
import {
  type BlockDevice,
  type Extent,
  hasSyncDoor,
  type SyncBlockDevice,
  underlyingDevice,
  type WrappingDevice,
} from './block-device.ts';
import { checkBytes, closedError, deviceArgument } from './door.ts';
import { checkSpan } from './span.ts';

/**
 * Makes a device of a part of another device, such as a partition. It has the optional calls that the other device has: synchronous
 * ones, discard, write-zeroes, extents. Closing it does not close the other device.
 *
 * @param range - a range of whole sectors within the device
 * @public
 */
export function sliceDevice(device: SyncBlockDevice, range: ByteRange): SyncBlockDevice;
/** @public */
export function sliceDevice(device: BlockDevice, range: ByteRange): BlockDevice;
export function sliceDevice(device: BlockDevice, range: ByteRange): BlockDevice {
  deviceArgument('device', device);
  plainObjectArgument('range', range);
  integerArgument('range.offset', range.offset, Number.MIN_SAFE_INTEGER);
  integerArgument('range.length', range.length, Number.MIN_SAFE_INTEGER);
  checkSpan(device, range.offset, range.length);
  const slice = new SliceDevice(device, range);
  if (!hasSyncDoor(device)) return slice;
  return Object.assign(slice, {
    readSync: (offset: number, into: Uint8Array) => device.readSync(slice.locateBytes('into', offset, into), into),
    writeSync: (offset: number, from: Uint8Array) => device.writeSync(slice.locateBytes('from', offset, from), from),
    flushSync: () => {
      slice.locate(0, 0);
      device.flushSync();
    },
  });
}

class SliceDevice implements BlockDevice, WrappingDevice {
  readonly [underlyingDevice]: BlockDevice;
  readonly size: number;
  readonly sectorSize: number;
  readonly readOnly: boolean | undefined;
  readonly maxTransferBytes: number | undefined;
  readonly discard?: NonNullable<BlockDevice['discard']>;
  readonly writeZeroes?: NonNullable<BlockDevice['writeZeroes']>;
  readonly extents?: NonNullable<BlockDevice['extents']>;
  readonly stamp?: NonNullable<BlockDevice['stamp']>;
  readonly #start: number;
  #closed = false;

  constructor(device: BlockDevice, range: ByteRange) {
    this[underlyingDevice] = device;
    this.#start = range.offset;
    this.size = range.length;
    this.sectorSize = device.sectorSize;
    this.readOnly = device.readOnly;
    this.maxTransferBytes = device.maxTransferBytes;
    if (device.discard !== undefined) {
      this.discard = async (offset, length, options) => device.discard?.(this.locate(offset, length), length, options);
    }
    if (device.writeZeroes !== undefined) {
      this.writeZeroes = async (offset, length, options) =>
        device.writeZeroes?.(this.locate(offset, length), length, options);
    }
    if (device.stamp !== undefined) {
      this.stamp = async () => {
        this.locate(0, 0);
        const { identity, version } = await (device as Required<BlockDevice>).stamp();
        return { identity: `${identity}, ${this.size} bytes from ${this.#start}`, version };
      };
    }
    const extents = device.extents?.bind(device);
    if (extents !== undefined) {
      const start = this.#start;
      this.extents = async function* (
        this: SliceDevice,
        offset: number,
        length: number,
        options?: AbortOptions,
      ): AsyncGenerator<Extent> {
        for await (const extent of extents(this.locate(offset, length), length, options)) {
          yield { ...extent, offset: extent.offset - start };
        }
      }.bind(this);
    }
  }

  /** The offset of a range of the slice on the device. */
  locate(offset: number, length: number): number {
    if (this.#closed) throw closedError('the slice');
    checkSpan(this, offset, length);
    return this.#start + offset;
  }

  /** The offset of the bytes of a call on the device. */
  locateBytes(name: 'into' | 'from', offset: number, bytes: Uint8Array): number {
    checkBytes(name, bytes);
    return this.locate(offset, bytes.length);
  }

  async read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void> {
    await this[underlyingDevice].read(this.locateBytes('into', offset, into), into, options);
  }

  async write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void> {
    await this[underlyingDevice].write(this.locateBytes('from', offset, from), from, options);
  }

  async flush(options?: AbortOptions): Promise<void> {
    this.locate(0, 0);
    await this[underlyingDevice].flush(options);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
