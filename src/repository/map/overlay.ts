import { ENTRIES_AT_ONCE, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import type { SortedEntries } from '../format/run-chunk.ts';

/** Runs merged in memory: the newest entry of each block that any of them names. */
export class Overlay implements SortedEntries {
  static readonly EMPTY = new Overlay([], new Uint32Array(0), new Uint32Array(0), new Uint32Array(0));

  readonly count: number;
  readonly #blocks: Uint32Array;
  readonly #sources: readonly SortedEntries[];
  /** Which source has the entry, and in which slot. */
  readonly #source: Uint32Array;
  readonly #slot: Uint32Array;

  private constructor(sources: readonly SortedEntries[], blocks: Uint32Array, source: Uint32Array, slot: Uint32Array) {
    this.count = blocks.length;
    this.#sources = sources;
    this.#blocks = blocks;
    this.#source = source;
    this.#slot = slot;
  }

  /**
   * Merges runs. There may be a million entries, so the event loop turns in between.
   *
   * @param runs - newest first; each is one or more parts, ascending
   */
  static async of(runs: readonly (readonly SortedEntries[])[]): Promise<Overlay> {
    const sources = runs.flat();
    const total = sources.reduce((sum, part) => sum + part.count, 0);
    if (total === 0) return Overlay.EMPTY;
    const blocks = new Uint32Array(total);
    const source = new Uint32Array(total);
    const slot = new Uint32Array(total);
    const cursors = cursorsOf(runs);
    let count = 0;
    for (let next = nextOf(cursors); next !== undefined; next = nextOf(cursors)) {
      const { block } = next;
      blocks[count] = block;
      source[count] = next.source + next.part;
      slot[count++] = next.slot;
      for (const cursor of cursors) {
        if (cursor.block !== block) continue;
        cursor.slot++;
        settle(cursor);
      }
      if (count % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
    }
    return new Overlay(sources, blocks.subarray(0, count), source.subarray(0, count), slot.subarray(0, count));
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

/** Makes one cursor for each run. */
function cursorsOf(runs: readonly (readonly SortedEntries[])[]): Cursor[] {
  let firstSource = 0;
  return runs.map((parts) => {
    const cursor = { parts, source: firstSource, part: 0, slot: 0, block: Number.POSITIVE_INFINITY };
    firstSource += parts.length;
    settle(cursor);
    return cursor;
  });
}

/** The cursor of the next block; there are at most nine, so looking at all of them is as quick as a heap. */
function nextOf(cursors: readonly Cursor[]): Cursor | undefined {
  let best: Cursor | undefined;
  // Strictly less: if several runs name one block, the newest is taken.
  for (const cursor of cursors) if (cursor.block < (best?.block ?? Number.POSITIVE_INFINITY)) best = cursor;
  return best;
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
