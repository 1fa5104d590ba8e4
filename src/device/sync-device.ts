import { type AbortOptions, abortOptionsArgument } from '../common/abort.ts';
import { integerArgument } from '../common/arguments.ts';
import { COMPLETED, type SyncAccess, type SyncBlockDevice } from './block-device.ts';
import { checkTransfer, closedError, objectWith } from './door.ts';
import { checkSpan } from './span.ts';

/**
 * Makes a device over a store that has only a synchronous API, such as an SQLite VFS or the disk of an emulator.
 *
 * The store only gets calls for whole sectors within its size. The device's calls reject with the errors that the store throws.
 *
 * @example
 * ```ts
 * const memory = new Uint8Array(1024 * 1024); // Your store, which reads and writes synchronously.
 * const device = syncDevice({
 *   size: memory.length,
 *   sectorSize: 512,
 *   readSync: (offset, into) => into.set(memory.subarray(offset, offset + into.length)),
 *   writeSync: (offset, from) => memory.set(from, offset),
 *   flushSync: () => {},
 * });
 * await using volume = await CopyOnWriteVolume.open(device);
 * ```
 *
 * @public
 */
export function syncDevice(store: SyncStore): SyncBlockDevice {
  return new SyncStoreDevice(store);
}

/** A host's store of numbered pages. @public */
export interface PageStore {
  /** The size of a page in bytes. */
  readonly pageSize: number;
  readonly pageCount: number;
  /** Fills `into`, which is one page long. */
  readPage(page: number, into: Uint8Array): void;
  /** Writes `from`, which is one page long. */
  writePage(page: number, from: Uint8Array): void;
  /** Makes earlier writes durable. */
  sync(): void;
}

/**
 * Makes a device over a store of numbered pages. Its sector is the page; wrap it in `byteDevice` for I/O of any alignment.
 *
 * @public
 */
export function pageDevice(store: PageStore): SyncBlockDevice {
  objectWith('store', 'a PageStore', store, ['readPage', 'writePage', 'sync']);
  const pageSize = integerArgument('store.pageSize', store.pageSize, 1);
  const size = integerArgument(
    'store.pageSize * store.pageCount',
    pageSize * integerArgument('store.pageCount', store.pageCount, 0),
    0,
  );
  const bounds = { size, sectorSize: pageSize };
  const eachPage = (offset: number, buffer: Uint8Array, visit: (page: number, part: Uint8Array) => void) => {
    checkSpan(bounds, offset, buffer.length);
    for (let at = 0; at < buffer.length; at += pageSize) {
      visit((offset + at) / pageSize, buffer.subarray(at, at + pageSize));
    }
  };
  return syncDevice({
    ...bounds,
    readSync: (offset, into) => eachPage(offset, into, (page, part) => store.readPage(page, part)),
    writeSync: (offset, from) => eachPage(offset, from, (page, part) => store.writePage(page, part)),
    flushSync: () => store.sync(),
  });
}

/** A host's store that reads and writes bytes synchronously. @public */
export interface SyncStore extends SyncAccess {
  /** The size in bytes. */
  readonly size: number;
  /** The smallest unit of I/O, in bytes. */
  readonly sectorSize: number;
}

/**
 * The device that `syncDevice` makes. Every call is complete before it returns.
 *
 * @public
 */
export class SyncStoreDevice implements SyncBlockDevice {
  readonly size: number;
  readonly sectorSize: number;
  readonly #store: SyncStore;
  #closed = false;

  constructor(store: SyncStore) {
    objectWith('store', 'a SyncStore', store, ['readSync', 'writeSync', 'flushSync']);
    this.sectorSize = integerArgument('store.sectorSize', store.sectorSize, 1);
    this.size = integerArgument('store.size', store.size, 0);
    if (this.size % this.sectorSize !== 0) throw new TypeError('store.size must be whole sectors');
    this.#store = store;
  }

  read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void> {
    try {
      abortOptionsArgument(options);
      this.readSync(offset, into);
      return COMPLETED;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void> {
    try {
      abortOptionsArgument(options);
      this.writeSync(offset, from);
      return COMPLETED;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async flush(options?: AbortOptions): Promise<void> {
    abortOptionsArgument(options);
    this.flushSync();
  }

  readSync(offset: number, into: Uint8Array): void {
    this.#requireOpen();
    checkTransfer(this, 'into', offset, into);
    this.#store.readSync(offset, into);
  }

  writeSync(offset: number, from: Uint8Array): void {
    this.#requireOpen();
    checkTransfer(this, 'from', offset, from);
    this.#store.writeSync(offset, from);
  }

  flushSync(): void {
    this.#requireOpen();
    this.#store.flushSync();
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #requireOpen(): void {
    if (this.#closed) throw closedError('the device');
  }
}
