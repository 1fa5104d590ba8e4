import { type AbortOptions, abortable } from '../../common/abort.ts';
import { ownBytes } from '../../common/bytes.ts';
import { BackupError } from '../../common/errors.ts';
import { currentMeter, metered, type RequestMeter } from '../../targets/decorators/request-meter.ts';
import type { MappedBlock } from '../format/map-descriptor.ts';
import type { BlockContent, BlockSource } from './backup-reader.ts';
import { grouped } from './restore-windows.ts';

/** A block's content, `undefined` for zeroes. */
type Content = Uint8Array | undefined;

/** Approximate memory of a block's bookkeeping. */
const OVERHEAD_BYTES = 200;
/** Wanted blocks with up to this many others between them are looked up together, because they may need the same nodes. */
const LOOKUP_GAP_BLOCKS = 16;
const MAX_LOOKUP_BLOCKS = 1024;
/** Reading ahead uses only a few requests at a time, since blocks that a reader waits for come first. */
const AHEAD_AT_A_TIME = 4;

interface Block {
  readonly number: number;
  readonly content: PromiseWithResolvers<Content>;
  /** Bytes of memory, once the content is known. */
  bytes: number | undefined;
  /** The number of readers that wait for it. */
  waiting: number;
  /** Whether it has been settled, or has failed. */
  isOver: boolean;
}

/** A lookup or a fetch of some blocks. */
class Stage {
  readonly signal: AbortSignal;
  readonly #blocks: readonly Block[];
  readonly #abandoned = new AbortController();

