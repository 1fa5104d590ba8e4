import { ALLOWED, BLOCK_STATES } from './block-state.ts';
import { ChunkMemory } from './chunk-memory.ts';
import { endOfEqualBytes } from './equal-bytes.ts';
import { skipEqual } from './skip-equal.ts';

/** So many blocks are kept together. Their number in one state fits into 16 bits. */
export const CHUNK_BITS = 10;
const CHUNK_BLOCKS = 2 ** CHUNK_BITS;
const IN_CHUNK = CHUNK_BLOCKS - 1;
const STATES = BLOCK_STATES.length;
/** Counts of a chunk are so far from those of the next one. */
const COUNTS_EACH = 8;

/** Stands for no state: a chunk whose blocks are in several. */
const MIXED = 0xff;

/** By state byte: a chunk that is in this state as a whole. All maps share them, and nothing is ever written to them. */
const UNIFORM: readonly Uint8Array[] = BLOCK_STATES.map((_, byte) => new Uint8Array(CHUNK_BLOCKS).fill(byte));

/** Which states are meant, by state byte. */
export type StateMask = Uint8Array;

/** By state byte: the states from which a block may not go there. */
const REFUSING: readonly StateMask[] = BLOCK_STATES.map((_, to) =>
  Uint8Array.from(BLOCK_STATES, (_, from) => 1 - (ALLOWED[from * 8 + to] as number)),
);

/**
 * A state byte for each block, in chunks. A chunk that is in one state takes no memory, and one that two maps have in
 * common is kept once, until either changes it. How many blocks of another chunk are in which state is counted. So a step
 * costs as much as what it finds or changes: a volume's worth of blocks in one state is passed over, filled or copied in
 * microseconds.
 */
export class StateChunks {
  readonly blockCount: number;
  /** By state byte: how many blocks are in it. */
  readonly totals: number[];
  readonly #chunks: Uint8Array[];
  /** By chunk: the state byte of all of its blocks, or `MIXED`. */
  readonly #uniform: Uint8Array;
  /** By chunk: 1 where no other map has it too. */
  readonly #isOwn: Uint8Array;
  /** By mixed chunk and state byte: how many of its blocks are in it. */
  readonly #counts: Uint16Array;
  readonly #memory = new ChunkMemory(CHUNK_BLOCKS);
  #viewed: Uint8Array | undefined;
  #words: Float64Array = new Float64Array(0);

  private constructor(
    blockCount: number,
    chunks: Uint8Array[],
    uniform: Uint8Array,
    counts: Uint16Array,
    totals: number[],
  ) {
    this.blockCount = blockCount;
    this.totals = totals;
    this.#chunks = chunks;
    this.#uniform = uniform;
    this.#isOwn = new Uint8Array(chunks.length);
    this.#counts = counts;
  }

  static of(blockCount: number, byte: number): StateChunks {
    const chunkCount = Math.ceil(blockCount / CHUNK_BLOCKS);
    const chunks = new Array<Uint8Array>(chunkCount).fill(UNIFORM[byte] as Uint8Array);
    const uniform = new Uint8Array(chunkCount).fill(byte);
    const totals = BLOCK_STATES.map((_, state) => (state === byte ? blockCount : 0));
    return new StateChunks(blockCount, chunks, uniform, new Uint16Array(chunkCount * COUNTS_EACH), totals);
  }

