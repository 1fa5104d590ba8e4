import { BLOCK_STATES } from './block-state.ts';
import { ChunkMemory } from './chunk-memory.ts';

const STATES = BLOCK_STATES.length;
/** Counts of a chunk are so far from those of the next one. */
const COUNTS_EACH = 8;
const NOTHING = new Uint8Array(0);

/** Which states are meant, by state byte. */
export type StateMask = Uint8Array;

/** The chunks of a map that are in several states, by slot. Clones share them until one of them changes its own. */
export class MixedChunks {
  readonly #memory: ChunkMemory;
  #chunks: Uint8Array[] = [];
  /** By slot: 1 where no other map has the chunk too. */
  #isOwn: Uint8Array = NOTHING;
  /** By slot and state byte: how many blocks are in it. */
  #counts: Uint16Array = new Uint16Array(0);
  #free: number[] = [];

  constructor(chunkBlocks: number) {
    this.#memory = new ChunkMemory(chunkBlocks);
  }

  get isEmpty(): boolean {
    return this.#chunks.length === this.#free.length;
  }

  clone(): MixedChunks {
    const copy = new MixedChunks(this.#memory.chunkBytes);
    if (this.isEmpty) return copy;
    this.#isOwn.fill(0);
    copy.#chunks = this.#chunks.slice();
    copy.#isOwn = this.#isOwn.slice();
    copy.#counts = this.#counts.slice();
    copy.#free = this.#free.slice();
    return copy;
  }

  /** The states of a chunk's blocks; to be changed only once it is one's own. */
  at(slot: number): Uint8Array {
    return this.#chunks[slot] as Uint8Array;
  }

  /** Another chunk, whose blocks are all in one state as yet. It is one's own. */
  add(content: Uint8Array, byte: number, length: number): number {
    const slot = this.#free.pop() ?? this.#chunks.length;
    if (slot === this.#isOwn.length) this.#grow();
    this.#chunks[slot] = this.#memory.copyOf(content);
    this.#isOwn[slot] = 1;
    for (let state = 0; state < STATES; state++) this.#counts[slot * COUNTS_EACH + state] = 0;
    this.#counts[slot * COUNTS_EACH + byte] = length;
    return slot;
  }

  own(slot: number): void {
    if (this.#isOwn[slot] === 1) return;
    this.#chunks[slot] = this.#memory.copyOf(this.at(slot));
    this.#isOwn[slot] = 1;
  }

  /** Gives a chunk up, and takes its blocks off the totals. */
  remove(slot: number, totals: number[]): void {
    for (let state = 0; state < STATES; state++) {
      totals[state]! -= this.#counts[slot * COUNTS_EACH + state] as number;
    }
    this.#chunks[slot] = NOTHING;
    this.#free.push(slot);
  }

  /** Changes the number of a chunk's blocks that are in a state; returns the new one. */
  count(slot: number, byte: number, by: number): number {
    const at = slot * COUNTS_EACH + byte;
    const count = (this.#counts[at] as number) + by;
    this.#counts[at] = count;
    return count;
  }

  hasAny(slot: number, wanted: StateMask): boolean {
    for (let state = 0; state < STATES; state++) {
      if (wanted[state] === 1 && this.#counts[slot * COUNTS_EACH + state] !== 0) return true;
    }
    return false;
  }

  #grow(): void {
    const slots = Math.max(1, this.#isOwn.length * 2);
    const isOwn = new Uint8Array(slots);
    isOwn.set(this.#isOwn);
    this.#isOwn = isOwn;
    const counts = new Uint16Array(slots * COUNTS_EACH);
    counts.set(this.#counts);
    this.#counts = counts;
  }
}
