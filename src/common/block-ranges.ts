import type { BlockRange } from './block-range.ts';

/** Ascending, coalesced ranges of blocks. */

/** Gathers ranges whose starts ascend; those that overlap or touch become one. */
export class Coalescer {
  #first = -1;
  #end = -1;

  /** Returns the range that is complete now, if any. */
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

/** Every block that is in any of `lists`, in whatever order their ranges are. */
export function unionRanges(...lists: (readonly BlockRange[])[]): BlockRange[] {
  return [...unionOf(lists.flat().sort((a, b) => a.firstBlock - b.firstBlock))];
}

/** Every block that is in any of some ascending lists, step by step: of a large volume there may be millions of ranges. */
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

/** Every block of `ranges` that is in none of `without`. */
export function subtractRanges(ranges: readonly BlockRange[], without: readonly BlockRange[]): BlockRange[] {
  return [...subtractionOf(ranges, without)];
}

/** As {@link subtractRanges}, step by step. */
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

/** The parts of `ranges` from `first` to before `end`. */
export function clipRanges(ranges: readonly BlockRange[], first: number, end: number): BlockRange[] {
  const clipped: BlockRange[] = [];
  for (let i = firstEndingAfter(ranges, first); i < ranges.length && ranges[i]!.firstBlock < end; i++) {
    const from = Math.max(first, ranges[i]!.firstBlock);
    clipped.push({ firstBlock: from, blockCount: Math.min(end, endOf(ranges[i]!)) - from });
  }
  return clipped;
}

export function inRanges(ranges: readonly BlockRange[], block: number): boolean {
  const range = ranges[firstEndingAfter(ranges, block)];
  return range !== undefined && range.firstBlock <= block;
}

function firstEndingAfter(ranges: readonly BlockRange[], block: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (endOf(ranges[middle]!) <= block) low = middle + 1;
    else high = middle;
  }
  return low;
}

function endOf({ firstBlock, blockCount }: BlockRange): number {
  return firstBlock + blockCount;
}
