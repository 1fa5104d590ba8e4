import { ChunkMemory } from '../../state/chunk-memory.ts';
import { endOfEqualBytes } from '../../state/equal-bytes.ts';

/** The number of blocks in a chunk, as a power of two. */
export const CHUNK_BITS = 9;
const CHUNK_BLOCKS = 2 ** CHUNK_BITS;
const IN_CHUNK = CHUNK_BLOCKS - 1;

const NOTHING = new Uint8Array(0);
/** Greater than every epoch. */
const ABOVE_ALL = 256;

/** By epoch: a chunk whose blocks all have it, to copy from. It is created when first needed, and never written to. */
const uniformChunks: Uint8Array[] = [];

function uniformChunk(epoch: number): Uint8Array {
  uniformChunks[epoch] ??= new Uint8Array(CHUNK_BLOCKS).fill(epoch);
  return uniformChunks[epoch];
}

/**
 * An epoch for each block: one byte each, in chunks. A chunk whose blocks all have one epoch takes no memory, and gets another
 * epoch in one step. Renumbering visits the chunks only, and the blocks of a chunk are translated before the next access to
 * one of them, so that an instant is short however large the volume is.
 */
export class BlockEpochs {
  readonly blockCount: number;
  readonly #chunkCount: number;
  /** By chunk: the newest epoch of its blocks. */
  readonly #newest: Uint8Array;
  /** By chunk: whether its blocks have several epochs, or may have. */
  readonly #isMixed: Uint8Array;
  /** By chunk: its slot among the mixed ones. Where no chunk is ever mixed, this memory is never touched and takes none. */
  readonly #slots: Uint32Array;
  /** By slot: the epochs of a mixed chunk. */
  readonly #mixed: Uint8Array[] = [];
  /** By slot: the translation that its blocks still need. */
  readonly #due: (Uint8Array | undefined)[] = [];
  readonly #freeSlots: number[] = [];
  readonly #memory = new ChunkMemory(CHUNK_BLOCKS);

  constructor(blockCount: number) {
    this.blockCount = blockCount;
    this.#chunkCount = Math.ceil(blockCount / CHUNK_BLOCKS);
    this.#newest = new Uint8Array(this.#chunkCount);
    this.#isMixed = new Uint8Array(this.#chunkCount);
    this.#slots = new Uint32Array(this.#chunkCount);
  }

