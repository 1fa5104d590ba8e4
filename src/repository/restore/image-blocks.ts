import { type AbortOptions, abortable } from '../../common/abort.ts';
import { ownBytes } from '../../common/bytes.ts';
import { BackupError } from '../../common/errors.ts';
import { currentMeter, metered, type RequestMeter } from '../../targets/decorators/request-meter.ts';
import type { MappedBlock } from '../format/map-descriptor.ts';
import type { BlockSource } from './backup-reader.ts';

/** A block's content, `undefined` for zeroes. */
type Content = Uint8Array | undefined;

/** What is held for each block besides its content, roughly. */
const OVERHEAD_BYTES = 200;
/** Blocks that are looked up together though nobody wants those between them; some may need the same nodes. */
const LOOKUP_GAP_BLOCKS = 16;
const MAX_LOOKUP_BLOCKS = 1024;
/** Blocks read ahead are worth a few requests at a time, not more: those that somebody waits for come first. */
const AHEAD_AT_A_TIME = 4;

interface Block {
  readonly number: number;
  readonly content: PromiseWithResolvers<Content>;
  /** Once it is here. */
  bytes: number | undefined;
  /** Readers that have not given up. */
  waiting: number;
}

/** A block that has to be fetched. */
interface Found {
  readonly block: Block;
  readonly stored: MappedBlock;
}

export interface ImageBlocksOptions {
  /** Content kept for being read again, in bytes. What is on its way comes on top. */
  readonly cacheBytes: number;
  /** Read lost blocks as zeroes instead of `BLOCK_LOST`. */
  readonly allowLost: boolean;
}

/**
 * The blocks of an image: fetched when they are wanted, those wanted in one turn of the event loop together, each once
 * whoever wants it, and some kept. A block that can't be read fails its own readers and nobody else's.
 */
export class ImageBlocks {
  readonly #source: BlockSource;
  readonly #options: ImageBlocksOptions;
  /** Requests are charged to who opened the image, not to whose read happens to come first. */
  readonly #meter: RequestMeter | undefined = currentMeter();
  /** On their way or kept; the least recently wanted first. */
  readonly #blocks = new Map<number, Block>();
  #keptBytes = 0;
  /** Wanted, and not looked up yet. */
  #wanted: Block[] = [];
  #found: Found[] = [];
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  #readingAhead = 0;

  constructor(source: BlockSource, options: ImageBlocksOptions) {
    this.#source = source;
    this.#options = options;
  }

