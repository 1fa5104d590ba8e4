import { type AbortOptions, abortOptionsArgument } from '../common/abort.ts';
import { bytesArgument, described, integerArgument, optionsArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import { checkSpan } from './span.ts';
import { SyncStoreDevice } from './sync-device.ts';

/** Options of {@link MemoryDevice}. @public */
export interface MemoryDeviceOptions {
  /** The smallest unit of I/O, in bytes. @defaultValue 1 */
  sectorSize?: number | undefined;
}

/**
 * A device in memory: for tests, RAM disks and images that fit.
 *
 * @example
 * ```ts
 * const device = new MemoryDevice(1024 * 1024, { sectorSize: 512 });
 * await device.write(512, new Uint8Array(512).fill(7));
 * console.log(device.bytes[512]); // 7: `bytes` is the content itself.
 *
 * const copy = new MemoryDevice(device.bytes.slice()); // A device over memory that you have.
 * console.log(copy.size);
 * ```
 *
 * @public
 */
export class MemoryDevice extends SyncStoreDevice {
  /** The content: a view of the memory that the constructor was given, or memory of its own. */
  readonly bytes: Uint8Array;

  /** @param sizeOrBytes - a size in bytes, or the memory to use in place (its length is the device's size) */
  constructor(sizeOrBytes: number | ArrayBufferLike | Uint8Array, options: MemoryDeviceOptions = {}) {
    const { sectorSize = 1 } = optionsArgument('options', options, { sectorSize: true });
    const bytes = memoryOf(sizeOrBytes);
    const size = bytes.length;
    super({
      size,
      sectorSize,
      readSync: (offset, into) => into.set(whole(bytes, size).subarray(offset, offset + into.length)),
      writeSync: (offset, from) => whole(bytes, size).set(from, offset),
      flushSync: () => {},
    });
    this.bytes = bytes;
  }

  discard(offset: number, length: number, options?: AbortOptions): Promise<void> {
    return this.writeZeroes(offset, length, options);
  }

  async writeZeroes(offset: number, length: number, options?: AbortOptions): Promise<void> {
    abortOptionsArgument(options);
    this.flushSync(); // Throws if the device is closed.
    checkSpan(this, offset, length);
    whole(this.bytes, this.size).fill(0, offset, offset + length);
  }
}

function memoryOf(sizeOrBytes: unknown): Uint8Array {
  if (typeof sizeOrBytes === 'number') return memoryOfSize(integerArgument('sizeOrBytes', sizeOrBytes, 0));
  const tag = Object.prototype.toString.call(sizeOrBytes);
  if (tag === '[object ArrayBuffer]' || tag === '[object SharedArrayBuffer]') {
    return bytesArgument('sizeOrBytes', new Uint8Array(sizeOrBytes as ArrayBuffer));
  }
  if (tag === '[object Uint8Array]') return bytesArgument('sizeOrBytes', sizeOrBytes);
  const wanted = 'a size in bytes, an ArrayBuffer, a SharedArrayBuffer or a Uint8Array';
  throw new TypeError(`sizeOrBytes must be ${wanted}, not ${described(sizeOrBytes)}`);
}

function memoryOfSize(size: number): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch (cause) {
    throw new BackupError('LIMIT_EXCEEDED', `this system can't allocate ${size} bytes of memory at once`, { cause });
  }
}

/** Returns `bytes`, or throws if the host has detached the memory or made it smaller. */
function whole(bytes: Uint8Array, size: number): Uint8Array {
  if (bytes.length >= size) return bytes;
  throw new BackupError('DEVICE_IO', `this device's memory had ${size} bytes and has only ${bytes.length} now`);
}
