import type { BlockRange } from '../../common/block-range.ts';
import { letOthersRun } from '../../common/event-loop-turns.ts';
import { type BlockStates, maskOf, nextInStates } from '../../state/block-state-map.ts';

/** Where a batch came from; each lane fills packs of its own. */
export type Lane = 'intercepted' | 'swept';

/** Blocks to be stored together. They need not be neighbours: a batch costs as much as a few dozen blocks. */
export interface Batch {
  readonly lane: Lane;
  /** Ascending and coalesced, not empty. */
  readonly runs: readonly BlockRange[];
  /** Of all runs. */
  readonly blockCount: number;
}

/** Blocks that have to be looked at, from `at` on. */
interface Stretch {
  at: number;
  readonly end: number;
}

const MASKS = { pending: maskOf(['pending']), preserved: maskOf(['preserved']) };
/** So many blocks are looked for in one step of the event loop: less than a millisecond. */
const LOOKED_AT_ONCE = 2 ** 14;

/**
 * Which blocks are stored next: those that were preserved, as they come, since they take up room until they are stored;
 * and once the sweep has begun, the remaining ones in order.
 */
export class BlockFeed {
  readonly #states: BlockStates;
  readonly #maxBatchBlocks: number;
  /** What was preserved, the oldest first; those before `#preservedFrom` are done with. */
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

  /** Whether every block has been given out, or need not be. */
  get isExhausted(): boolean {
    const { pending, preserved } = this.#states.counts;
    return pending === 0 && preserved === 0;
  }

  /** Blocks have been preserved. */
  preserved({ firstBlock, blockCount }: BlockRange): void {
    this.#preserved.push({ at: firstBlock, end: firstBlock + blockCount });
    this.#wakeAll();
  }

  /** Blocks may have been preserved that nobody has told of. */
  lookForPreserved(): void {
    const { counts, blockCount } = this.#states;
    if (counts.preserved > 0) this.preserved({ firstBlock: 0, blockCount });
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
      await letOthersRun(); // What is looked at adds up, over the loops of a job and its jobs.
      if (this.#isEnded || this.isExhausted) return undefined;
      const batch = this.#isPaused ? undefined : (this.#nextPreserved() ?? (lane ? undefined : this.#nextSwept()));
      if (batch !== undefined) {
        claim(batch);
        if (this.isExhausted) this.#wakeAll(); // Whoever else waits is done.
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

  #wakeAll(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  #nextPreserved(): Batch | undefined {
    return this.#gather('preserved', 'intercepted', () => {
      const first = this.#preserved[this.#preservedFrom];
      if (first === undefined || first.at < first.end) return first;
      this.#preservedFrom++;
      // Not by `shift`, which moves all the others each time. So each is moved once, on average.
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

  /** Blocks in a state, as many as make a batch or are found in one step. */
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
  const runs: { firstBlock: number; blockCount: number }[] = [];
  for (const block of blocks.sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last !== undefined && block === last.firstBlock + last.blockCount) last.blockCount++;
    // One that was told of twice, and not given out in between.
    else if (last === undefined || block > last.firstBlock + last.blockCount)
      runs.push({ firstBlock: block, blockCount: 1 });
  }
  return { lane, runs, blockCount: runs.reduce((sum, { blockCount }) => sum + blockCount, 0) };
}
