import { type BlockRange, RangeCollector } from '../common/block-range.ts';
import { yieldToEventLoop } from '../common/yield-to-event-loop.ts';
import { BlockStateMap, type BlockStates, maskOf, nextInStates, type StateChange } from '../state/block-state-map.ts';

/**
 * Which blocks a batch consists of: intercepted ones, or the next ones of the sweep. In a repository each lane has its
 * packs.
 */
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
const NOTHING: Stretch = { at: 0, end: 0 };
/** Blocks that are looked for in one turn of the event loop, which takes less than a millisecond. */
const LOOKED_AT_ONCE = 2 ** 14;
/** After a comparison, the next one waits this many times as long as it took, so that comparing takes a small share. */
const REST_FACTOR = 15;
/** Most milliseconds of a rest. A process that was stopped during a comparison seems to have compared for that long. */
const MOST_REST_MS = 2000;
/** A shorter rest is left out, in milliseconds. */
const LEAST_REST_MS = 2;

/**
 * Decides which blocks are stored next: first those that were preserved, because their pre-images take up room until they
 * are stored; then, once the sweep has begun, the remaining ones in order.
 *
 * The preserved ones are found by comparison: the states as they are now are recorded, and compared with the record before.
 * So it takes no memory for each of them, however many wait, and no more than the changes are looked at.
 *
 * A block is given out at most once: `take` has it marked `storing` in the same step in which it finds it. The sweep does
 * not race the host's writes, because reading a snapshot's block checks afterwards whether it was overwritten (R4).
 */
export class BlockFeed {
  readonly #states: BlockStates;
  readonly #maxBatchBlocks: number;
  /** The states at the last comparison; at first those of the instant, when nothing has happened to any block. */
  #record: BlockStateMap;
  /** What the last comparison has shown, as far as it was not looked at yet. */
  #changes: Iterator<StateChange, unknown> | undefined;
  #preserved = NOTHING;
  /** Whether blocks may have been preserved since the last comparison. */
  #isComparisonDue: boolean;
  #comparingMs = 0;
  #restUntil = 0;
  #restTimer: NodeJS.Timeout | undefined;
  readonly #sweep: Stretch;
  #isSweeping = false;
  #isPaused = false;
  #isEnded = false;
  #wake: PromiseWithResolvers<void> = Promise.withResolvers();

  constructor(states: BlockStates, maxBatchBlocks: number) {
    this.#states = states;
    this.#maxBatchBlocks = maxBatchBlocks;
    this.#record = new BlockStateMap(states.blockCount);
    this.#isComparisonDue = states.counts.preserved > 0;
    this.#sweep = { at: 0, end: states.blockCount };
  }

  get isSweeping(): boolean {
    return this.#isSweeping;
  }

  /** Whether no block is left to be given out. */
  get isExhausted(): boolean {
    const { pending, preserved } = this.#states.counts;
    return pending === 0 && preserved === 0;
  }

  /** Reports that blocks were preserved, or may have been. The next comparison shows which ones. */
  intercepted(): void {
    this.#isComparisonDue = true;
    this.look();
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
    clearTimeout(this.#restTimer);
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
        // @mutation claimed-in-the-same-step
        claim(batch);
        if (this.isExhausted) this.look(); // The other waiting calls can return.
        return batch;
      }
      if (this.#hasMoreToLookAt(lane)) continue;
      if (!this.#restBeforeComparison()) onIdle();
      await this.#wake.promise;
    }
  }

  #hasMoreToLookAt(lane: 'intercepted' | undefined): boolean {
    if (this.#isPaused) return false;
    if (this.#changes !== undefined || (this.#isComparisonDue && !this.#isResting)) return true;
    return lane === undefined && this.#isSweeping && this.#sweep.at < this.#sweep.end;
  }

  get #isResting(): boolean {
    return performance.now() < this.#restUntil;
  }

  /** If a comparison is due that has to wait, has the waiting calls woken for it. */
  #restBeforeComparison(): boolean {
    if (!this.#isComparisonDue || this.#isPaused) return false;
    const restMs = Math.max(0, this.#restUntil - performance.now());
    this.#restTimer ??= setTimeout(() => {
      this.#restTimer = undefined;
      this.look();
    }, restMs);
    return true;
  }

  #nextPreserved(): Batch | undefined {
    if (this.#states.counts.preserved === 0) {
      // Nothing that the last comparison has shown is left.
      this.#changes = undefined;
      this.#preserved = NOTHING;
      this.#isComparisonDue = false;
      return undefined;
    }
    const began = performance.now();
    if (this.#changes === undefined) {
      if (!this.#isComparisonDue || this.#isResting) return undefined;
      this.#compare();
    }
    const batch = this.#gather('preserved', 'intercepted', () => this.#nextStretch());
    this.#comparingMs += performance.now() - began;
    if (this.#changes === undefined) this.#rest();
    return batch;
  }

  /** Records the states, and compares them with the record before. */
  #compare(): void {
    const now = this.#states.clone();
    this.#changes = now.diff(this.#record);
    this.#record = now;
    this.#isComparisonDue = false;
    this.#comparingMs = 0;
  }

  #rest(): void {
    const restMs = Math.min(MOST_REST_MS, this.#comparingMs * REST_FACTOR);
    this.#restUntil = restMs < LEAST_REST_MS ? 0 : performance.now() + restMs;
  }

  /** A stretch of which parts may be preserved; an empty one for a change to another state. */
  #nextStretch(): Stretch | undefined {
    if (this.#preserved.at < this.#preserved.end) return this.#preserved;
    const change = this.#changes?.next();
    if (change === undefined || change.done) {
      this.#changes = undefined;
      return undefined;
    }
    const { firstBlock, blockCount, to } = change.value;
    this.#preserved = to === 'preserved' ? { at: firstBlock, end: firstBlock + blockCount } : NOTHING;
    return this.#preserved;
  }

  #nextSwept(): Batch | undefined {
    if (!this.#isSweeping) return undefined;
    return this.#gather('pending', 'swept', () => (this.#sweep.at < this.#sweep.end ? this.#sweep : undefined));
  }

  /** Blocks in a state: as many as make a batch or are found in one turn. */
  #gather(state: 'pending' | 'preserved', lane: Lane, next: () => Stretch | undefined): Batch | undefined {
    const blocks = new RangeCollector();
    for (let looked = 0; looked < LOOKED_AT_ONCE && blocks.count < this.#maxBatchBlocks; looked++) {
      const stretch = next();
      if (stretch === undefined) break;
      if (stretch.at === stretch.end) continue;
      stretch.at = nextInStates(this.#states, stretch.at, stretch.end, MASKS[state]);
      if (stretch.at < stretch.end) blocks.add(stretch.at++);
    }
    return blocks.count === 0 ? undefined : { lane, runs: blocks.ranges, blockCount: blocks.count };
  }
}

export function blocksOf({ firstBlock, blockCount }: BlockRange): number[] {
  return Array.from({ length: blockCount }, (_, index) => firstBlock + index);
}
