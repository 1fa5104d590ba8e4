import { described, integerArgument } from './arguments.ts';
import { yieldToEventLoop } from './yield-to-event-loop.ts';

/** A range of blocks. Its field names differ from those of a byte range, so that the two are not confused. @public */
export interface BlockRange {
  readonly firstBlock: number;
  readonly blockCount: number;
}

/** Returns `value` as a range: the number of one block, or a range. Throws a `TypeError` for anything else. */
export function blockRangeArgument(name: string, value: BlockRange | number): BlockRange {
  if (typeof value === 'number') return { firstBlock: integerArgument(name, value, 0), blockCount: 1 };
  if (typeof value !== 'object' || value === null) {
    throw new TypeError(`${name} must be the number of a block or a range of blocks, not ${described(value)}`);
  }
  const firstBlock = integerArgument(`${name}.firstBlock`, value.firstBlock, 0);
  const blockCount = integerArgument(`${name}.blockCount`, value.blockCount, 0, Number.MAX_SAFE_INTEGER - firstBlock);
  return { firstBlock, blockCount };
}

/** Joins ranges that overlap or touch. They are added in the order of their first blocks. */
export class Coalescer {
  #first = -1;
  #end = -1;

  /** Returns the range before, if the added one does not continue it. */
  add(firstBlock: number, blockCount: number): BlockRange | undefined {
    if (blockCount === 0) return undefined;
    const end = firstBlock + blockCount;
    if (this.#first >= 0 && firstBlock <= this.#end) {
      this.#end = Math.max(this.#end, end);
      return undefined;
    }
    const complete = this.end();
    this.#first = firstBlock;
    this.#end = end;
    return complete;
  }

  /** Returns the last range, if any. */
  end(): BlockRange | undefined {
    const last = this.#first < 0 ? undefined : { firstBlock: this.#first, blockCount: this.#end - this.#first };
    this.#first = -1;
    return last;
  }
}

/** Collects single blocks, most of which follow the one before: a pack full of small blocks is a few ranges. */
export class RangeCollector {
  /** The number of blocks. */
  count = 0;
  readonly #ranges: { firstBlock: number; blockCount: number }[] = [];

  get ranges(): readonly BlockRange[] {
    return this.#ranges;
  }

  add(block: number): void {
    this.count++;
    const last = this.#ranges.at(-1);
    if (last !== undefined && last.firstBlock + last.blockCount === block) last.blockCount++;
    else this.#ranges.push({ firstBlock: block, blockCount: 1 });
  }
}

/** The blocks that are in any of `lists`, whose ranges may be in any order. */
export function unionRanges(...lists: (readonly BlockRange[])[]): BlockRange[] {
  return [...unionOf(lists.flat().sort((a, b) => a.firstBlock - b.firstBlock))];
}

/** The blocks that are in any of some ascending lists, as a generator: a large volume may have millions of ranges. */
export function* unionOf(...lists: (readonly BlockRange[])[]): Generator<BlockRange> {
  const coalescer = new Coalescer();
  const at = lists.map(() => 0);
  for (;;) {
    let next = -1;
    lists.forEach((list, index) => {
      const range = list[at[index] as number];
      if (range === undefined) return;
      if (next < 0 || range.firstBlock < lists[next]![at[next] as number]!.firstBlock) next = index;
    });
    if (next < 0) break;
    const { firstBlock, blockCount } = lists[next]![at[next]!++]!;
    const complete = coalescer.add(firstBlock, blockCount);
    if (complete !== undefined) yield complete;
  }
  const last = coalescer.end();
  if (last !== undefined) yield last;
}

/** The blocks of `ranges` that are not in `without`. */
export function subtractRanges(ranges: readonly BlockRange[], without: readonly BlockRange[]): BlockRange[] {
  return [...subtractionOf(ranges, without)];
}

/** As {@link subtractRanges}, as a generator. */
export function* subtractionOf(ranges: readonly BlockRange[], without: readonly BlockRange[]): Generator<BlockRange> {
  let at = 0;
  for (const { firstBlock, blockCount } of ranges) {
    const end = firstBlock + blockCount;
    let from = firstBlock;
    while (at < without.length && endOf(without[at]!) <= from) at++;
    for (let i = at; i < without.length && without[i]!.firstBlock < end; i++) {
      if (without[i]!.firstBlock > from) yield { firstBlock: from, blockCount: without[i]!.firstBlock - from };
      from = Math.max(from, endOf(without[i]!));
    }
    if (from < end) yield { firstBlock: from, blockCount: end - from };
  }
}

/** The parts of `ranges` that lie from block `first` to before block `end`. */
export function clipRanges(ranges: readonly BlockRange[], first: number, end: number): BlockRange[] {
  const clipped: BlockRange[] = [];
  for (let i = firstEndingAfter(ranges, first, endOf); i < ranges.length && ranges[i]!.firstBlock < end; i++) {
    const from = Math.max(first, ranges[i]!.firstBlock);
    clipped.push({ firstBlock: from, blockCount: Math.min(end, endOf(ranges[i]!)) - from });
  }
  return clipped;
}

export function inRanges(ranges: readonly BlockRange[], block: number): boolean {
  const range = ranges[firstEndingAfter(ranges, block, endOf)];
  return range !== undefined && range.firstBlock <= block;
}

/** The index of the first of some ascending ranges that ends after `at`. */
export function firstEndingAfter<R>(ranges: readonly R[], at: number, end: (range: R) => number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (end(ranges[middle]!) <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}

function endOf({ firstBlock, blockCount }: BlockRange): number {
  return firstBlock + blockCount;
}

/** Collects ranges, of which there may be millions, and yields to the event loop meanwhile. */
export async function collectRanges(ranges: Iterable<BlockRange>): Promise<BlockRange[]> {
  const all: BlockRange[] = [];
  for (const range of ranges) {
    all.push(range);
    if (all.length % 64 === 0 || range.blockCount >= 2 ** 16) await yieldToEventLoop();
  }
  return all;
}
