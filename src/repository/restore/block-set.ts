import type { BlockRange } from '../../state/block-range.ts';

/** Some of a volume's blocks, a bit for each block that there is. */
export class BlockSet {
  readonly blockCount: number;
  readonly #bits: Uint8Array;
  #size = 0;

  constructor(blockCount: number) {
    this.blockCount = blockCount;
    this.#bits = new Uint8Array(Math.ceil(blockCount / 8));
  }

  /** How many are in it. */
  get size(): number {
    return this.#size;
  }

  has(block: number): boolean {
    return ((this.#bits[block >>> 3] as number) & (1 << (block & 7))) !== 0;
  }

  /** Those of a range that are blocks of the volume. */
  add({ firstBlock, blockCount }: BlockRange): void {
    const end = Math.min(this.blockCount, firstBlock + blockCount);
    for (let block = firstBlock; block < end; block++) {
      if (this.has(block)) continue;
      this.#bits[block >>> 3]! |= 1 << (block & 7);
      this.#size++;
    }
  }

  /** Ascending and coalesced. */
  *ranges(): Generator<BlockRange> {
    let first = -1;
    for (let block = 0; block < this.blockCount; block++) {
      const byte = this.#bits[block >>> 3] as number;
      // Most of a volume is in, or is not: eight blocks at a time.
      if ((block & 7) === 0 && byte === (first < 0 ? 0 : 0xff) && block + 8 <= this.blockCount) {
        block += 7;
        continue;
      }
      const isIn = (byte & (1 << (block & 7))) !== 0;
      if (isIn && first < 0) first = block;
      if (!isIn && first >= 0) {
        yield { firstBlock: first, blockCount: block - first };
        first = -1;
      }
    }
    if (first >= 0) yield { firstBlock: first, blockCount: this.blockCount - first };
  }

  /** In this set and not in the other one. */
  without(other: BlockSet): BlockSet {
    const rest = new BlockSet(this.blockCount);
    for (let at = 0; at < this.#bits.length; at++) {
      const byte = (this.#bits[at] as number) & ~(other.#bits[at] ?? 0);
      rest.#bits[at] = byte;
      for (let bits = byte; bits > 0; bits >>= 1) rest.#size += bits & 1;
    }
    return rest;
  }
}
