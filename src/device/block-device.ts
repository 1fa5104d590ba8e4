import type { AbortOptions } from '../common/abort.ts';
import type { ByteRange } from '../common/byte-range.ts';

/**
 * The contract of block devices. This folder holds the contract, devices over a file, memory or a host's synchronous store, and
 * devices that wrap another one: a part of it, or access of any alignment.
 */

/** A range of a device's bytes, and whether it is known to read as zeroes. @public */
export interface Extent extends ByteRange {
  /** `zero`: the range certainly reads as zeroes. `data`: it may hold anything. */
  readonly kind: 'data' | 'zero';
}

/** What tells a device from others, and from itself at an earlier or later time. @public */
export interface DeviceStamp {
  /** Stays the same as long as it is the same device. A copy has another one. Of a file: inode and time of creation. */
  readonly identity: string;
  /** When the content last changed, in milliseconds since 1970 by the clock of this host. */
  readonly version: number;
}

/**
 * Bytes that are addressed by offset. A host implements this interface to back up a store of its own. Its obligations:
 *
 * - **Alignment.** Every offset and length is a multiple of `sectorSize`, else the call rejects with `MISALIGNED`. Every range lies
 *   within `size`, else it rejects with `OUT_OF_RANGE`. A length of zero is allowed and does nothing. A call that is refused for its
 *   arguments has no effect.
 * - **Whole transfers.** `read` fills all of `into`, `write` writes all of `from`, or the call rejects. A write that rejected may have
 *   changed any part of its range and nothing outside it.
 * - **Order.** Calls may overlap, and overlapping calls on the same sectors end in any order. A read that begins after a write has
 *   resolved sees it.
 * - **Buffers.** A call does not settle while it may still access its buffer, even if it is aborted. The caller does not change the
 *   buffer until then. The device keeps no reference to it afterwards.
 * - **Durability.** `flush` resolves when every write, discard and write-zeroes that had resolved before it was called would survive a
 *   loss of power.
 * - **Discard** leaves the range with any content, which then stays the same until it is written again. **Write-zeroes** leaves
 *   zeroes. Both are writes in every other respect.
 * - **Extents** cover exactly the requested range, ascending and without gaps.
 * - **A stamp** has the same identity as long as it is the same device, which no copy of it has, and a later version once it was
 *   written later. If the clock behind it is coarse, the stamp resolves only when a later write would have a later version.
 * - **Aborting** may be late. A call that has not begun rejects with `signal.reason`.
 * - **Errors** are `BackupError`s that keep their cause.
 *
 * A device whose calls are complete before they return may always return the same resolved promise. `syncDevice` does so for a
 * synchronous store.
 *
 * `deviceConformance` in `cow-cloud-backup/testing` checks a device against this list.
 *
 * @public
 */
export interface BlockDevice extends AsyncDisposable {
  /** The size in bytes, a multiple of `sectorSize`. It does not change while the device is open. */
  readonly size: number;
  /** The smallest unit of I/O in bytes: 1, 512, 4096 ... */
  readonly sectorSize: number;
  /** Whether every write is refused with `READ_ONLY`. */
  readonly readOnly?: boolean | undefined;
  /** The most bytes that one call takes, a multiple of `sectorSize`. If it is absent, there is no limit. */
  readonly maxTransferBytes?: number | undefined;
  /** Fills `into` with the bytes from `offset` on. */
  read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void>;
  /** Writes all of `from` at `offset`. */
  write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void>;
  /** Makes earlier writes durable. */
  flush(options?: AbortOptions): Promise<void>;
  /** Declares that the content of a range is no longer needed. */
  discard?(offset: number, length: number, options?: AbortOptions): Promise<void>;
  /** Makes a range read as zeroes. */
  writeZeroes?(offset: number, length: number, options?: AbortOptions): Promise<void>;
  /** Says which device it is and when it was last written, so that a state that is kept beside it is not taken for another one's. */
  stamp?(): Promise<DeviceStamp>;
  /** Lists which parts of a range are known to be zeroes without reading them. */
  extents?(offset: number, length: number, options?: AbortOptions): AsyncIterable<Extent>;
}

/**
 * The synchronous calls of a device. The obligations are those of {@link BlockDevice}; these calls throw the errors with which the
 * others reject.
 *
 * @public
 */
export interface SyncAccess {
  readSync(offset: number, into: Uint8Array): void;
  writeSync(offset: number, from: Uint8Array): void;
  flushSync(): void;
}

/** A device with synchronous and asynchronous calls. Both kinds may be in use at once. @public */
export type SyncBlockDevice = BlockDevice & SyncAccess;

/** Whether `device` has synchronous calls, too. */
export function hasSyncDoor(device: BlockDevice): device is SyncBlockDevice {
  const door = device as Partial<SyncAccess>;
  return (
    typeof door.readSync === 'function' && typeof door.writeSync === 'function' && typeof door.flushSync === 'function'
  );
}

/**
 * The promise that a device returns if a call was complete before it returned. A caller that counts the calls in flight may compare
 * by identity and save the bookkeeping, which is why a write to a volume over memory costs only a few nanoseconds more.
 */
export const COMPLETED: Promise<void> = Promise.resolve();

/**
 * The key under which a device that passes its I/O on to another device names that device. A group of volumes is frozen at one
 * instant; a volume over another volume of the group would wait for itself, and is detected by this key.
 *
 * @public
 */
export const underlyingDevice: unique symbol = Symbol.for('cow-cloud-backup.underlyingDevice') as never;

/** A device that passes its I/O on to `[underlyingDevice]`. @public */
export interface WrappingDevice {
  readonly [underlyingDevice]: BlockDevice;
}

/** `device` and all devices below it that are known, the outermost first. */
export function* deviceStack(device: BlockDevice): Generator<BlockDevice> {
  const seen = new Set<BlockDevice>();
  let next: BlockDevice | undefined = device;
  while (next !== undefined && !seen.has(next)) {
    seen.add(next);
    yield next;
    next = (next as Partial<WrappingDevice>)[underlyingDevice];
  }
}
