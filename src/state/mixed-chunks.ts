import { BLOCK_STATES } from './block-state.ts';
import { ChunkMemory } from './chunk-memory.ts';

const STATES = BLOCK_STATES.length;
/** The counts of one chunk take up this many elements. */
const COUNTS_EACH = 8;
const NOTHING = new Uint8Array(0);

/** A set of states: 1 at each of their state bytes. */
export type StateMask = Uint8Array;

/** The chunks of a map that are in several states, by slot. Clones share a chunk until one of them changes it. */
export class MixedChunks {
  readonly #memory: ChunkMemory;
  #chunks: Uint8Array[] = [];
  /** By slot: 1 if no other map shares the chunk. */
  #isOwn: Uint8Array = NOTHING;
  /** By slot and state byte: how many blocks of the chunk are in the state. */
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

  /** The states of a chunk's blocks, which may be changed only after `own`. */
  at(slot: number): Uint8Array {
    return this.#chunks[slot] as Uint8Array;
  }

  /** Adds a chunk whose blocks are all in one state, and returns its slot. */
  add(content: Uint8Array, byte: number, length: number): number {
    const slot = this.#free.pop() ?? this.#chunks.length;
    if (slot === this.#isOwn.length) this.#grow();
    this.#chunks[slot] = this.#memory.copyOf(content);
    this.#isOwn[slot] = 1;
    for (let state = 0; state < STATES; state++) this.#counts[slot * COUNTS_EACH + state] = 0;
    this.#counts[slot * COUNTS_EACH + byte] = length;
    return slot;
  }

  /** Makes a copy of a chunk that is shared. */
  own(slot: number): void {
    if (this.#isOwn[slot] === 1) return;
    this.#chunks[slot] = this.#memory.copyOf(this.at(slot));
    this.#isOwn[slot] = 1;
  }

  /** Removes a chunk, and subtracts its blocks from the totals. */
  remove(slot: number, totals: number[]): void {
    for (let state = 0; state < STATES; state++) {
      totals[state]! -= this.#counts[slot * COUNTS_EACH + state] as number;
    }
    this.#chunks[slot] = NOTHING;
    this.#free.push(slot);
  }

  /** Adds to the number of a chunk's blocks that are in a state, and returns the sum. */
  count(slot: number, byte: number, by: number): number {
    const at = slot * COUNTS_EACH + byte;
    const count = (this.#counts[at] as number) + by;
    this.#counts[at] = count;
    return count;
  }

  /** Adds the numbers of a chunk's blocks in each state to `totals`. */
  addCounts(slot: number, totals: number[]): void {
    for (let state = 0; state < STATES; state++) totals[state]! += this.#counts[slot * COUNTS_EACH + state] as number;
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
