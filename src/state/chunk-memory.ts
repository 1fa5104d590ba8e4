/** How many chunks share one piece of memory, which is freed when none of them is in use. */
const MAX_CHUNKS_IN_PIECE = 32;

/**
 * Memory for the chunks of one map. If each chunk had a piece of its own, the runtime would need more time to allocate and
 * free it than everything else that is done to the chunk: 20 ms for ten thousand of them.
 */
export class ChunkMemory {
  readonly chunkBytes: number;
  #piece: Uint8Array = new Uint8Array(0);
  #used = 0;
  /** How many chunks the next piece will have. It grows, so that a map with few chunks takes memory for few. */
  #next = 1;

  constructor(chunkBytes: number) {
    this.chunkBytes = chunkBytes;
  }

  /** A chunk with the content of another one. */
  copyOf(chunk: Uint8Array): Uint8Array {
    if (this.#used === this.#piece.length) {
      this.#piece = new Uint8Array(this.#next * this.chunkBytes);
      this.#used = 0;
      this.#next = Math.min(MAX_CHUNKS_IN_PIECE, this.#next * 2);
    }
    const own = new Uint8Array(this.#piece.buffer, this.#used, this.chunkBytes);
    this.#used += this.chunkBytes;
    own.set(chunk);
    return own;
  }
}
