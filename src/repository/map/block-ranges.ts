import type { BlockRange } from '../../state/block-range.ts';

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

/** Every block that is in any of `lists`. */
export function unionRanges(...lists: (readonly BlockRange[])[]): BlockRange[] {
  const coalescer = new Coalescer();
  const union: BlockRange[] = [];
  for (const { firstBlock, blockCount } of lists.flat().sort((a, b) => a.firstBlock - b.firstBlock)) {
    const complete = coalescer.add(firstBlock, blockCount);
    if (complete !== undefined) union.push(complete);
  }
  const last = coalescer.end();
  if (last !== undefined) union.push(last);
  return union;
}

/** Every block of `ranges` that is in none of `without`. */
export function subtractRanges(ranges: readonly BlockRange[], without: readonly BlockRange[]): BlockRange[] {
  const rest: BlockRange[] = [];
  let at = 0;
  for (const { firstBlock, blockCount } of ranges) {
    const end = firstBlock + blockCount;
    let from = firstBlock;
    while (at < without.length && endOf(without[at]!) <= from) at++;
    for (let i = at; i < without.length && without[i]!.firstBlock < end; i++) {
      if (without[i]!.firstBlock > from) rest.push({ firstBlock: from, blockCount: without[i]!.firstBlock - from });
      from = Math.max(from, endOf(without[i]!));
    }
    if (from < end) rest.push({ firstBlock: from, blockCount: end - from });
  }
  return rest;
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
