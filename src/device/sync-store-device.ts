import type { AbortOptions } from '../common/abort.ts';
import { abortOptionsArgument, integerArgument } from '../common/arguments.ts';
import type { SyncAccess, SyncBlockDevice } from './block-device.ts';
import { checkTransfer, closedError, objectWith } from './door.ts';
import { SETTLED } from './settled.ts';

/** A host's store that reads and writes bytes synchronously. @public */
export interface SyncStore extends SyncAccess {
  /** Bytes. */
  readonly size: number;
  /** Bytes. */
  readonly sectorSize: number;
}

/**
 * A device over a store that has only a synchronous API: every call is done before it returns. Made by `syncDevice`.
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
      return SETTLED;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void> {
    try {
      abortOptionsArgument(options);
      this.writeSync(offset, from);
      return SETTLED;
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
