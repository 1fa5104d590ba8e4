import type { BlockEntry } from './descriptor.ts';
import type { SortedEntries } from './run-chunk.ts';

/** Runs merged in memory: of each block that any of them names, the newest entry. */
export class Overlay implements SortedEntries {
  readonly count: number;
  readonly #blocks: Uint32Array;
  readonly #sources: readonly SortedEntries[];
  /** Which source has the entry, and in which slot. */
  readonly #source: Uint32Array;
  readonly #slot: Uint32Array;

  /** @param runs - newest first; each is one or more parts, ascending */
  constructor(runs: readonly (readonly SortedEntries[])[]) {
    const total = runs.flat().reduce((sum, part) => sum + part.count, 0);
    const blocks = new Uint32Array(total);
    const source = new Uint32Array(total);
    const slot = new Uint32Array(total);
    this.#sources = runs.flat();
    let count = 0;
    for (const [block, from, at] of newest(runs)) {
      blocks[count] = block;
      source[count] = from;
      slot[count++] = at;
    }
    this.count = count;
    this.#blocks = blocks.subarray(0, count);
    this.#source = source.subarray(0, count);
    this.#slot = slot.subarray(0, count);
  }

  block(index: number): number {
    return this.#blocks[index] as number;
  }

  has(index: number): boolean {
    return this.#at(index).has(this.#slot[index] as number);
  }

  id(index: number): Uint8Array {
    return this.#at(index).id(this.#slot[index] as number);
  }

  entry(index: number): BlockEntry | undefined {
    return this.#at(index).entry(this.#slot[index] as number);
  }

  /** The first index whose block is `block` or after it. */
  from(block: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#blocks[middle] as number) < block) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #at(index: number): SortedEntries {
    return this.#sources[this.#source[index] as number] as SortedEntries;
  }
}

/** One cursor a run; at most nine of them, so looking at all for the next block is as quick as a heap. */
function* newest(runs: readonly (readonly SortedEntries[])[]): Generator<readonly [number, number, number]> {
  let firstSource = 0;
  const cursors = runs.map((parts) => {
    const cursor = { parts, source: firstSource, part: 0, slot: 0, block: Number.POSITIVE_INFINITY };
    firstSource += parts.length;
    settle(cursor);
    return cursor;
  });
  for (;;) {
    let best: Cursor | undefined;
    // Strictly less: of equal blocks that of the newest run is taken.
    for (const cursor of cursors) if (cursor.block < (best?.block ?? Number.POSITIVE_INFINITY)) best = cursor;
    if (best === undefined) return;
    const { block } = best;
    yield [block, best.source + best.part, best.slot];
    for (const cursor of cursors) {
      if (cursor.block === block) {
        cursor.slot++;
        settle(cursor);
      }
    }
  }
}

interface Cursor {
  readonly parts: readonly SortedEntries[];
  readonly source: number;
  part: number;
  slot: number;
  block: number;
}

function settle(cursor: Cursor): void {
  while (cursor.part < cursor.parts.length) {
    const part = cursor.parts[cursor.part] as SortedEntries;
    if (cursor.slot < part.count) {
      cursor.block = part.block(cursor.slot);
      return;
    }
    cursor.part++;
    cursor.slot = 0;
  }
  cursor.block = Number.POSITIVE_INFINITY;
}
