import { ALLOWED, BLOCK_STATES } from './block-state.ts';
import { endOfEqualBytes } from './equal-bytes.ts';
import { skipEqual } from './skip-equal.ts';

/** So many blocks are kept together. Their number in one state fits into 16 bits. */
export const CHUNK_BITS = 10;
const CHUNK_BLOCKS = 2 ** CHUNK_BITS;
const IN_CHUNK = CHUNK_BLOCKS - 1;
const STATES = BLOCK_STATES.length;
/** Counts of a chunk are so far from those of the next one. */
const COUNTS_EACH = 8;

/** By state byte: a chunk that is in this state as a whole. All maps share them, and nothing is ever written to them. */
const UNIFORM: readonly Uint8Array[] = BLOCK_STATES.map((_, byte) => new Uint8Array(CHUNK_BLOCKS).fill(byte));

/** Which states are meant, by state byte. */
export type StateMask = Uint8Array;

/**
 * A state byte for each block, in chunks. A chunk that is in one state takes no memory, and one that two maps have in
 * common is kept once, until either changes it. How many blocks of a chunk are in which state is counted. So a step costs
 * as much as what it finds or changes: a volume's worth of blocks in one state is passed over, filled or copied in
 * microseconds.
 */
export class StateChunks {
  readonly blockCount: number;
  /** By state byte: how many blocks are in it. */
  readonly totals: number[];
  readonly #chunks: Uint8Array[];
  /** By chunk: 1 where no other map has it too. */
  readonly #isOwn: Uint8Array;
  /** By chunk and state byte: how many of its blocks are in it. */
  readonly #counts: Uint16Array;
  #viewed: Uint8Array | undefined;
  #words: Float64Array = new Float64Array(0);

  private constructor(blockCount: number, chunks: Uint8Array[], counts: Uint16Array, totals: number[]) {
    this.blockCount = blockCount;
    this.totals = totals;
    this.#chunks = chunks;
    this.#isOwn = new Uint8Array(chunks.length);
    this.#counts = counts;
  }

  static of(blockCount: number, byte: number): StateChunks {
    const chunkCount = Math.ceil(blockCount / CHUNK_BLOCKS);
    const counts = new Uint16Array(chunkCount * COUNTS_EACH);
    const totals = BLOCK_STATES.map((_, state) => (state === byte ? blockCount : 0));
    const chunks = new Array<Uint8Array>(chunkCount).fill(UNIFORM[byte] as Uint8Array);
    const made = new StateChunks(blockCount, chunks, counts, totals);
    for (let chunk = 0; chunk < chunkCount; chunk++) counts[chunk * COUNTS_EACH + byte] = made.#length(chunk);
    return made;
  }

