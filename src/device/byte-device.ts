import { type AbortOptions, abortOptionsArgument } from '../common/abort.ts';
import { BackupError } from '../common/errors.ts';
import {
  type BlockDevice,
  type Extent,
  hasSyncDoor,
  type SyncBlockDevice,
  underlyingDevice,
  type WrappingDevice,
} from './block-device.ts';
import { checkBytes, checkLength, closedError, deviceArgument } from './door.ts';
import { checkSpan, type PartialUnit, splitSpan } from './span.ts';

/**
 * Makes a device for I/O of any alignment over a device that takes whole sectors. The rest of the first and last sector is read
 * and written back together with the new bytes. Writes to the same sectors wait for each other; a synchronous write that would
 * have to wait throws `WRITES_IN_FLIGHT`. All writes must go through this device.
 *
 * Closing it does not close `device`.
 *
 * @public
 */
export function byteDevice(device: SyncBlockDevice): SyncBlockDevice;
/** @public */
export function byteDevice(device: BlockDevice): BlockDevice;
export function byteDevice(device: BlockDevice): BlockDevice {
  deviceArgument('device', device);
  return hasSyncDoor(device) ? new SyncByteDevice(device) : new ByteDevice(device);
}

/** The whole sectors that a range touches, in bytes. */
interface Cover {
  readonly offset: number;
  readonly length: number;
  /** The sectors that the range covers only partly: none, one or two. */
  readonly partial: readonly PartialUnit[];
}

class ByteDevice<D extends BlockDevice = BlockDevice> implements BlockDevice, WrappingDevice {
  readonly [underlyingDevice]: D;
  readonly size: number;
  readonly sectorSize = 1;
  readonly readOnly: boolean | undefined;
  readonly maxTransferBytes: number | undefined;
  readonly discard?: NonNullable<BlockDevice['discard']>;
  readonly writeZeroes?: NonNullable<BlockDevice['writeZeroes']>;
  readonly extents?: NonNullable<BlockDevice['extents']>;
  readonly stamp?: NonNullable<BlockDevice['stamp']>;
  protected readonly locks = new SpanLock();
  #closed = false;

  constructor(device: D) {
    this[underlyingDevice] = device;
    this.size = device.size;
    this.readOnly = device.readOnly;
    // A range touches at most two more sectors than its bytes fill.
    const most = device.maxTransferBytes;
    this.maxTransferBytes = most === undefined ? undefined : Math.max(1, most - 2 * device.sectorSize);
    const { discard, writeZeroes, extents } = device;
    if (discard !== undefined) {
      this.discard = (offset, length, options) =>
        this.#onWholeSectors(offset, length, options, (at, bytes) => discard.call(device, at, bytes, options));
    }
    if (writeZeroes !== undefined) this.writeZeroes = this.#writeZeroes.bind(this, writeZeroes.bind(device));
    if (extents !== undefined) this.extents = this.#extents.bind(this, extents.bind(device));
    if (device.stamp !== undefined) this.stamp = device.stamp.bind(device);
  }

  async read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void> {
    const cover = this.coverOf('into', offset, into);
    const { length } = into;
    abortOptionsArgument(options);
    if (cover.length === 0) return; // The inner device would refuse an offset that is not a whole sector.
    if (cover.partial.length === 0) {
      await this[underlyingDevice].read(offset, into, options);
      return;
    }
    const sectors = new Uint8Array(cover.length);
    await this[underlyingDevice].read(cover.offset, sectors, options);
    checkLength('into', into, length);
    into.set(sectors.subarray(offset - cover.offset, offset - cover.offset + length));
  }

  async write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void> {
    const cover = this.coverOf('from', offset, from);
    this.checkWrite(options);
    if (cover.length === 0) return;
    const { length } = from;
    await this.#locked(cover, () => this.#writeCover(cover, offset, from, length, options));
  }

  async flush(options?: AbortOptions): Promise<void> {
    this.cover(0, 0);
    abortOptionsArgument(options);
    await this[underlyingDevice].flush(options);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  protected cover(offset: number, length: number): Cover {
    if (this.#closed) throw closedError('the device');
    checkSpan(this, offset, length);
    const { sectorSize } = this[underlyingDevice];
    const { head, tail } = splitSpan(offset, length, sectorSize);
    const start = offset - (head?.start ?? 0);
    const end = length === 0 ? start : Math.ceil((offset + length) / sectorSize) * sectorSize;
    return { offset: start, length: end - start, partial: [head, tail].filter((part) => part !== undefined) };
  }

  protected coverOf(name: 'into' | 'from', offset: number, bytes: Uint8Array): Cover {
    checkBytes(name, bytes);
    return this.cover(offset, bytes.length);
  }

  /** Checked here, because a discard of less than a sector never reaches the inner device. */
  protected checkWrite(options: AbortOptions | undefined): void {
    abortOptionsArgument(options);
    if (this.readOnly === true) throw new BackupError('READ_ONLY', 'the device is read-only');
  }

  /** The first and last sector of a cover, for the lock. */
  protected sectors(cover: Cover): [first: number, last: number] {
    const { sectorSize } = this[underlyingDevice];
    return [cover.offset / sectorSize, (cover.offset + cover.length) / sectorSize - 1];
  }

  async #locked(cover: Cover, work: () => Promise<void>): Promise<void> {
    const release = await this.locks.acquire(...this.sectors(cover));
    try {
      await work();
    } finally {
      release();
    }
  }

  /** @param length - the length of the bytes when the call began; there were waits since, in which it may have changed */
  async #writeCover(
    cover: Cover,
    offset: number,
    from: Uint8Array,
    length: number,
    options?: AbortOptions,
  ): Promise<void> {
    const device = this[underlyingDevice];
    checkLength('from', from, length);
    if (cover.partial.length === 0) {
      await device.write(offset, from, options);
      return;
    }
    const { sectorSize } = device;
    const sectors = new Uint8Array(cover.length);
    for (const { unit } of cover.partial) {
      const at = unit * sectorSize - cover.offset;
      await device.read(unit * sectorSize, sectors.subarray(at, at + sectorSize), options);
    }
    checkLength('from', from, length);
    sectors.set(from, offset - cover.offset);
    await device.write(cover.offset, sectors, options);
  }