  /** The state byte of a block that there is. */
  get(block: number): number {
    return (this.#chunks[block >>> CHUNK_BITS] as Uint8Array)[block & IN_CHUNK] as number;
  }

  /** The same states; neither follows the other from now on. */
  clone(): StateChunks {
    this.#isOwn.fill(0);
    return new StateChunks(
      this.blockCount,
      this.#chunks.slice(),
      this.#uniform.slice(),
      this.#counts.slice(),
      this.totals.slice(),
    );
  }

  /** The first block of a range that may not go to a state; `end` if all may. */
  firstRefusing(first: number, end: number, to: number): number {
    return this.next(first, end, REFUSING[to] as StateMask);
  }

  /** Puts blocks into a state, whatever they are in. */
  fill(first: number, end: number, to: number): void {
    for (let at = first; at < end; ) {
      const chunk = at >>> CHUNK_BITS;
      const endChunk = end === this.blockCount ? this.#chunks.length : end >>> CHUNK_BITS;
      if ((at & IN_CHUNK) === 0 && chunk < endChunk) {
        this.#fillWhole(chunk, endChunk, to);
        at = this.#endOf(endChunk - 1);
      } else {
        const next = Math.min(end, this.#endOf(chunk));
        this.#fillPart(chunk, at & IN_CHUNK, next - at, to);
        at = next;
      }
    }
  }

  /** Puts one block into a state, whatever it is in. */
  put(block: number, to: number): void {
    const chunk = block >>> CHUNK_BITS;
    const bytes = this.#own(chunk);
    const counts = chunk * COUNTS_EACH;
    const from = bytes[block & IN_CHUNK] as number;
    bytes[block & IN_CHUNK] = to;
    this.#counts[counts + from]! -= 1;
    this.#counts[counts + to]! += 1;
    this.totals[from]! -= 1;
    this.totals[to]! += 1;
    if (this.#counts[counts + to] === this.#length(chunk)) this.#fillWhole(chunk, chunk + 1, to);
  }

  /** The first block from `from` on, and before `end`, whose state is meant; `end` if there is none. */
  next(from: number, end: number, wanted: StateMask): number {
    for (let at = from; at < end; ) {
      const chunk = at >>> CHUNK_BITS;
      const uniform = this.#uniform[chunk] as number;
      if (uniform !== MIXED) {
        if (wanted[uniform] === 1) return at;
        at = this.#endOf(endOfEqualBytes(this.#uniform, chunk, ((end - 1) >>> CHUNK_BITS) + 1) - 1);
        continue;
      }
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

  /** Of a mixed chunk. */
  #hasAny(chunk: number, wanted: StateMask): boolean {
    for (let byte = 0; byte < STATES; byte++) {
      if (wanted[byte] === 1 && this.#counts[chunk * COUNTS_EACH + byte] !== 0) return true;
    }
    return false;
  }

  #fillWhole(first: number, end: number, to: number): void {
    for (let chunk = first; chunk < end; ) {
      const uniform = this.#uniform[chunk] as number;
      if (uniform === MIXED) {
        for (let byte = 0; byte < STATES; byte++) {
          this.totals[byte]! -= this.#counts[chunk * COUNTS_EACH + byte] as number;
        }
        chunk++;
      } else {
        const next = endOfEqualBytes(this.#uniform, chunk, end);
        this.totals[uniform]! -= this.#endOf(next - 1) - chunk * CHUNK_BLOCKS;
        chunk = next;
      }
    }
    this.totals[to]! += this.#endOf(end - 1) - first * CHUNK_BLOCKS;
    this.#uniform.fill(to, first, end);
    this.#chunks.fill(UNIFORM[to] as Uint8Array, first, end);
    this.#isOwn.fill(0, first, end);
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
    if (this.#counts[counts + to] === this.#length(chunk)) this.#fillWhole(chunk, chunk + 1, to);
  }

  /** A chunk's memory, to be changed. Its caller makes it uniform again where it is. */
  #own(chunk: number): Uint8Array {
    if (this.#isOwn[chunk] === 0) {
      this.#chunks[chunk] = this.#memory.copyOf(this.#chunks[chunk] as Uint8Array);
      this.#isOwn[chunk] = 1;
    }
    const uniform = this.#uniform[chunk] as number;
    if (uniform !== MIXED) {
      this.#uniform[chunk] = MIXED;
      const counts = chunk * COUNTS_EACH;
      this.#counts.fill(0, counts, counts + COUNTS_EACH);
      this.#counts[counts + uniform] = this.#length(chunk);
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
