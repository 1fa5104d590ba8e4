import { setImmediate } from 'node:timers/promises';

/**
 * How long computations of this process go without giving up the thread.
 *
 * The host's own requests run on the same thread. A long computation is therefore written as a generator that yields after
 * each short step; {@link runInSteps} drives it and lets the event loop turn whenever {@link YIELD_EVERY_MS} have passed.
 */

/** The longest time that computations keep the event loop from turning, in milliseconds. */
const YIELD_EVERY_MS = 4;
/** The number of entries of a map's run that are processed in one step: less than a millisecond. A run may have a million. */
export const ENTRIES_AT_ONCE = 2048;
/** The number of small steps between two yields: less than a millisecond. */
const STEPS_EACH = 512;

let turnBegan = 0;
let nextTurn: Promise<void> | undefined;

/**
 * Waits for the next turn of the event loop if this turn has been computing for long enough. The time is that of all
 * computations together: several fetches at once must not block the host for several times as long.
 */
export async function yieldToEventLoop(): Promise<void> {
  while (performance.now() - turnBegan >= YIELD_EVERY_MS) {
    nextTurn ??= setImmediate().then(() => {
      nextTurn = undefined;
      turnBegan = performance.now();
    });
    await nextTurn;
  }
}

/** A computation that yields after each short step. */
export type Steps<T> = Generator<void, T, void>;

/** Runs a computation to its end, and yields to the event loop between its steps. */
export async function runInSteps<T>(work: Steps<T>): Promise<T> {
  for (;;) {
    await yieldToEventLoop();
    const step = work.next();
    if (step.done) return step.value;
  }
}

/** Runs a computation to its end without yielding to the event loop. Its input must be known to be short. */
export function runAtOnce<T>(work: Steps<T>): T {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}

/** Counts small steps, so that a loop yields after every {@link STEPS_EACH} of them. */
export class StepCounter {
  #taken = 0;

  isDue(): boolean {
    return ++this.#taken % STEPS_EACH === 0;
  }
}
