import { integerArgument } from '../common/arguments.ts';
import type { SyncBlockDevice } from './block-device.ts';
import { objectWith } from './door.ts';
import { checkSpan } from './span.ts';
import { type SyncStore, SyncStoreDevice } from './sync-store-device.ts';

/**
 * A device over a store that has only a synchronous API: an SQLite VFS, an emulator's disk.
 *
 * The store sees whole sectors within its size only. What it throws is what the device's calls reject with.
 *
 * @public
 */
export function syncDevice(store: SyncStore): SyncBlockDevice {
  return new SyncStoreDevice(store);
}

/** A host's store of numbered pages. @public */
export interface PageStore {
  /** Bytes. */
  readonly pageSize: number;
  readonly pageCount: number;
  /** Fills `into`, which is one page long. */
  readPage(page: number, into: Uint8Array): void;
  /** Takes `from`, which is one page long. */
  writePage(page: number, from: Uint8Array): void;
  /** Makes earlier writes durable. */
  sync(): void;
}

/**
 * A device over a store of numbered pages; its sector is the page. Wrap it in `byteDevice` for I/O of any alignment.
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
