import { ChunkMemory } from '../state/chunk-memory.ts';
import { endOfEqualBytes } from '../state/equal-bytes.ts';

/** So many blocks are kept together. */
export const CHUNK_BITS = 9;
const CHUNK_BLOCKS = 2 ** CHUNK_BITS;
const IN_CHUNK = CHUNK_BLOCKS - 1;

const NOTHING = new Uint8Array(0);

/** By epoch: a chunk whose blocks all have it, to copy from. Made when first needed; nothing is ever written to one. */
const uniformChunks: Uint8Array[] = [];

function uniformChunk(epoch: number): Uint8Array {
  uniformChunks[epoch] ??= new Uint8Array(CHUNK_BLOCKS).fill(epoch);
  return uniformChunks[epoch];
}

/**
 * An epoch for each block: one byte each, in chunks. A chunk whose blocks all have one epoch takes no memory, and is given
 * another one in one step. Renumbering goes over the chunks only; what it does to the blocks of a chunk is made up for
 * before any of them is looked at, so that an instant is short whatever the volume.
 */
export class BlockEpochs {
  readonly blockCount: number;
  readonly #chunkCount: number;
  /** By chunk: the newest epoch of its blocks. */
  readonly #newest: Uint8Array;
  /** By chunk: whether its blocks have several epochs, or may have. */
  readonly #isMixed: Uint8Array;
  /** By chunk: which of the mixed ones it is. The memory of what is never mixed is never touched, and takes none. */
  readonly #slots: Uint32Array;
  /** By slot: the epochs of a mixed chunk. */
  readonly #mixed: Uint8Array[] = [];
  /** By slot: what the blocks have still to be translated by. */
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

  /** Whether a block has an epoch from `epoch` on. Asked by every write, so that it loops over nothing. */
  isSince(block: number, epoch: number): boolean {
    const chunk = block >>> CHUNK_BITS;
    return (
      (this.#newest[chunk] as number) >= epoch &&
      (this.#isMixed[chunk] === 0 ||
        (this.#translated(this.#slots[chunk] as number)[block & IN_CHUNK] as number) >= epoch)
    );
  }

  /** Gives blocks the newest epoch that there is. */
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

  /** The first block from `from` on, and before `end`, that has an epoch from `epoch` on; `end` if there is none. */
  nextSince(epoch: number, from: number, end: number): number {
    const endChunk = from < end ? ((end - 1) >>> CHUNK_BITS) + 1 : 0;
    for (let chunk = from >>> CHUNK_BITS; chunk < endChunk; chunk++) {
      if ((this.#newest[chunk] as number) < epoch) continue;
      const base = chunk * CHUNK_BLOCKS;
      if (this.#isMixed[chunk] === 0) return Math.max(from, base);
      const bytes = this.#translated(this.#slots[chunk] as number);
      const next = Math.min(CHUNK_BLOCKS, end - base);
      for (let place = Math.max(0, from - base); place < next; place = endOfEqualBytes(bytes, place, next)) {
        if ((bytes[place] as number) >= epoch) return base + place;
      }
    }
    return end;
  }

  /** The first block from `from` on, and before `end`, that has an epoch before `epoch`; `end` if there is none. */
  nextBefore(epoch: number, from: number, end: number): number {
    const endChunk = from < end ? ((end - 1) >>> CHUNK_BITS) + 1 : 0;
    for (let chunk = from >>> CHUNK_BITS; chunk < endChunk; chunk++) {
      const base = chunk * CHUNK_BLOCKS;
      if (this.#isMixed[chunk] === 0) {
        if ((this.#newest[chunk] as number) >= epoch) continue;
        return Math.max(from, base);
      }
      const bytes = this.#translated(this.#slots[chunk] as number);
      const next = Math.min(CHUNK_BLOCKS, end - base);
      for (let place = Math.max(0, from - base); place < next; place = endOfEqualBytes(bytes, place, next)) {
        if ((bytes[place] as number) < epoch) return base + place;
      }
    }
    return end;
  }

  /** Gives every block another epoch in place of its own. Must be monotone. */
  renumber(newEpoch: Uint8Array): void {
    const newest = this.#newest;
    for (let chunk = 0; chunk < newest.length; chunk++) newest[chunk] = newEpoch[newest[chunk] as number] as number;
    const composed = new Map<Uint8Array, Uint8Array>();
    for (let slot = 0; slot < this.#due.length; slot++) {
      const due = this.#due[slot];
      if (due === undefined) {
        this.#due[slot] = newEpoch;
        continue;
      }
      let both = composed.get(due);
      if (both === undefined) {
        both = due.map((epoch) => newEpoch[epoch] as number);
        composed.set(due, both);
      }
      this.#due[slot] = both;
    }
  }

  /** The block after the last one of a block's chunk: so far blocks are looked at together. */
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
