import type { BlockRange } from '../../state/block-range.ts';
import type { BlockStates } from '../../state/block-state-map.ts';

/** Where a batch came from; each lane fills packs of its own. */
export type Lane = 'intercepted' | 'swept';

/** Neighbouring blocks to be stored together. */
export interface Batch extends BlockRange {
  readonly lane: Lane;
}

/**
 * Which blocks are stored next: those that were preserved, as they come, since they take up room until they are stored;
 * and once the sweep has begun, the remaining ones in order.
 */
export class BlockFeed {
  readonly #states: BlockStates;
  readonly #maxBatchBlocks: number;
  readonly #preserved: BlockRange[] = [];
  #sweepAt = 0;
  #isSweeping = false;
  #isPaused = false;
  #isEnded = false;
  #wake: PromiseWithResolvers<void> = Promise.withResolvers();

  constructor(states: BlockStates, maxBatchBlocks: number) {
    this.#states = states;
    this.#maxBatchBlocks = maxBatchBlocks;
    this.#preserved.push(...states.ranges('preserved'));
  }

  get isSweeping(): boolean {
    return this.#isSweeping;
  }

  /** Whether every block has been given out, or need not be. */
  get isExhausted(): boolean {
    const { pending, preserved } = this.#states.counts;
    return pending === 0 && preserved === 0;
  }

  /** Blocks have been preserved. */
  preserved(blocks: BlockRange): void {
    this.#preserved.push(blocks);
    this.#wakeAll();
  }

  sweep(): void {
    this.#isSweeping = true;
    this.#wakeAll();
  }

  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    this.#wakeAll();
  }

  /** Blocks changed state without passing through here: those that wait look again. */
  look(): void {
    this.#wakeAll();
  }

  /** Nothing more is wanted. */
  end(): void {
    this.#isEnded = true;
    this.#wakeAll();
  }

  /**
   * The next blocks; waits for some to come. `undefined` when none can come any more.
   *
   * @param claim - marks them `storing`, in the same step: a moment later they might be given out again
   * @param onIdle - called before each wait
   * @param lane - only blocks of this lane
   */
  async take(claim: (batch: Batch) => void, onIdle: () => void, lane?: 'intercepted'): Promise<Batch | undefined> {
    for (;;) {
      if (this.#isEnded || this.isExhausted) return undefined;
      const batch = this.#isPaused ? undefined : (this.#nextPreserved() ?? (lane ? undefined : this.#nextSwept()));
      if (batch !== undefined) {
        claim(batch);
        if (this.isExhausted) this.#wakeAll(); // Whoever else waits is done.
        return batch;
      }
      onIdle();
      await this.#wake.promise;
    }
  }

  #wakeAll(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  #nextPreserved(): Batch | undefined {
    for (let range = this.#preserved.shift(); range !== undefined; range = this.#preserved.shift()) {
      const end = range.firstBlock + range.blockCount;
      const firstBlock = this.#firstIn('preserved', range.firstBlock, end);
      if (firstBlock === end) continue;
      const blockCount = this.#runLength('preserved', firstBlock, end);
      const rest = firstBlock + blockCount;
      if (rest < end) this.#preserved.unshift({ firstBlock: rest, blockCount: end - rest });
      return { firstBlock, blockCount, lane: 'intercepted' };
    }
    return undefined;
  }

  #nextSwept(): Batch | undefined {
    const end = this.#states.blockCount;
    if (!this.#isSweeping || this.#sweepAt === end) return undefined;
    const firstBlock = this.#firstIn('pending', this.#sweepAt, end);
    if (firstBlock === end) {
      this.#sweepAt = end;
      return undefined;
    }
    const blockCount = this.#runLength('pending', firstBlock, end);
    this.#sweepAt = firstBlock + blockCount;
    return { firstBlock, blockCount, lane: 'swept' };
  }

  #firstIn(state: 'pending' | 'preserved', from: number, end: number): number {
    let block = from;
    while (block < end && this.#states.get(block) !== state) block++;
    return block;
  }

  #runLength(state: 'pending' | 'preserved', first: number, end: number): number {
    const most = Math.min(end, first + this.#maxBatchBlocks);
    let block = first;
    while (block < most && this.#states.get(block) === state) block++;
    return block - first;
  }
}