  constructor(blocks: readonly Block[], closing: AbortSignal) {
    this.signal = AbortSignal.any([closing, this.#abandoned.signal]);
    this.#blocks = blocks;
  }

  /** Ends it unless a reader waits for one of its blocks. */
  abandonUnlessAwaited(): void {
    if (!this.#blocks.some(({ waiting, isOver }) => waiting > 0 && !isOver)) this.#abandoned.abort();
  }
}

/** A block that has to be fetched. */
interface Found {
  readonly block: Block;
  readonly stored: MappedBlock;
}

export interface ImageBlocksOptions {
  /** Bytes of content that are kept for later reads. Content that is being fetched comes on top. */
  readonly cacheBytes: number;
  /** Whether lost blocks read as zeroes, instead of `BLOCK_LOST`. */
  readonly allowLost: boolean;
}

/**
 * Fetches and caches the blocks of an image. Blocks that are wanted in the same turn of the event loop are looked up and
 * fetched together, and a block that several readers want is fetched once. A block that can't be read fails only its own
 * readers, and is fetched again for the next one.
 */
export class ImageBlocks {
  readonly #source: BlockSource;
  readonly #options: ImageBlocksOptions;
  /** Requests are counted for the operation that opened the image, not for the read that happens to be the first. */
  readonly #meter: RequestMeter | undefined = currentMeter();
  /** The blocks that are being fetched or kept, the least recently wanted first. */
  readonly #blocks = new Map<number, Block>();
  #keptBytes = 0;
  /** Blocks to look up in the next turn of the event loop. */
  #wanted: Block[] = [];
  #found: Found[] = [];
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  readonly #stages = new Set<Stage>();
  #readingAhead = 0;

  constructor(source: BlockSource, options: ImageBlocksOptions) {
    this.#source = source;
    this.#options = options;
  }

  /** Fetches blocks for a reader. @throws `CLOSED`: a long read may come to its next part after the image was closed */
  want(first: number, count: number): WantedBlocks {
    this.#closing.signal.throwIfAborted();
    const blocks: Block[] = [];
    for (let number = first; number < first + count; number++) {
      let block = this.#blocks.get(number);
      if (block === undefined) {
        block = this.#add(number);
        if (this.#wanted.push(block) === 1) setImmediate(() => this.#lookUpWanted());
      } else {
        this.#blocks.delete(number); // It moves to the end: the most recently wanted.
        this.#blocks.set(number, block);
      }
      block.waiting++;
      blocks.push(block);
    }
    return new WantedBlocks(blocks, () => this.#release(blocks));
  }

  /** Whether fewer than the most fetches ahead are under way. */
  get mayReadAhead(): boolean {
    return this.#readingAhead < AHEAD_AT_A_TIME;
  }

  /** Fetches blocks that no reader waits for yet. */
  readAhead(first: number, count: number): void {
    if (this.#closing.signal.aborted) return;
    const blocks: Block[] = [];
    for (let number = first; number < first + count; number++) {
      if (!this.#blocks.has(number)) blocks.push(this.#add(number));
    }
    if (blocks.length === 0) return;
    this.#readingAhead++;
    this.#inBackground(async () => {
      try {
        // Two turns later, so that blocks that readers wait for are fetched first.
        await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
        const found = await this.#lookUp(blocks);
        await this.#fetch(found);
      } finally {
        this.#readingAhead--;
      }
    });
  }

  /** Ends all fetches: the readers of their blocks get `CLOSED`. */
  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) this.#closing.abort(new BackupError('CLOSED', 'the image is closed'));
    for (const block of this.#blocks.values()) block.content.reject(this.#closing.signal.reason);
    this.#blocks.clear();
    this.#keptBytes = 0;
    await Promise.allSettled(this.#underWay);
  }

  #add(number: number): Block {
    const block: Block = {
      number,
      content: Promise.withResolvers<Content>(),
      bytes: undefined,
      waiting: 0,
      isOver: false,
    };
    block.content.promise.catch(() => {}); // Perhaps no reader waits for it any more.
    this.#blocks.set(number, block);
    return block;
  }

  /**
   * A reader needs its blocks no longer. If it has given up, the store may not answer any more, and what nobody waits for may never end.
   * So that is dropped, with what is being read ahead: the next reader begins anew, and does not wait for it.
   */
  #release(blocks: readonly Block[]): void {
    let hasGivenUp = false;
    for (const block of blocks) {
      if (--block.waiting > 0 || block.isOver) continue;
      this.#forget(block);
      hasGivenUp = true;
    }
    if (hasGivenUp) for (const stage of this.#stages) stage.abandonUnlessAwaited();
  }

  #forget(block: Block): void {
    if (this.#blocks.get(block.number) === block) this.#blocks.delete(block.number);
  }

  #lookUpWanted(): void {
    const wanted = this.#wanted.filter(({ waiting }) => waiting > 0).sort((a, b) => a.number - b.number);
    this.#wanted = [];
    if (this.#closing.signal.aborted) return;
    const joins = ({ number }: Block, [first]: readonly Block[], last: Block) =>
      number - last.number <= LOOKUP_GAP_BLOCKS && number - (first as Block).number < MAX_LOOKUP_BLOCKS;
    for (const group of grouped(wanted, joins)) {
      this.#inBackground(async () => {
        for (const found of await this.#lookUp(group)) {
          if (this.#found.push(found) === 1) setImmediate(() => this.#fetchFound());
        }
      });
    }
  }

  /** Fetches together what several lookups found in one turn, because neighbours in a pack need not be neighbours in the image. */
  #fetchFound(): void {
    const found = this.#found;
    this.#found = [];
    this.#inBackground(() => this.#fetch(found));
  }

  /** Settles the blocks that need no fetch, and returns the others. */
  async #lookUp(blocks: readonly Block[]): Promise<Found[]> {
    const first = (blocks[0] as Block).number;
    const count = (blocks.at(-1) as Block).number - first + 1;
    const contents = await this.#inStage(blocks, (signal) => this.#source.lookup(first, count, { signal }));
    if (contents === undefined) return [];
    const found: Found[] = [];
    for (const block of blocks) {
      const content = contents[block.number - first] as BlockContent;
      if (content === 'zero' || (content === 'lost' && this.#options.allowLost)) this.#settle(block, undefined);
      else if (content === 'lost') this.#fail(block, lostError(block.number));
      else found.push({ block, stored: { block: block.number, entry: content } });
    }
    return found;
  }

  async #fetch(found: readonly Found[]): Promise<void> {
    // Readers may have given up between the lookup and the fetch.
    const wanted = found.filter(({ block }) => this.#blocks.get(block.number) === block);
    if (wanted.length === 0) return;
    const blocks = new Map(wanted.map(({ block }) => [block.number, block]));
    const stored = wanted.map((each) => each.stored);
    // A view would keep the bytes of the whole request in memory.
    const deliver = (number: number, bytes: Uint8Array) => this.#settle(blocks.get(number) as Block, ownBytes(bytes));
    const onFailed = (number: number, error: unknown) => this.#fail(blocks.get(number) as Block, error);
    await this.#inStage([...blocks.values()], (signal) => this.#source.fetch(stored, deliver, { signal, onFailed }));
  }

  /** If the work fails, so do the blocks. */
  async #inStage<T>(blocks: readonly Block[], work: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
    const stage = new Stage(blocks, this.#closing.signal);
    this.#stages.add(stage);
    try {
      return await abortable(work(stage.signal), stage.signal);
    } catch (error) {
      for (const block of blocks) this.#fail(block, error);
      return undefined;
    } finally {
      this.#stages.delete(stage);
    }
  }

  #settle(block: Block, content: Content): void {
    block.isOver = true;
    block.content.resolve(content);
    if (this.#blocks.get(block.number) !== block) return; // It was dropped, or the image is closed.
    block.bytes = (content?.buffer.byteLength ?? 0) + OVERHEAD_BYTES;
    this.#keptBytes += block.bytes;
    for (const [number, { bytes }] of this.#blocks) {
      if (this.#keptBytes <= this.#options.cacheBytes) break;
      if (bytes === undefined) continue;
      this.#blocks.delete(number);
      this.#keptBytes -= bytes;
    }
  }

  #fail(block: Block, error: unknown): void {
    if (block.isOver) return;
    block.isOver = true;
    this.#forget(block);
    block.content.reject(error);
  }

  #inBackground(work: () => Promise<void>): void {
    const running = metered(this.#meter, work).finally(() => this.#underWay.delete(running));
    this.#underWay.add(running);
  }
}

/** Blocks that one reader waits for. */
export class WantedBlocks {
  /** Has to be called when the reader needs the blocks no longer, also after a failure. */
  readonly release: () => void;
  readonly #blocks: readonly Block[];

  constructor(blocks: readonly Block[], release: () => void) {
    this.#blocks = blocks;
    this.release = release;
  }

  async *contents({ signal }: AbortOptions): AsyncGenerator<Content> {
    for (const { content } of this.#blocks) yield await abortable(content.promise, signal);
  }
}

function lostError(block: number): BackupError {
  return new BackupError(
    'BLOCK_LOST',
    `block ${block} is lost, because its pre-image could not be preserved when the backup was made: pass allowLost: true to read it as zeroes`,
  );
}