  /** The state byte of a block that there is. */
  get(block: number): number {
    return (this.#chunks[block >>> CHUNK_BITS] as Uint8Array)[block & IN_CHUNK] as number;
  }

  /** The same states; neither follows the other from now on. */
  clone(): StateChunks {
    this.#isOwn.fill(0);
    return new StateChunks(this.blockCount, this.#chunks.slice(), this.#counts.slice(), this.totals.slice());
  }

  /** The first block of a range that may not go to a state; `end` if all may. */
  firstRefusing(first: number, end: number, to: number): number {
    for (let at = first; at < end; ) {
      const chunk = at >>> CHUNK_BITS;
      const next = Math.min(end, this.#endOf(chunk));
      const isWhole = next - at === this.#length(chunk);
      if (!isWhole || !this.#mayAllGo(chunk, to)) {
        const bytes = this.#chunks[chunk] as Uint8Array;
        const base = chunk * CHUNK_BLOCKS;
        for (let place = at - base; place < next - base; place = endOfEqualBytes(bytes, place, next - base)) {
          if (ALLOWED[(bytes[place] as number) * 8 + to] === 0) return base + place;
        }
      }
      at = next;
    }
    return end;
  }

  /** Puts blocks into a state, whatever they are in. */
  fill(first: number, end: number, to: number): void {
    for (let at = first; at < end; ) {
      const chunk = at >>> CHUNK_BITS;
      const next = Math.min(end, this.#endOf(chunk));
      if (next - at < this.#length(chunk)) this.#fillPart(chunk, at & IN_CHUNK, next - at, to);
      else this.#fillWhole(chunk, to);
      at = next;
    }
  }

  /** The first block from `from` on, and before `end`, whose state is meant; `end` if there is none. */
  next(from: number, end: number, wanted: StateMask): number {
    for (let at = from; at < end; ) {
      const chunk = at >>> CHUNK_BITS;
      const next = Math.min(end, this.#endOf(chunk));
      if (this.#hasAny(chunk, wanted)) {
        const bytes = this.#chunks[chunk] as Uint8Array;
        const base = chunk * CHUNK_BLOCKS;
        for (let place = at - base; place < next - base; place = endOfEqualBytes(bytes, place, next - base)) {
          if (wanted[bytes[place] as number] === 1) return base + place;
        }
      }
      at = next;
    }
    return end;
  }

  /** Where the run of blocks in one state that begins at a block ends. */
  endOfRun(block: number): number {
    const byte = this.get(block);
    for (let at = block; at < this.blockCount; ) {
      const chunk = at >>> CHUNK_BITS;
      const next = this.#endOf(chunk);
      const bytes = this.#chunks[chunk] as Uint8Array;
      if (bytes !== UNIFORM[byte]) {
        const base = chunk * CHUNK_BLOCKS;
        if (bytes[at - base] !== byte) return at;
        at = base + endOfEqualBytes(bytes, at - base, next - base);
        if (at < next) return at;
      }
      at = next;
    }
    return this.blockCount;
  }

  /** The first block from `from` on that is in different states in two maps of one size; `blockCount` if none is. */
  nextDifference(before: StateChunks, from: number): number {
    for (let at = from; at < this.blockCount; ) {
      const chunk = at >>> CHUNK_BITS;
      const next = this.#endOf(chunk);
      const a = before.#chunks[chunk] as Uint8Array;
      const b = this.#chunks[chunk] as Uint8Array;
      // Of the last chunk, what is past the end may differ.
      const found =
        a === b
          ? next
          : Math.min(
              next,
              next - this.#length(chunk) + skipEqual(before.#wordsOf(a), this.#wordsOf(b), a, b, at & IN_CHUNK),
            );
      if (found < next) return found;
      at = next;
    }
    return this.blockCount;
  }

  /** Where the run of blocks that went from one state to another, and begins at a block, ends. */
  endOfChange(before: StateChunks, block: number): number {
    const from = before.get(block);
    const to = this.get(block);
    for (let at = block; at < this.blockCount; ) {
      const chunk = at >>> CHUNK_BITS;
      const next = this.#endOf(chunk);
      const a = before.#chunks[chunk] as Uint8Array;
      const b = this.#chunks[chunk] as Uint8Array;
      if (a !== UNIFORM[from] || b !== UNIFORM[to]) {
        while (at < next && a[at & IN_CHUNK] === from && b[at & IN_CHUNK] === to) at++;
        if (at < next) return at;
      }
      at = next;
    }
    return this.blockCount;
  }

  #endOf(chunk: number): number {
    return Math.min(this.blockCount, (chunk + 1) * CHUNK_BLOCKS);
  }

  #length(chunk: number): number {
    return this.#endOf(chunk) - chunk * CHUNK_BLOCKS;
  }

  #hasAny(chunk: number, wanted: StateMask): boolean {
    for (let byte = 0; byte < STATES; byte++) {
      if (wanted[byte] === 1 && this.#counts[chunk * COUNTS_EACH + byte] !== 0) return true;
    }
    return false;
  }

  #mayAllGo(chunk: number, to: number): boolean {
    for (let byte = 0; byte < STATES; byte++) {
      if (ALLOWED[byte * 8 + to] === 0 && this.#counts[chunk * COUNTS_EACH + byte] !== 0) return false;
    }
    return true;
  }

  #fillWhole(chunk: number, to: number): void {
    for (let byte = 0; byte < STATES; byte++) {
      this.totals[byte]! -= this.#counts[chunk * COUNTS_EACH + byte] as number;
      this.#counts[chunk * COUNTS_EACH + byte] = 0;
    }
    this.totals[to]! += this.#length(chunk);
    this.#counts[chunk * COUNTS_EACH + to] = this.#length(chunk);
    this.#chunks[chunk] = UNIFORM[to] as Uint8Array;
    this.#isOwn[chunk] = 0;
  }

  #fillPart(chunk: number, first: number, count: number, to: number): void {
    const bytes = this.#own(chunk);
    const counts = chunk * COUNTS_EACH;
    for (let at = first; at < first + count; ) {
      const byte = bytes[at] as number;
      const next = endOfEqualBytes(bytes, at, first + count);
      this.#counts[counts + byte]! -= next - at;
      this.totals[byte]! -= next - at;
      at = next;
    }
    bytes.fill(to, first, first + count);
    this.#counts[counts + to]! += count;
    this.totals[to]! += count;
    if (this.#counts[counts + to] === this.#length(chunk)) this.#fillWhole(chunk, to);
  }

  #own(chunk: number): Uint8Array {
    if (this.#isOwn[chunk] === 0) {
      this.#chunks[chunk] = (this.#chunks[chunk] as Uint8Array).slice();
      this.#isOwn[chunk] = 1;
    }
    return this.#chunks[chunk] as Uint8Array;
  }

  /** A view of a chunk's memory eight bytes at a time. The last one is remembered: differences come one after the other. */
  #wordsOf(bytes: Uint8Array): Float64Array {
    if (this.#viewed !== bytes) {
      this.#viewed = bytes;
      this.#words = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8);
    }
    return this.#words;
  }
}
