import type { AbortOptions } from '../common/abort.ts';
import { integerArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import type { SyncAccess, SyncBlockDevice } from './block-device.ts';
import { SETTLED } from './settled.ts';
import { checkSpan } from './span.ts';

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
    this.sectorSize = integerArgument('sectorSize', store.sectorSize, 1);
    this.size = integerArgument('size', store.size, 0);
    if (this.size % this.sectorSize !== 0) throw new TypeError('the size must be whole sectors');
    this.#store = store;
  }

  read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void> {
    try {
      options?.signal?.throwIfAborted();
      this.readSync(offset, into);
      return SETTLED;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void> {
    try {
      options?.signal?.throwIfAborted();
      this.writeSync(offset, from);
      return SETTLED;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async flush(options?: AbortOptions): Promise<void> {
    options?.signal?.throwIfAborted();
    this.flushSync();
  }

  readSync(offset: number, into: Uint8Array): void {
    this.#check(offset, into.length);
    this.#store.readSync(offset, into);
  }

  writeSync(offset: number, from: Uint8Array): void {
    this.#check(offset, from.length);
    this.#store.writeSync(offset, from);
  }

  flushSync(): void {
    this.#check(0, 0);
    this.#store.flushSync();
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #check(offset: number, length: number): void {
    if (this.#closed) throw new BackupError('CLOSED', 'the device is closed');
    checkSpan(this, offset, length);
  }
}