  /** Blocks are going to be read, so they are fetched now. */
  want(first: number, count: number): WantedBlocks {
    const blocks: Block[] = [];
    for (let number = first; number < first + count; number++) {
      let block = this.#blocks.get(number);
      if (block === undefined) {
        block = this.#add(number);
        if (this.#wanted.push(block) === 1) setImmediate(() => this.#lookUpWanted());
      } else {
        this.#blocks.delete(number); // To the end: the most recently wanted.
        this.#blocks.set(number, block);
      }
      block.waiting++;
      blocks.push(block);
    }
    return new WantedBlocks(blocks, (block) => this.#giveUp(block));
  }

  /** Whether reading ahead is not under way as often as is good already. */
  get mayReadAhead(): boolean {
    return this.#readingAhead < AHEAD_AT_A_TIME;
  }

  /** Fetches what nobody waits for yet. */
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
        // Behind what is wanted now.
        await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
        const found = await this.#lookUp(blocks);
        await this.#fetch(found);
      } finally {
        this.#readingAhead--;
      }
    });
  }

  /** Ends what is on its way: its readers get `CLOSED`. */
  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) this.#closing.abort(new BackupError('CLOSED', 'the image is closed'));
    for (const block of this.#blocks.values()) block.content.reject(this.#closing.signal.reason);
    this.#blocks.clear();
    this.#keptBytes = 0;
    await Promise.allSettled(this.#underWay);
  }

  #add(number: number): Block {
    const block: Block = { number, content: Promise.withResolvers<Content>(), bytes: undefined, waiting: 0 };
    block.content.promise.catch(() => {}); // All its readers may have given up.
    this.#blocks.set(number, block);
    return block;
  }

  /** What is on its way for nobody but a reader that gave up may never come: the next one begins anew. */
  #giveUp(block: Block): void {
    if (--block.waiting === 0 && block.bytes === undefined) this.#forget(block);
  }

  #forget(block: Block): void {
    if (this.#blocks.get(block.number) === block) this.#blocks.delete(block.number);
  }

  #lookUpWanted(): void {
    const wanted = this.#wanted.filter(({ waiting }) => waiting > 0).sort((a, b) => a.number - b.number);
    this.#wanted = [];
    if (this.#closing.signal.aborted) return;
    for (const group of groupsOf(wanted)) {
      this.#inBackground(async () => {
        for (const found of await this.#lookUp(group)) {
          if (this.#found.push(found) === 1) setImmediate(() => this.#fetchFound());
        }
      });
    }
  }

  /** Of several lookups, those that ended in one turn: neighbours in a pack need not be neighbours in the image. */
  #fetchFound(): void {
    const found = this.#found;
    this.#found = [];
    this.#inBackground(() => this.#fetch(found));
  }

  /** Settles blocks that need no request, and tells where the others are. */
  async #lookUp(blocks: readonly Block[]): Promise<Found[]> {
    const first = (blocks[0] as Block).number;
    const count = (blocks.at(-1) as Block).number - first + 1;
    const { signal } = this.#closing;
    let contents: Awaited<ReturnType<BlockSource['lookup']>>;
    try {
      contents = await abortable(this.#source.lookup(first, count, { signal }), signal);
    } catch (error) {
      for (const block of blocks) this.#fail(block, error);
      return [];
    }
    const found: Found[] = [];
    for (const block of blocks) {
      const content = contents[block.number - first] as (typeof contents)[number];
      if (content === 'zero' || (content === 'lost' && this.#options.allowLost)) this.#settle(block, undefined);
      else if (content === 'lost') this.#fail(block, lostError(block.number));
      else found.push({ block, stored: { block: block.number, entry: content } });
    }
    return found;
  }

  async #fetch(found: readonly Found[]): Promise<void> {
    if (found.length === 0) return;
    // A reader may have given up and another begun anew: then there are two of one number, and both are answered.
    const blocks = new Map<number, Block[]>();
    for (const { block, stored } of found) blocks.set(stored.block, [...(blocks.get(stored.block) ?? []), block]);
    const stored = [...new Map(found.map((each) => [each.stored.block, each.stored])).values()];
    const settle = (number: number, each: (block: Block) => void) => blocks.get(number)?.forEach(each);
    try {
      await this.#source.fetch(
        stored,
        (number, bytes) => {
          const own = ownBytes(bytes); // A view would keep the whole request's bytes in memory.
          settle(number, (block) => this.#settle(block, own));
        },
        {
          signal: this.#closing.signal,
          onFailed: (number, error) => settle(number, (block) => this.#fail(block, error)),
        },
      );
    } catch (error) {
      for (const { block } of found) this.#fail(block, error);
    }
  }

  #settle(block: Block, content: Content): void {
    block.content.resolve(content);
    if (this.#blocks.get(block.number) !== block) return; // Given up, or closed.
    block.bytes = (content?.buffer.byteLength ?? 0) + OVERHEAD_BYTES;
    this.#keptBytes += block.bytes;
    for (const [number, { bytes }] of this.#blocks) {
      if (this.#keptBytes <= this.#options.cacheBytes) break;
      if (bytes === undefined) continue;
      this.#blocks.delete(number);
      this.#keptBytes -= bytes;
    }
  }

  /** The next reader tries again. */
  #fail(block: Block, error: unknown): void {
    if (block.bytes !== undefined) return;
    this.#forget(block);
    block.content.reject(error);
  }

  #inBackground(work: () => Promise<void>): void {
    const running = metered(this.#meter, work).finally(() => this.#underWay.delete(running));
    this.#underWay.add(running);
  }
}

/** Blocks that a reader waits for. */
export class WantedBlocks {
  readonly #blocks: readonly Block[];
  readonly #giveUp: (block: Block) => void;

  constructor(blocks: readonly Block[], giveUp: (block: Block) => void) {
    this.#blocks = blocks;
    this.#giveUp = giveUp;
  }

  async *contents({ signal }: AbortOptions): AsyncGenerator<Content> {
    for (const { content } of this.#blocks) yield await abortable(content.promise, signal);
  }

  /** Call it in the end. */
  release(): void {
    for (const block of this.#blocks) this.#giveUp(block);
  }
}

/** Groups of blocks that are near each other. */
function* groupsOf(blocks: readonly Block[]): Generator<Block[]> {
  let group: Block[] = [];
  for (const block of blocks) {
    const first = group[0];
    const last = group.at(-1);
    const joins =
      first === undefined ||
      last === undefined ||
      (block.number - last.number <= LOOKUP_GAP_BLOCKS && block.number - first.number < MAX_LOOKUP_BLOCKS);
    if (!joins) {
      yield group;
      group = [];
    }
    group.push(block);
  }
  if (group.length > 0) yield group;
}

function lostError(block: number): BackupError {
  return new BackupError(
    'BLOCK_LOST',
    `block ${block} is lost: its pre-image could not be preserved when the backup was made`,
  );
}
