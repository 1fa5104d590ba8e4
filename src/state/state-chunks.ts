import { ALLOWED, BLOCK_STATES } from './block-state.ts';
import { endOfEqualBytes, firstDifference } from './equal-bytes.ts';
import { MixedChunks, type StateMask } from './mixed-chunks.ts';

/** The number of blocks in a chunk, as a power of two. A count of a chunk's blocks fits into 16 bits. */
export const CHUNK_BITS = 9;
const CHUNK_BLOCKS = 2 ** CHUNK_BITS;
const IN_CHUNK = CHUNK_BLOCKS - 1;

/** In place of a state byte: the blocks of the chunk are in several states. */
const MIXED = 0xff;

/** By state byte: a chunk that is wholly in this state. Maps compare chunks with these, which are never written to. */
const UNIFORM: readonly Uint8Array[] = BLOCK_STATES.map((_, byte) => new Uint8Array(CHUNK_BLOCKS).fill(byte));

/** By state byte: the states from which a block may not go to this state. */
const REFUSING: readonly StateMask[] = BLOCK_STATES.map((_, to) =>
  Uint8Array.from(BLOCK_STATES, (_, from) => 1 - (ALLOWED[from * 8 + to] as number)),
);

/** By state byte: all other states. */
const OTHERS: readonly StateMask[] = BLOCK_STATES.map((_, byte) =>
  Uint8Array.from(BLOCK_STATES, (_, other) => Number(other !== byte)),
);

/**
 * A state byte for each block, in chunks. A chunk whose blocks are all in one state takes no memory. A chunk that two maps
 * share is kept once, until one of them changes it. For every other chunk, the blocks in each state are counted. So the
 * cost of a step depends on what it finds or changes: a whole volume in one state is skipped, filled or copied in
 * microseconds.
 */
export class StateChunks {
  readonly blockCount: number;
  /** By state byte: how many blocks are in it. */
  readonly totals: number[];
  /** By chunk: the state byte of all of its blocks, or `MIXED`. */
  readonly #uniform: Uint8Array;
  /** By chunk: its slot among the mixed ones. Where no chunk is ever mixed, this memory is never touched and takes none. */
  readonly #slots: Uint32Array;
  readonly #mixed: MixedChunks;
  #viewed: Uint8Array | undefined;
  #words: Float64Array = new Float64Array(0);

  private constructor(
    blockCount: number,
    totals: number[],
    uniform: Uint8Array,
    slots: Uint32Array,
    mixed: MixedChunks,
  ) {
    this.blockCount = blockCount;
    this.totals = totals;
    this.#uniform = uniform;
    this.#slots = slots;
    this.#mixed = mixed;
  }

  static of(blockCount: number, byte: number): StateChunks {
    const uniform = new Uint8Array(Math.ceil(blockCount / CHUNK_BLOCKS)).fill(byte);
    const totals = BLOCK_STATES.map((_, state) => (state === byte ? blockCount : 0));
    return new StateChunks(blockCount, totals, uniform, new Uint32Array(uniform.length), new MixedChunks(CHUNK_BLOCKS));
  }

