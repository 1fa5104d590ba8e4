import { setImmediate } from 'node:timers/promises';
import type { BlockRange } from './block-range.ts';

/** How long opening records may keep everything else of this process waiting, in milliseconds. */
const TURN_MS = 4;
/** Entries of a map's runs, of which there may be a million, to go through before others may run: less than a millisecond. */
export const ENTRIES_AT_ONCE = 2048;
/** So many small steps take less than a millisecond. */
const STEPS_EACH = 512;

let turnBegan = 0;
let nextTurn: Promise<void> | undefined;

/**
 * Waits for the event loop to turn when enough has been computed in this turn, by whomever: several fetches at once are no
 * reason to hold the host up for several times as long.
 */
export async function letOthersRun(): Promise<void> {
  while (performance.now() - turnBegan >= TURN_MS) {
    nextTurn ??= setImmediate().then(() => {
      nextTurn = undefined;
      turnBegan = performance.now();
    });
    await nextTurn;
  }
}

/** A computation that stops, again and again, where others may run. */
export type InSteps<T> = Generator<void, T, void>;

/** Runs a computation to its end, and lets the event loop turn where it has taken long enough. */
export async function inTurns<T>(work: InSteps<T>): Promise<T> {
  for (;;) {
    await letOthersRun();
    const step = work.next();
    if (step.done) return step.value;
  }
}

/** Runs a computation to its end without letting anybody else run: for where that is known to be short. */
export function atOnce<T>(work: InSteps<T>): T {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}

/** Counts small steps, and says when it is time to `yield`. */
export class Steps {
  #taken = 0;

  isDue(): boolean {
    return ++this.#taken % STEPS_EACH === 0;
  }
}

/** All ranges of blocks that `ranges` gives, which may be millions; others run in between. */
export async function gatheredRanges(ranges: Iterable<BlockRange>): Promise<BlockRange[]> {
  const all: BlockRange[] = [];
  for (const range of ranges) {
    all.push(range);
    if (all.length % 64 === 0 || range.blockCount >= 2 ** 16) await letOthersRun();
  }
  return all;
}
