import { type AbortOptions, abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { BlockDevice, Extent } from '../../device/block-device.ts';
import { checkSpan } from '../../device/span.ts';
import type { BlockMap, MappedBlock } from '../map/block-map.ts';
import type { RecordSource } from '../records/stored-records.ts';
import { fetchBlocks } from './block-fetcher.ts';

/** How an image is read. */
export interface ImageOptions {
  /** Content kept for being read again, in bytes. */
  readonly cacheBytes: number;
  /** Read lost blocks as zeroes instead of `BLOCK_LOST`. */
  readonly allowLost: boolean;
}

/** Blocks fetched beyond what was asked for when reads follow one another. */
const READ_AHEAD_BLOCKS = 32;

/**
 * A backup as a read-only device: blocks are fetched as they are read, neighbours together, and ahead when reads follow
 * one another. Reads of the same block at the same time share its fetch.
 */
export class BackupImage implements BlockDevice {
  readonly size: number;
  readonly sectorSize = 1;
  readonly readOnly = true;
  readonly #map: BlockMap;
  readonly #source: RecordSource;
  readonly #options: ImageOptions;
  /** Content by block, the least recently read first; pending ones among them. */
  readonly #cache = new Map<number, Promise<Uint8Array | undefined>>();
  readonly #maxCached: number;
  #nextExpected = 0;
  #isClosed = false;

  constructor(map: BlockMap, source: RecordSource, options: ImageOptions) {
    this.#map = map;
    this.#source = source;
    this.#options = options;
    this.size = map.descriptor.size;
    this.#maxCached = Math.max(1, Math.floor(options.cacheBytes / map.descriptor.blockSize));
  }

  /** @throws `BLOCK_LOST`, `PACK_MISSING`, `RECORD_CORRUPT`, `MAP_CORRUPT`, `CLOSED`, and what the target gives */
  async read(offset: number, into: Uint8Array, options: AbortOptions = {}): Promise<void> {
    options.signal?.throwIfAborted();
    this.#check(offset, into.length);
    if (into.length === 0) return;
    const { blockSize } = this.#map.descriptor;
    const first = Math.floor(offset / blockSize);
    const last = Math.floor((offset + into.length - 1) / blockSize);
    const contents = await this.#load(first, last - first + 1, options.signal);
    for (let block = first; block <= last; block++) {
      const bytes = await abortable(contents[block - first] as Promise<Uint8Array | undefined>, options.signal);
      const from = Math.max(offset, block * blockSize);
      const to = Math.min(offset + into.length, (block + 1) * blockSize);
      const part = into.subarray(from - offset, to - offset);
      if (bytes === undefined) part.fill(0);
      else part.set(bytes.subarray(from - block * blockSize, to - block * blockSize));
    }
  }

  /** Always rejects with `READ_ONLY`. */
  async write(): Promise<void> {
    throw new BackupError('READ_ONLY', 'a backup can not be written');
  }

  async flush(options: AbortOptions = {}): Promise<void> {
    options.signal?.throwIfAborted();
    this.#check(0, 0);
  }

  /** By the block map alone; nothing is fetched but its nodes. */
  async *extents(offset: number, length: number, options: AbortOptions = {}): AsyncGenerator<Extent> {
    this.#check(offset, length);
    const { blockSize } = this.#map.descriptor;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const first = Math.floor(at / blockSize);
      const count = Math.min(Math.ceil(end / blockSize) - first, 1024);
      const { entries, lost } = await this.#map.lookup(first, count, { signal: options.signal });
      for (let index = 0; index < count; ) {
        const isData = (i: number) =>
          entries[i] !== undefined ||
          lost.some(({ firstBlock, blockCount }) => first + i >= firstBlock && first + i < firstBlock + blockCount);
        const data = isData(index);
        let next = index + 1;
        while (next < count && isData(next) === data) next++;
        const to = Math.min(end, (first + next) * blockSize);
        yield { offset: at, length: to - at, kind: data ? 'data' : 'zero' };
        at = to;
        index = next;
      }
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cache.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A promise of each block's content, `undefined` for zeroes. */
  async #load(first: number, count: number, signal?: AbortSignal): Promise<Promise<Uint8Array | undefined>[]> {
    const blockCount = Math.ceil(this.size / this.#map.descriptor.blockSize);
    const follows = first === this.#nextExpected;
    this.#nextExpected = first + count;
    const ahead = follows ? Math.min(READ_AHEAD_BLOCKS, this.#maxCached, blockCount - first - count) : 0;
    const wantedEnd = first + count + ahead;
    const missing: number[] = [];
    for (let block = first; block < wantedEnd; block++) if (!this.#cache.has(block)) missing.push(block);
    if (missing.some((block) => block < first + count)) await this.#fetch(missing, signal);
    const contents: Promise<Uint8Array | undefined>[] = [];
    for (let block = first; block < first + count; block++) {
      const content = this.#cache.get(block) ?? Promise.reject(new BackupError('CLOSED', 'the image is closed'));
      content.catch(() => {});
      this.#cache.delete(block); // To the end: the most recently read.
      this.#cache.set(block, content);
      contents.push(content);
    }
    this.#evict(count);
    return contents;
  }

  async #fetch(blocks: readonly number[], signal?: AbortSignal): Promise<void> {
    const first = blocks[0] as number;
    const count = (blocks.at(-1) as number) - first + 1;
    const { entries } = await this.#map.lookup(first, count, { signal });
    const waiting = new Map<number, PromiseWithResolvers<Uint8Array | undefined>>();
    const wanted: MappedBlock[] = [];
    for (const block of blocks) {
      if (this.#cache.has(block)) continue; // Another read was faster.
      const content = Promise.withResolvers<Uint8Array | undefined>();
      content.promise.catch(() => {});
      this.#cache.set(block, content.promise);
      const entry = entries[block - first];
      if (entry !== undefined) {
        wanted.push({ block, entry });
        waiting.set(block, content);
      } else if (this.#map.isLost(block) && !this.#options.allowLost) {
        content.reject(new BackupError('BLOCK_LOST', `block ${block} could not be kept when the backup was made`));
      } else {
        content.resolve(undefined);
      }
    }
    const deliver = (block: number, bytes: Uint8Array) => {
      waiting.get(block)?.resolve(bytes.slice());
      waiting.delete(block);
    };
    // Others may be waiting for these by now, so one reader's abort does not end the fetch; it ends that reader's wait.
    fetchBlocks(this.#source, wanted, deliver, { fetchedBytes: 0, requests: 0 }).catch((error: unknown) => {
      for (const [block, content] of waiting) {
        this.#cache.delete(block); // The next read tries again.
        content.reject(error);
      }
    });
  }

  #evict(inUse: number): void {
    const most = Math.max(this.#maxCached, inUse);
    for (const block of this.#cache.keys()) {
      if (this.#cache.size <= most) return;
      this.#cache.delete(block);
    }
  }

  #check(offset: number, length: number): void {
    if (this.#isClosed) throw new BackupError('CLOSED', 'the image is closed');
    checkSpan(this, offset, length);
  }
}
