import { type AbortOptions, abortOptionsArgument } from '../../common/abort.ts';
import { bytesArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { Extent } from '../../device/block-device.ts';
import { checkSpan } from '../../device/span.ts';
import type { BlockSource } from './backup-reader.ts';
import { ImageBlocks, type ImageBlocksOptions, type WantedBlocks } from './image-blocks.ts';
import type { OpenedBackup } from './restore-options.ts';

export interface ImageOptions extends ImageBlocksOptions {
  /** Called once, when the image is closed. */
  readonly onClose?: (() => void) | undefined;
}

/** A long read keeps one window of this size in memory, while the next one is being fetched. */
const WINDOW_BYTES = 8 * 1024 * 1024;
/** Most bytes that are read ahead of one reader. */
const MAX_AHEAD_BYTES = 4 * 1024 * 1024;
const EXTENT_BLOCKS = 1024;

/**
 * A committed backup as a read-only device. Blocks are fetched when they are read, neighbours together, and ahead of sequential
 * reads. Concurrent reads of a block share one fetch, and a block that can't be read fails only the reads that need it.
 */
export class BackupImage implements OpenedBackup {
  readonly size: number;
  readonly sectorSize = 1;
  readonly readOnly = true;
  readonly #source: BlockSource;
  readonly #blocks: ImageBlocks;
  readonly #streams: ReadStreams;
  readonly #onClose: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(source: BlockSource, options: ImageOptions) {
    const { size, blockSize } = source;
    this.size = size;
    this.#source = source;
    this.#blocks = new ImageBlocks(source, options);
    // Blocks that were read ahead for two readers have to fit in the cache until they are read.
    const mostAhead = Math.floor(Math.min(MAX_AHEAD_BYTES, options.cacheBytes / 4) / blockSize);
    this.#streams = new ReadStreams(Math.ceil(size / blockSize), mostAhead);
    this.#onClose = options.onClose;
  }

  /** @throws `BLOCK_LOST`, `BACKUP_FORGOTTEN`, `PACK_MISSING`, `RECORD_CORRUPT`, `MAP_CORRUPT`, `CLOSED`, and what the target throws */
  async read(offset: number, into: Uint8Array, options: AbortOptions = {}): Promise<void> {
    abortOptionsArgument(options);
    this.#check(offset, bytesArgument('into', into).length);
    const { blockSize } = this.#source;
    const end = offset + into.length;
    const windowBlocks = Math.max(1, Math.floor(WINDOW_BYTES / blockSize));
    const endBlock = Math.ceil(end / blockSize);
    const wanted: { readonly first: number; readonly blocks: WantedBlocks }[] = [];
    let next = Math.floor(offset / blockSize);
    const wantMore = () => {
      if (next >= endBlock || into.length === 0) return;
      const count = Math.min(windowBlocks, endBlock - next);
      wanted.push({ first: next, blocks: this.#blocks.want(next, count) });
      next += count;
      if (next < endBlock) return;
      const first = Math.floor(offset / blockSize);
      const ahead = this.#streams.follow(first, endBlock - first, this.#blocks.mayReadAhead);
      if (ahead !== undefined) this.#blocks.readAhead(ahead.first, ahead.count);
    };
    wantMore();
    try {
      for (let window = wanted[0]; window !== undefined; window = wanted[0]) {
        wantMore(); // The next window is fetched while this one is waited for.
        let block = window.first;
        for await (const bytes of window.blocks.contents(options)) {
          const from = Math.max(offset, block * blockSize);
          const to = Math.min(end, (block + 1) * blockSize);
          const part = into.subarray(from - offset, to - offset);
          if (bytes === undefined) part.fill(0);
          else part.set(bytes.subarray(from - block * blockSize, to - block * blockSize));
          block++;
        }
        window.blocks.release();
        wanted.shift();
      }
    } finally {
      for (const { blocks } of wanted) blocks.release();
    }
  }

  /** Always rejects with `READ_ONLY`. */
  async write(): Promise<void> {
    throw new BackupError('READ_ONLY', 'the image of a backup is read-only: restore it to a device to change it');
  }

  async flush(options: AbortOptions = {}): Promise<void> {
    abortOptionsArgument(options);
    this.#check(0, 0);
  }

  /** Extents come from the map alone, so no content is fetched. Lost blocks are data. */
  async *extents(offset: number, length: number, options: AbortOptions = {}): AsyncGenerator<Extent> {
    abortOptionsArgument(options);
    this.#check(offset, length);
    const { blockSize } = this.#source;
    const end = offset + length;
    let extent: { offset: number; length: number; kind: Extent['kind'] } | undefined;
    for (let at = offset; at < end; ) {
      await yieldToEventLoop(); // With all nodes in memory, millions of blocks would be one step.
      this.#check(0, 0);
      const first = Math.floor(at / blockSize);
      const count = Math.min(Math.ceil(end / blockSize) - first, EXTENT_BLOCKS);
      for (const content of await this.#source.lookup(first, count, options)) {
        const to = Math.min(end, (Math.floor(at / blockSize) + 1) * blockSize);
        const kind = content === 'zero' ? 'zero' : 'data';
        if (extent?.kind === kind) extent.length += to - at;
        else {
          if (extent !== undefined) yield extent;
          extent = { offset: at, length: to - at, kind };
        }
        at = to;
      }
    }
    if (extent !== undefined) yield extent;
  }

  /** Ends the fetches that are under way: reads that wait for them reject with `CLOSED`. Idempotent. */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      this.#closing = this.#blocks.close();
      this.#onClose?.();
    }
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #check(offset: number, length: number): void {
    if (this.#closing !== undefined) throw new BackupError('CLOSED', 'the image is closed');
    checkSpan(this, offset, length);
  }
}

/** Most readers that are followed. */
const MAX_STREAMS = 8;
/** Most blocks by which reads of one reader may overtake each other. */
const SLACK_BLOCKS = 16;
/** Blocks that are read ahead at first; each time that they are then read, twice as many. */
const FIRST_AHEAD_BLOCKS = 4;

interface Stream {
  /** The block after the last one that was read. */
  next: number;
  /** The block after the last one that was read ahead. */
  aheadEnd: number;
  aheadBlocks: number;
}

/** Finds sequential reads, of several readers at once, and decides what to read ahead for them. */
export class ReadStreams {
  readonly #blockCount: number;
  readonly #mostAhead: number;
  /** The most recently used stream is the last one. */
  readonly #streams: Stream[] = [];

  /** @param mostAhead - most blocks to read ahead of one reader; 0 reads none ahead */
  constructor(blockCount: number, mostAhead: number) {
    this.#blockCount = blockCount;
    this.#mostAhead = mostAhead;
  }

  /**
   * Notes that blocks are being read.
   *
   * @param mayReadAhead - if it is false, nothing is read ahead before the next read
   * @returns the blocks to read ahead now, if there are any
   */
  follow(
    first: number,
    count: number,
    mayReadAhead = true,
  ): { readonly first: number; readonly count: number } | undefined {
    if (this.#mostAhead === 0) return undefined;
    const end = first + count;
    const at = this.#streams.findIndex(
      ({ next, aheadEnd }) => first >= next - SLACK_BLOCKS && first <= Math.max(next, aheadEnd),
    );
    if (at < 0) {
      this.#streams.push({ next: end, aheadEnd: end, aheadBlocks: FIRST_AHEAD_BLOCKS });
      if (this.#streams.length > MAX_STREAMS) this.#streams.shift();
      return undefined;
    }
    const [stream] = this.#streams.splice(at, 1) as [Stream];
    this.#streams.push(stream);
    if (end <= stream.next) return undefined; // The same block again, or one that was overtaken.
    stream.next = end;
    stream.aheadEnd = Math.max(stream.aheadEnd, end);
    const ahead = Math.min(stream.aheadBlocks, this.#mostAhead);
    // Half of it at a time: one block at a time would be one request for each block.
    if (!mayReadAhead || stream.aheadEnd - end > ahead / 2) return undefined;
    const wanted = { first: stream.aheadEnd, count: Math.min(end + ahead, this.#blockCount) - stream.aheadEnd };
    if (wanted.count <= 0) return undefined;
    stream.aheadEnd += wanted.count;
    stream.aheadBlocks = Math.min(stream.aheadBlocks * 2, this.#mostAhead);
    return wanted;
  }
}