  get(block: number): number {
    const chunk = block >>> CHUNK_BITS;
    if (this.#isMixed[chunk] === 0) return this.#newest[chunk] as number;
    return this.#translated(this.#slots[chunk] as number)[block & IN_CHUNK] as number;
  }

  /** Whether a block's epoch is `epoch` or newer. Every write asks this, so it has no loop. */
  isSince(block: number, epoch: number): boolean {
    const chunk = block >>> CHUNK_BITS;
    return (
      (this.#newest[chunk] as number) >= epoch &&
      (this.#isMixed[chunk] === 0 ||
        (this.#translated(this.#slots[chunk] as number)[block & IN_CHUNK] as number) >= epoch)
    );
  }

  /** Sets blocks to `epoch`, which must not be older than any other. */
  set(first: number, end: number, epoch: number): void {
    const endChunk = end === this.blockCount ? this.#chunkCount : end >>> CHUNK_BITS;
    for (let at = first; at < end; ) {
      const chunk = at >>> CHUNK_BITS;
      if ((at & IN_CHUNK) === 0 && chunk < endChunk) {
        for (let each = chunk; each < endChunk; each++) if (this.#isMixed[each] === 1) this.#release(each);
        this.#newest.fill(epoch, chunk, endChunk);
        at = this.#endOf(endChunk - 1);
      } else {
        const next = Math.min(end, this.#endOf(chunk));
        const bytes = this.#own(chunk);
        this.#newest[chunk] = epoch;
        if (next - at === 1) bytes[at & IN_CHUNK] = epoch;
        else bytes.fill(epoch, at & IN_CHUNK, (at & IN_CHUNK) + next - at);
        at = next;
      }
    }
  }

  /** The first block from `from` on, and before `end`, whose epoch is `epoch` or newer; `end` if there is none. */
  nextSince(epoch: number, from: number, end: number): number {
    return this.#next(epoch, ABOVE_ALL, from, end);
  }

  /** The first block from `from` on, and before `end`, whose epoch is older than `epoch`; `end` if there is none. */
  nextBefore(epoch: number, from: number, end: number): number {
    return this.#next(0, epoch, from, end);
  }

  /** The first block whose epoch is at least `least` and below `limit`. */
  #next(least: number, limit: number, from: number, end: number): number {
    const endChunk = from < end ? ((end - 1) >>> CHUNK_BITS) + 1 : 0;
    for (let chunk = from >>> CHUNK_BITS; chunk < endChunk; chunk++) {
      const newest = this.#newest[chunk] as number;
      if (newest < least) continue;
      const base = chunk * CHUNK_BLOCKS;
      if (this.#isMixed[chunk] === 0) {
        if (newest < limit) return Math.max(from, base);
        continue;
      }
      const bytes = this.#translated(this.#slots[chunk] as number);
      const next = Math.min(CHUNK_BLOCKS, end - base);
      for (let at = Math.max(0, from - base); at < next; at = endOfEqualBytes(bytes, at, next)) {
        const epoch = bytes[at] as number;
        if (epoch >= least && epoch < limit) return base + at;
      }
    }
    return end;
  }

  /** Translates the epoch of every block. `newEpoch` must be monotone. */
  renumber(newEpoch: Uint8Array): void {
    const newest = this.#newest;
    for (let chunk = 0; chunk < newest.length; chunk++) newest[chunk] = newEpoch[newest[chunk] as number] as number;
    const composed = new Map<Uint8Array, Uint8Array>();
    for (let slot = 0; slot < this.#due.length; slot++) {
      const due = this.#due[slot];
      const both = due === undefined ? newEpoch : (composed.get(due) ?? due.map((epoch) => newEpoch[epoch] as number));
      if (due !== undefined) composed.set(due, both);
      this.#due[slot] = both;
    }
  }

  /** The one epoch that all blocks from `first` to before `end` have, or `undefined` where it is not known that they have one. */
  uniformEpoch(first: number, end: number): number | undefined {
    const epoch = this.get(first);
    for (let chunk = first >>> CHUNK_BITS; chunk <= (end - 1) >>> CHUNK_BITS; chunk++) {
      if (this.#isMixed[chunk] === 1 || this.#newest[chunk] !== epoch) return undefined;
    }
    return epoch;
  }

  /** Copies the epochs of as many blocks from `first` on as `into` has bytes. */
  copyTo(into: Uint8Array, first: number): void {
    for (let at = 0; at < into.length; ) {
      const block = first + at;
      const chunk = block >>> CHUNK_BITS;
      const count = Math.min(into.length - at, this.#endOf(chunk) - block);
      if (this.#isMixed[chunk] === 0) into.fill(this.#newest[chunk] as number, at, at + count);
      else {
        const bytes = this.#translated(this.#slots[chunk] as number);
        into.set(bytes.subarray(block & IN_CHUNK, (block & IN_CHUNK) + count), at);
      }
      at += count;
    }
  }

  /**
   * Sets the epochs of blocks, each its own, which may be older than others.
   *
   * @param epochs - begins at a multiple of four bytes in its buffer
   */
  load(first: number, epochs: Uint8Array): void {
    for (let at = 0; at < epochs.length; ) {
      const block = first + at;
      const chunk = block >>> CHUNK_BITS;
      const count = Math.min(epochs.length - at, this.#endOf(chunk) - block);
      const part = epochs.subarray(at, at + count);
      const isWhole = (block & IN_CHUNK) === 0 && block + count === this.#endOf(chunk);
      if (isWhole && endOfEqualBytes(epochs, at, at + count) === at + count) {
        this.set(block, block + count, part[0] as number);
      } else {
        const own = this.#own(chunk);
        own.set(part, block & IN_CHUNK);
        const inChunk = own.subarray(0, this.#endOf(chunk) - chunk * CHUNK_BLOCKS);
        this.#newest[chunk] = inChunk.reduce((newest, each) => Math.max(newest, each), 0);
      }
      at += count;
    }
  }

  /** The block after the last one of a block's chunk. The blocks of a chunk are examined together. */
  endOfChunk(block: number): number {
    return this.#endOf(block >>> CHUNK_BITS);
  }

  #endOf(chunk: number): number {
    return Math.min(this.blockCount, (chunk + 1) * CHUNK_BLOCKS);
  }

  #own(chunk: number): Uint8Array {
    if (this.#isMixed[chunk] === 1) return this.#translated(this.#slots[chunk] as number);
    const slot = this.#freeSlots.pop() ?? this.#mixed.length;
    const own = this.#memory.copyOf(uniformChunk(this.#newest[chunk] as number));
    this.#mixed[slot] = own;
    this.#due[slot] = undefined;
    this.#slots[chunk] = slot;
    this.#isMixed[chunk] = 1;
    return own;
  }

  #release(chunk: number): void {
    const slot = this.#slots[chunk] as number;
    this.#mixed[slot] = NOTHING;
    this.#freeSlots.push(slot);
    this.#isMixed[chunk] = 0;
  }

  #translated(slot: number): Uint8Array {
    const bytes = this.#mixed[slot] as Uint8Array;
    const due = this.#due[slot];
    if (due === undefined) return bytes;
    this.#due[slot] = undefined;
    for (let at = 0; at < bytes.length; at++) bytes[at] = due[bytes[at] as number] as number;
    return bytes;
  }
}
