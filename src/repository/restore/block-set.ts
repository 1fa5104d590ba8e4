import type { BlockRange } from '../../common/block-range.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';

/** The number of blocks of a page. */
const PAGE_BLOCKS = 2 ** 16;

/** A bit for each block, and the number of bits that are set. */
interface Page {
  readonly bits: Uint8Array;
  count: number;
}

/** The page of which every block is in a set. All sets share it, so it must not be changed. */
const FULL: Page = { bits: new Uint8Array(PAGE_BLOCKS / 8).fill(0xff), count: PAGE_BLOCKS };

/**
 * A set of a volume's blocks: a bit for each block, in pages that exist only if at least one of their blocks is in the set. So
 * its memory depends on its content and not on the size of the volume, and a set of all blocks needs one page.
 */
export class BlockSet {
  readonly blockCount: number;
  /** By the number of the page. */
  readonly #pages = new Map<number, Page>();

  constructor(blockCount: number) {
    this.blockCount = blockCount;
  }

  /** The number of blocks in the set. */
  get size(): number {
    let size = 0;
    for (const { count } of this.#pages.values()) size += count;
    return size;
  }

  has(block: number): boolean {
    const page = this.#pages.get(Math.floor(block / PAGE_BLOCKS));
    const at = block % PAGE_BLOCKS;
    return page !== undefined && ((page.bits[at >>> 3] as number) & (1 << (at & 7))) !== 0;
  }

  /** Adds the blocks of a range; those beyond the end of the volume are ignored. */
  add(range: BlockRange): void {
    for (const { number, from, to } of partsOf(range, this.blockCount)) {
      if (to - from === PAGE_BLOCKS) {
        this.#pages.set(number, FULL);
        continue;
      }
      const page = this.#pages.get(number) ?? newPage();
      if (page !== FULL) this.#put(number, addRange(page, from, to));
    }
  }

  /** Adds the blocks of a range that are in another set too. */
  async addCommon(range: BlockRange, other: BlockSet): Promise<void> {
    for (const { number, from, to } of partsOf(range, this.blockCount)) {
      const theirs = other.#pages.get(number);
      if (theirs === undefined) continue;
      const isWhole = to - from === PAGE_BLOCKS;
      const asked = isWhole ? FULL : addRange(newPage(), from, to);
      const ours = this.#pages.get(number)?.bits;
      this.#put(
        number,
        combine(asked.bits, theirs.bits, (a, b, at) => (ours?.[at] ?? 0) | (a & b)),
      );
      await yieldToEventLoop();
    }
  }

  /** The blocks of this set that are not in the other one. */
  async without(other: BlockSet): Promise<BlockSet> {
    const rest = new BlockSet(this.blockCount);
    for (const [number, page] of this.#pages) {
      const theirs = other.#pages.get(number);
      // The page is copied, because this set may still grow.
      rest.#put(
        number,
        combine(page.bits, theirs?.bits ?? page.bits, (a, b) => (theirs === undefined ? a : a & ~b)),
      );
      await yieldToEventLoop();
    }
    return rest;
  }

  /** Ascending, coalesced ranges. There may be very many of them, so a loop over them has to yield to the event loop. */
  *ranges(): Generator<BlockRange> {
    let open: { firstBlock: number; blockCount: number } | undefined;
    for (const number of [...this.#pages.keys()].sort((a, b) => a - b)) {
      for (const { from, to } of runsOf(this.#pages.get(number) as Page)) {
        const firstBlock = number * PAGE_BLOCKS + from;
        if (open !== undefined && open.firstBlock + open.blockCount === firstBlock) {
          open.blockCount += to - from;
          continue;
        }
        if (open !== undefined) yield open;
        open = { firstBlock, blockCount: to - from };
      }
    }
    if (open !== undefined) yield open;
  }

  #put(number: number, page: Page): void {
    if (page.count === 0) this.#pages.delete(number);
    else this.#pages.set(number, page.count === PAGE_BLOCKS ? FULL : page);
  }
}

function newPage(): Page {
  return { bits: new Uint8Array(PAGE_BLOCKS / 8), count: 0 };
}

/** Cuts a range at the edges of pages. `from` and `to` count from the beginning of the page. */
function* partsOf({ firstBlock, blockCount }: BlockRange, most: number) {
  const end = Math.min(most, firstBlock + blockCount);
  for (let block = firstBlock; block < end; ) {
    const number = Math.floor(block / PAGE_BLOCKS);
    const first = number * PAGE_BLOCKS;
    const to = Math.min(end, first + PAGE_BLOCKS);
    yield { number, from: block - first, to: to - first };
    block = to;
  }
}

function addRange(page: Page, from: number, to: number): Page {
  const { bits } = page;
  for (let at = from; at < to; at++) {
    const bit = 1 << (at & 7);
    const byte = bits[at >>> 3] as number;
    if ((byte & bit) !== 0) continue;
    bits[at >>> 3] = byte | bit;
    page.count++;
  }
  return page;
}

function combine(a: Uint8Array, b: Uint8Array, byteOf: (a: number, b: number, at: number) => number): Page {
  const page = newPage();
  for (let at = 0; at < a.length; at++) {
    const byte = byteOf(a[at] as number, b[at] as number, at) & 0xff;
    page.bits[at] = byte;
    for (let rest = byte; rest > 0; rest &= rest - 1) page.count++;
  }
  return page;
}

function* runsOf({ bits, count }: Page): Generator<{ from: number; to: number }> {
  if (count === PAGE_BLOCKS) {
    yield { from: 0, to: PAGE_BLOCKS };
    return;
  }
  let from = -1;
  for (let at = 0; at < PAGE_BLOCKS; at++) {
    const byte = bits[at >>> 3] as number;
    // Most bytes have all bits alike, so they are skipped eight blocks at a time.
    if ((at & 7) === 0 && byte === (from < 0 ? 0 : 0xff)) {
      at += 7;
      continue;
    }
    const isIn = (byte & (1 << (at & 7))) !== 0;
    if (isIn && from < 0) from = at;
    if (!isIn && from >= 0) {
      yield { from, to: at };
      from = -1;
    }
  }
  if (from >= 0) yield { from, to: PAGE_BLOCKS };
}
