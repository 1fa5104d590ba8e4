import { type BlockRange, RangeCollector } from '../../common/block-range.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { type BlockStates, maskOf, nextInStates } from '../../state/block-state-map.ts';

/** Which blocks a batch consists of: overwritten ones, or the next ones of the sweep. Each lane fills its own packs. */
export type Lane = 'intercepted' | 'swept';

/** Blocks that are stored together. They need not be neighbours: each batch costs as much as a few dozen blocks. */
export interface Batch {
  readonly lane: Lane;
  /** Ascending and coalesced, not empty. */
  readonly runs: readonly BlockRange[];
  /** The blocks of all runs. */
  readonly blockCount: number;
}

/** A range of blocks of which those from `at` on have not been looked at. */
interface Stretch {
  at: number;
  readonly end: number;
}

const MASKS = { pending: maskOf(['pending']), preserved: maskOf(['preserved']) };
/** Blocks that are looked for in one turn of the event loop, which takes less than a millisecond. */
const LOOKED_AT_ONCE = 2 ** 14;

/**
 * Decides which blocks are stored next: first those that were preserved, because their pre-images take up room until they
 * are stored; then, once the sweep has begun, the remaining ones in order.
 *
 * A block is given out at most once: `take` has it marked `storing` in the same step in which it finds it. The sweep does not
 * race the host's writes, because reading a snapshot's block checks afterwards whether it was overwritten (R4).
 */
export class BlockFeed {
  readonly #states: BlockStates;
  readonly #maxBatchBlocks: number;
  /** Preserved ranges, oldest first; those before `#preservedFrom` have been given out. */
  #preserved: Stretch[] = [];
  #preservedFrom = 0;
  readonly #sweep: Stretch;
  #isSweeping = false;
  #isPaused = false;
  #isEnded = false;
  #wake: PromiseWithResolvers<void> = Promise.withResolvers();

  constructor(states: BlockStates, maxBatchBlocks: number) {
    this.#states = states;
    this.#maxBatchBlocks = maxBatchBlocks;
    this.#sweep = { at: 0, end: states.blockCount };
    this.lookForPreserved();
  }

  get isSweeping(): boolean {
    return this.#isSweeping;
  }

  /** Whether no block is left to be given out. */
  get isExhausted(): boolean {
    const { pending, preserved } = this.#states.counts;
    return pending === 0 && preserved === 0;
  }

  /** Reports that blocks were preserved. */
  preserved({ firstBlock, blockCount }: BlockRange): void {
    this.#preserved.push({ at: firstBlock, end: firstBlock + blockCount });
    this.look();
  }

  /** Looks for blocks that were preserved before anything reported them. */
  lookForPreserved(): void {
    const { counts, blockCount } = this.#states;
    if (counts.preserved > 0) this.preserved({ firstBlock: 0, blockCount });
  }

  sweep(): void {
    this.#isSweeping = true;
    this.look();
  }

  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    this.look();
  }

  /** Makes waiting calls of `take` look again, after blocks changed their state. */
  look(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  /** Ends the feed: `take` gives nothing more. */
  end(): void {
    this.#isEnded = true;
    this.look();
  }

  /**
   * The next batch; waits until there is one. `undefined` when there will be no more.
   *
   * @param claim - marks the blocks `storing`, in the same step, so that they are not given out again
   * @param onIdle - called before each wait
   * @param lane - if given, only blocks of this lane
   */
  async take(claim: (batch: Batch) => void, onIdle: () => void, lane?: 'intercepted'): Promise<Batch | undefined> {
    for (;;) {
      await yieldToEventLoop(); // The loops of all jobs together could stall the event loop.
      if (this.#isEnded || this.isExhausted) return undefined;
      const batch = this.#isPaused ? undefined : (this.#nextPreserved() ?? (lane ? undefined : this.#nextSwept()));
      if (batch !== undefined) {
        claim(batch);
        if (this.isExhausted) this.look(); // The other waiting calls can return.
        return batch;
      }
      if (this.#hasMoreToLookAt(lane)) continue;
      onIdle();
      await this.#wake.promise;
    }
  }

  #hasMoreToLookAt(lane: 'intercepted' | undefined): boolean {
    if (this.#isPaused) return false;
    if (this.#preservedFrom < this.#preserved.length) return true;
    return lane === undefined && this.#isSweeping && this.#sweep.at < this.#sweep.end;
  }

  #nextPreserved(): Batch | undefined {
    return this.#gather('preserved', 'intercepted', () => {
      const first = this.#preserved[this.#preservedFrom];
      if (first === undefined || first.at < first.end) return first;
      this.#preservedFrom++;
      // `shift` would move all others each time. This way each range is moved once, on average.
      if (this.#preservedFrom * 2 >= this.#preserved.length) {
        this.#preserved = this.#preserved.slice(this.#preservedFrom);
        this.#preservedFrom = 0;
      }
      return this.#preserved[this.#preservedFrom];
    });
  }

  #nextSwept(): Batch | undefined {
    if (!this.#isSweeping) return undefined;
    return this.#gather('pending', 'swept', () => (this.#sweep.at < this.#sweep.end ? this.#sweep : undefined));
  }

  /** Blocks in a state: as many as make a batch or are found in one turn. */
  #gather(state: 'pending' | 'preserved', lane: Lane, next: () => Stretch | undefined): Batch | undefined {
    const blocks: number[] = [];
    for (let looked = 0; looked < LOOKED_AT_ONCE && blocks.length < this.#maxBatchBlocks; looked++) {
      const stretch = next();
      if (stretch === undefined) break;
      stretch.at = nextInStates(this.#states, stretch.at, stretch.end, MASKS[state]);
      if (stretch.at < stretch.end) blocks.push(stretch.at++);
    }
    return blocks.length === 0 ? undefined : batchOf(lane, blocks);
  }
}

function batchOf(lane: Lane, blocks: number[]): Batch {
  const collector = new RangeCollector();
  // A block that was reported as preserved twice, and not given out in between, is there twice.
  for (const block of new Set(blocks.sort((a, b) => a - b))) collector.add(block);
  return { lane, runs: collector.ranges, blockCount: collector.count };
}

export function blocksOf({ firstBlock, blockCount }: BlockRange): number[] {
  return Array.from({ length: blockCount }, (_, index) => firstBlock + index);
}
