import type { AbortOptions } from '../common/abort.ts';
import { integerArgument } from '../common/arguments.ts';
import { checkSpan } from './span.ts';
import { SyncStoreDevice } from './sync-store-device.ts';

/** Options of {@link MemoryDevice}. @public */
export interface MemoryDeviceOptions {
  /** Bytes. @defaultValue 1 */
  sectorSize?: number | undefined;
}

/**
 * A device in memory: for tests, RAM disks and images that fit.
 *
 * @public
 */
export class MemoryDevice extends SyncStoreDevice {
  /** The content itself: a view of what the constructor was given, or memory of its own. */
  readonly bytes: Uint8Array;

  /** @param sizeOrBytes - a size in bytes, or the memory to use in place (its length is the device's size) */
  constructor(sizeOrBytes: number | ArrayBufferLike | Uint8Array, options: MemoryDeviceOptions = {}) {
    if (typeof sizeOrBytes === 'number') integerArgument('size', sizeOrBytes, 0);
    // An ArrayBuffer or a SharedArrayBuffer is viewed in place by the same constructor that takes a size.
    const bytes = sizeOrBytes instanceof Uint8Array ? sizeOrBytes : new Uint8Array(sizeOrBytes as ArrayBuffer);
    super({
      size: bytes.length,
      sectorSize: options.sectorSize ?? 1,
      readSync: (offset, into) => into.set(bytes.subarray(offset, offset + into.length)),
      writeSync: (offset, from) => bytes.set(from, offset),
      flushSync: () => {},
    });
    this.bytes = bytes;
  }

  discard(offset: number, length: number, options?: AbortOptions): Promise<void> {
    return this.writeZeroes(offset, length, options);
  }

  async writeZeroes(offset: number, length: number, options?: AbortOptions): Promise<void> {
    options?.signal?.throwIfAborted();
    this.flushSync(); // Refuses when closed.
    checkSpan(this, offset, length);
    this.bytes.fill(0, offset, offset + length);
  }
}
