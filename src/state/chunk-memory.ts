/** Chunks that are cut from one piece of memory. It lives as long as any of them. */
const CHUNKS_A_PIECE = 32;

/**
 * Memory for the chunks of one map. A piece of its own for each chunk would take the runtime longer to give and to take
 * back than everything else that is done to it: ten thousand of them are 20 ms.
 */
export class ChunkMemory {
  readonly chunkBytes: number;
  #piece: Uint8Array = new Uint8Array(0);
  #used = 0;
  /** Chunks of the next piece: a map that has few takes memory for few. */
  #next = 1;

  constructor(chunkBytes: number) {
    this.chunkBytes = chunkBytes;
  }

  /** A chunk with the content of another one. */
  copyOf(chunk: Uint8Array): Uint8Array {
    if (this.#used === this.#piece.length) {
      this.#piece = new Uint8Array(this.#next * this.chunkBytes);
      this.#used = 0;
      this.#next = Math.min(CHUNKS_A_PIECE, this.#next * 2);
    }
    const own = new Uint8Array(this.#piece.buffer, this.#used, this.chunkBytes);
    this.#used += this.chunkBytes;
    own.set(chunk);
    return own;
  }
}