  /** The state byte of a block, which must be in range. */
  get(block: number): number {
    const chunk = block >>> CHUNK_BITS;
    const uniform = this.#uniform[chunk] as number;
    return uniform !== MIXED ? uniform : (this.#mixed.at(this.#slots[chunk] as number)[block & IN_CHUNK] as number);
  }

  clone(): StateChunks {
    const slots = this.#mixed.isEmpty ? new Uint32Array(this.#slots.length) : this.#slots.slice();
    return new StateChunks(this.blockCount, this.totals.slice(), this.#uniform.slice(), slots, this.#mixed.clone());
  }

  /** The first block of a range that may not go to a state; `end` if all of them may. */
  firstRefusing(first: number, end: number, to: number): number {
    return this.next(first, end, REFUSING[to] as StateMask);
  }

  /** Sets blocks to a state without checking the transition. */
  fill(first: number, end: number, to: number): void {
    for (let at = first; at < end; ) {
      const chunk = at >>> CHUNK_BITS;
      const endChunk = end === this.blockCount ? this.#uniform.length : end >>> CHUNK_BITS;
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

  /** Sets one block to a state without checking the transition. */
  put(block: number, to: number): void {
    const chunk = block >>> CHUNK_BITS;
    const slot = this.#ownSlot(chunk);
    const bytes = this.#mixed.at(slot);
    const from = bytes[block & IN_CHUNK] as number;
    bytes[block & IN_CHUNK] = to;
    this.totals[from]! -= 1;
    this.totals[to]! += 1;
    this.#mixed.count(slot, from, -1);
    if (this.#mixed.count(slot, to, 1) === this.#length(chunk)) this.#fillWhole(chunk, chunk + 1, to);
  }

  /** The first block from `from` on, and before `end`, whose state is in `wanted`; `end` if there is none. */
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
      const slot = this.#slots[chunk] as number;
      if (this.#mixed.hasAny(slot, wanted)) {
        const bytes = this.#mixed.at(slot);
        const base = chunk * CHUNK_BLOCKS;
        for (let index = at - base; index < next - base; index = endOfEqualBytes(bytes, index, next - base)) {
          if (wanted[bytes[index] as number] === 1) return base + index;
        }
      }
      at = next;
    }
    return end;
  }

  /** By state byte: how many blocks of a range are in it. */
  totalsIn(first: number, end: number): number[] {
    const totals = this.totals.map(() => 0);
    for (let at = first; at < end; ) {
      const chunk = at >>> CHUNK_BITS;
      const uniform = this.#uniform[chunk] as number;
      if (uniform !== MIXED) {
        const next = Math.min(
          end,
          this.#endOf(endOfEqualBytes(this.#uniform, chunk, ((end - 1) >>> CHUNK_BITS) + 1) - 1),
        );
        totals[uniform]! += next - at;
        at = next;
        continue;
      }
      const next = Math.min(end, this.#endOf(chunk));
      const bytes = this.#mixed.at(this.#slots[chunk] as number);
      if (next - at === this.#length(chunk)) this.#mixed.addCounts(this.#slots[chunk] as number, totals);
      else for (; at < next; at++) totals[bytes[at & IN_CHUNK] as number]! += 1;
      at = next;
    }
    return totals;
  }

  /** Where the run of blocks in one state that begins at a block ends. */
  endOfRun(block: number): number {
    return this.next(block, this.blockCount, OTHERS[this.get(block)] as StateMask);
  }

  /** The first block from `from` on that is in different states in two maps of one size; `blockCount` if none is. */
  nextDifference(before: StateChunks, from: number): number {
    for (let at = from; at < this.blockCount; ) {
      const chunk = at >>> CHUNK_BITS;
      const next = this.#endOf(chunk);
      const a = before.#bytesOf(chunk);
      const b = this.#bytesOf(chunk);
      // In the last chunk, the bytes beyond the last block may differ.
      const found =
        a === b
          ? next
          : Math.min(
              next,
              next - this.#length(chunk) + firstDifference(before.#wordsOf(a), this.#wordsOf(b), a, b, at & IN_CHUNK),
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
      const a = before.#bytesOf(chunk);
      const b = this.#bytesOf(chunk);
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

  #bytesOf(chunk: number): Uint8Array {
    const uniform = this.#uniform[chunk] as number;
    return uniform !== MIXED ? (UNIFORM[uniform] as Uint8Array) : this.#mixed.at(this.#slots[chunk] as number);
  }

  #fillWhole(first: number, end: number, to: number): void {
    for (let chunk = first; chunk < end; ) {
      const uniform = this.#uniform[chunk] as number;
      if (uniform === MIXED) {
        this.#mixed.remove(this.#slots[chunk] as number, this.totals);
        chunk++;
      } else {
        const next = endOfEqualBytes(this.#uniform, chunk, end);
        this.totals[uniform]! -= this.#endOf(next - 1) - chunk * CHUNK_BLOCKS;
        chunk = next;
      }
    }
    this.totals[to]! += this.#endOf(end - 1) - first * CHUNK_BLOCKS;
    this.#uniform.fill(to, first, end);
  }

  #fillPart(chunk: number, first: number, count: number, to: number): void {
    const slot = this.#ownSlot(chunk);
    const bytes = this.#mixed.at(slot);
    for (let at = first; at < first + count; ) {
      const byte = bytes[at] as number;
      const next = endOfEqualBytes(bytes, at, first + count);
      this.#mixed.count(slot, byte, at - next);
      this.totals[byte]! -= next - at;
      at = next;
    }
    bytes.fill(to, first, first + count);
    this.totals[to]! += count;
    if (this.#mixed.count(slot, to, count) === this.#length(chunk)) this.#fillWhole(chunk, chunk + 1, to);
  }

  /** The slot of a chunk that the caller may change. If the chunk becomes uniform, the caller must call `#fillWhole`. */
  #ownSlot(chunk: number): number {
    const uniform = this.#uniform[chunk] as number;
    if (uniform === MIXED) {
      const slot = this.#slots[chunk] as number;
      this.#mixed.own(slot);
      return slot;
    }
    const slot = this.#mixed.add(UNIFORM[uniform] as Uint8Array, uniform, this.#length(chunk));
    this.#uniform[chunk] = MIXED;
    this.#slots[chunk] = slot;
    return slot;
  }

  /** A view of a chunk's memory in units of eight bytes. The last view is cached, because a chunk often has several differences. */
  #wordsOf(bytes: Uint8Array): Float64Array {
    if (this.#viewed !== bytes) {
      this.#viewed = bytes;
      this.#words = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8);
    }
    return this.#words;
  }
}
