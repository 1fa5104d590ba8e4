import type { BlockRange } from '../../common/block-range.ts';

/** Blocks as they come, mostly one after the other: a pack full of small ones is a few runs of them. */
export class BlockRuns {
  /** How many blocks there are. */
  count = 0;
  readonly #runs: { firstBlock: number; blockCount: number }[] = [];

  get runs(): readonly BlockRange[] {
    return this.#runs;
  }

  add(block: number): void {
    this.count++;
    const last = this.#runs.at(-1);
    if (last !== undefined && last.firstBlock + last.blockCount === block) last.blockCount++;
    else this.#runs.push({ firstBlock: block, blockCount: 1 });
  }
}
