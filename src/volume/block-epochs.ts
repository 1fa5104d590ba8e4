import { ChunkMemory } from '../state/chunk-memory.ts';
import { endOfEqualBytes } from '../state/equal-bytes.ts';

/** So many blocks are kept together. */
export const CHUNK_BITS = 10;
const CHUNK_BLOCKS = 2 ** CHUNK_BITS;
const IN_CHUNK = CHUNK_BLOCKS - 1;

/** By epoch: a chunk whose blocks all have it. Made when first needed; nothing is ever written to one. */
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
  readonly chunkCount: number;
  readonly #chunks: Uint8Array[];
  /** By chunk: whether it is no uniform one. */
  readonly #isOwn: Uint8Array;
  /** By chunk: the newest epoch of its blocks. */
  readonly #newest: Uint8Array;
  /** By chunk: what its blocks have still to be translated by. */
  readonly #due: (Uint8Array | undefined)[];
  #isAnyDue = false;
  readonly #memory = new ChunkMemory(CHUNK_BLOCKS);

  constructor(blockCount: number) {
    this.blockCount = blockCount;
    this.chunkCount = Math.ceil(blockCount / CHUNK_BLOCKS);
    this.#chunks = new Array<Uint8Array>(this.chunkCount).fill(uniformChunk(0));
    this.#isOwn = new Uint8Array(this.chunkCount);
    this.#newest = new Uint8Array(this.chunkCount);
    this.#due = new Array<Uint8Array | undefined>(this.chunkCount).fill(undefined);
  }

  get(block: number): number {
    return this.#translated(block >>> CHUNK_BITS)[block & IN_CHUNK] as number;
  }

  /** Whether a block has an epoch from `epoch` on. Asked by every write, so that it loops over nothing. */
  isSince(block: number, epoch: number): boolean {
    const chunk = block >>> CHUNK_BITS;
    return (
      (this.#newest[chunk] as number) >= epoch &&
      (this.#isOwn[chunk] === 0 || (this.#translated(chunk)[block & IN_CHUNK] as number) >= epoch)
    );
  }

  /** Gives blocks the newest epoch that there is. */
  set(first: number, end: number, epoch: number): void {
    const endChunk = end === this.blockCount ? this.chunkCount : end >>> CHUNK_BITS;
    for (let at = first; at < end; ) {
      const chunk = at >>> CHUNK_BITS;
      if ((at & IN_CHUNK) === 0 && chunk < endChunk) {
        this.#newest.fill(epoch, chunk, endChunk);
        this.#chunks.fill(uniformChunk(epoch), chunk, endChunk);
        this.#isOwn.fill(0, chunk, endChunk);
        this.#due.fill(undefined, chunk, endChunk);
        at = this.endOf(endChunk - 1);
      } else {
        const next = Math.min(end, this.endOf(chunk));
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
      const bytes = this.#translated(chunk);
      const base = chunk * CHUNK_BLOCKS;
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
      // Of a uniform chunk the newest epoch is that of all its blocks.
      if (this.#isOwn[chunk] === 0 && (this.#newest[chunk] as number) >= epoch) continue;
      const bytes = this.#translated(chunk);
      const base = chunk * CHUNK_BLOCKS;
      const next = Math.min(CHUNK_BLOCKS, end - base);
      for (let place = Math.max(0, from - base); place < next; place = endOfEqualBytes(bytes, place, next)) {
        if ((bytes[place] as number) < epoch) return base + place;
      }
    }
    return end;
  }

  /** Gives every block another epoch in place of its own. Must be monotone. */
  renumber(newEpoch: Uint8Array): void {
    const composed = new Map<Uint8Array, Uint8Array>();
    for (let chunk = 0; chunk < this.chunkCount; chunk++) {
      const old = this.#newest[chunk] as number;
      const newest = newEpoch[old] as number;
      this.#newest[chunk] = newest;
      if (this.#isOwn[chunk] === 0) {
        if (newest !== old) this.#chunks[chunk] = uniformChunk(newest);
        continue;
      }
      const due = this.#due[chunk];
      if (due === undefined) {
        this.#due[chunk] = newEpoch;
      } else {
        let both = composed.get(due);
        if (both === undefined) {
          both = due.map((epoch) => newEpoch[epoch] as number);
          composed.set(due, both);
        }
        this.#due[chunk] = both;
      }
      this.#isAnyDue = true;
    }
  }

  /** The block after the last one of a chunk. */
  endOf(chunk: number): number {
    return Math.min(this.blockCount, (chunk + 1) * CHUNK_BLOCKS);
  }

  #own(chunk: number): Uint8Array {
    const bytes = this.#translated(chunk);
    if (this.#isOwn[chunk] === 1) return bytes;
    this.#isOwn[chunk] = 1;
    const own = this.#memory.copyOf(bytes);
    this.#chunks[chunk] = own;
    return own;
  }

  #translated(chunk: number): Uint8Array {
    const bytes = this.#chunks[chunk] as Uint8Array;
    const due = this.#isAnyDue ? this.#due[chunk] : undefined;
    if (due === undefined) return bytes;
    this.#due[chunk] = undefined;
    for (let at = 0; at < bytes.length; at++) bytes[at] = due[bytes[at] as number] as number;
    return bytes;
  }
}