  /** Discards the whole sectors in the range. The rest may have any content, so it may keep its own. */
  async #onWholeSectors(
    offset: number,
    length: number,
    options: AbortOptions | undefined,
    work: (at: number, bytes: number) => Promise<void>,
  ): Promise<void> {
    const cover = this.cover(offset, length);
    this.checkWrite(options);
    const { sectorSize } = this[underlyingDevice];
    const { firstWhole, wholeCount } = splitSpan(offset, length, sectorSize);
    if (wholeCount > 0) await this.#locked(cover, () => work(firstWhole * sectorSize, wholeCount * sectorSize));
  }

  async #writeZeroes(
    inner: NonNullable<BlockDevice['writeZeroes']>,
    offset: number,
    length: number,
    options?: AbortOptions,
  ): Promise<void> {
    const cover = this.cover(offset, length);
    this.checkWrite(options);
    const { sectorSize } = this[underlyingDevice];
    const { firstWhole, wholeCount } = splitSpan(offset, length, sectorSize);
    await this.#locked(cover, async () => {
      for (const { unit, start, length: bytes } of cover.partial) {
        const at = unit * sectorSize + start;
        await this.#writeCover(this.cover(at, bytes), at, new Uint8Array(bytes), bytes, options);
      }
      if (wholeCount > 0) await inner(firstWhole * sectorSize, wholeCount * sectorSize, options);
    });
  }

  async *#extents(
    inner: NonNullable<BlockDevice['extents']>,
    offset: number,
    length: number,
    options?: AbortOptions,
  ): AsyncGenerator<Extent> {
    const cover = this.cover(offset, length);
    abortOptionsArgument(options);
    if (cover.length === 0) return;
    const end = offset + length;
    for await (const extent of inner(cover.offset, cover.length, options)) {
      const from = Math.max(extent.offset, offset);
      const to = Math.min(extent.offset + extent.length, end);
      if (to > from) yield { kind: extent.kind, offset: from, length: to - from };
    }
  }
}

class SyncByteDevice extends ByteDevice<SyncBlockDevice> implements SyncBlockDevice {
  readSync(offset: number, into: Uint8Array): void {
    const cover = this.coverOf('into', offset, into);
    if (cover.length === 0) return;
    if (cover.partial.length === 0) {
      this[underlyingDevice].readSync(offset, into);
      return;
    }
    const sectors = new Uint8Array(cover.length);
    this[underlyingDevice].readSync(cover.offset, sectors);
    into.set(sectors.subarray(offset - cover.offset, offset - cover.offset + into.length));
  }

  writeSync(offset: number, from: Uint8Array): void {
    const device = this[underlyingDevice];
    const cover = this.coverOf('from', offset, from);
    this.checkWrite(undefined);
    if (cover.length === 0) return;
    if (this.locks.isHeld(...this.sectors(cover))) {
      throw new BackupError('WRITES_IN_FLIGHT', 'an asynchronous write to the same sectors is in flight', {
        retryable: true,
      });
    }
    if (cover.partial.length === 0) {
      device.writeSync(offset, from);
      return;
    }
    const sectors = new Uint8Array(cover.length);
    for (const { unit } of cover.partial) {
      const at = unit * device.sectorSize - cover.offset;
      device.readSync(unit * device.sectorSize, sectors.subarray(at, at + device.sectorSize));
    }
    sectors.set(from, offset - cover.offset);
    device.writeSync(cover.offset, sectors);
  }

  flushSync(): void {
    this.cover(0, 0);
    this[underlyingDevice].flushSync();
  }
}

interface Holder {
  readonly first: number;
  readonly last: number;
  readonly released: Promise<void>;
}

/** Locks for ranges of sectors. Overlapping ranges are locked in the order of the requests. */
class SpanLock {
  readonly #holders: Holder[] = [];

  /** Whether any sector from `first` to `last` is locked or waited for. */
  isHeld(first: number, last: number): boolean {
    return this.#holders.some((holder) => holder.first <= last && first <= holder.last);
  }

  /** Locks the sectors from `first` to `last`, after all earlier requests for any of them. @returns releases the lock */
  async acquire(first: number, last: number): Promise<() => void> {
    const before = this.#holders.filter((holder) => holder.first <= last && first <= holder.last);
    const { promise, resolve } = Promise.withResolvers<void>();
    const mine: Holder = { first, last, released: promise };
    this.#holders.push(mine);
    await Promise.all(before.map((holder) => holder.released));
    return () => {
      this.#holders.splice(this.#holders.indexOf(mine), 1);
      resolve();
    };
  }
}
