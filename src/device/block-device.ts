import type { AbortOptions } from '../common/abort.ts';
import type { ByteRange } from '../common/byte-range.ts';

/** A run of a device's bytes and whether it is known to read as zeroes. @public */
export interface Extent extends ByteRange {
  /** `zero`: surely reads as zeroes. `data`: may hold anything. */
  readonly kind: 'data' | 'zero';
}

/**
 * Bytes addressed by offset. Whoever wraps a store of their own implements this; its obligations:
 *
 * - **Alignment.** Every offset and length is a multiple of `sectorSize`, else `MISALIGNED`; every range lies
 *   within `size`, else `OUT_OF_RANGE`. A length of zero is allowed and does nothing. A call refused for its
 *   arguments has done nothing.
 * - **Whole transfers.** `read` fills all of `into`, `write` takes all of `from`, or the call rejects. A write
 *   that rejected may have changed any part of its range and nothing outside it.
 * - **Order.** Calls may overlap, and overlapping calls on the same sectors end in any order. A read that begins
 *   after a write has resolved sees it.
 * - **Buffers.** A call does not settle while it may still touch its buffer, also when it is aborted. The caller
 *   leaves the buffer alone until then; the device keeps no reference to it afterwards.
 * - **Durability.** `flush` resolves when every write, discard and write-zeroes that had resolved before it was
 *   called would survive a loss of power.
 * - **Discard** leaves the range with any content; what follows it reads the same until written again.
 *   **Write-zeroes** leaves zeroes. Both are writes in every other respect.
 * - **Extents** cover exactly the range asked for, ascending and without gaps.
 * - **Aborting** is allowed to be late. A call that has not begun rejects with `signal.reason`.
 * - **Errors** are `BackupError`s, with the cause kept.
 *
 * A device whose calls are done before they return may answer with one promise that is resolved already; see
 * `syncDevice`, which does so for a synchronous store.
 *
 * `deviceConformance` in `cow-cloud-backup/testing` checks a device against this list.
 *
 * @public
 */
export interface BlockDevice extends AsyncDisposable {
  /** Bytes; a multiple of `sectorSize`. Does not change while the device is open. */
  readonly size: number;
  /** The smallest unit of I/O in bytes: 1, 512, 4096 ... */
  readonly sectorSize: number;
  /** Whether every write is refused with `READ_ONLY`. */
  readonly readOnly?: boolean | undefined;
  /** The most bytes that one call takes, a multiple of `sectorSize`. Absent: any number. */
  readonly maxTransferBytes?: number | undefined;
  /** Fills `into` with the bytes from `offset` on. */
  read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void>;
  /** Writes all of `from` at `offset`. */
  write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void>;
  /** Makes earlier writes durable. */
  flush(options?: AbortOptions): Promise<void>;
  /** Says that the content of a range is no longer needed. */
  discard?(offset: number, length: number, options?: AbortOptions): Promise<void>;
  /** Makes a range read as zeroes. */
  writeZeroes?(offset: number, length: number, options?: AbortOptions): Promise<void>;
  /** Which parts of a range are known to be zeroes without reading them. */
  extents?(offset: number, length: number, options?: AbortOptions): AsyncIterable<Extent>;
}

/**
 * A store's synchronous door. The same obligations as {@link BlockDevice}; the calls throw what the others reject with.
 *
 * @public
 */
export interface SyncAccess {
  readSync(offset: number, into: Uint8Array): void;
  writeSync(offset: number, from: Uint8Array): void;
  flushSync(): void;
}

/** A device with both doors. Both may be in use at once. @public */
export type SyncBlockDevice = BlockDevice & SyncAccess;

/** Whether `device` has a synchronous door too. */
export function hasSyncDoor(device: BlockDevice): device is SyncBlockDevice {
  const door = device as Partial<SyncAccess>;
  return (
    typeof door.readSync === 'function' && typeof door.writeSync === 'function' && typeof door.flushSync === 'function'
  );
}
