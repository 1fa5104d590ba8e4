import { setImmediate } from 'node:timers/promises';

/** How long opening records may keep everything else of this process waiting, in milliseconds. */
const TURN_MS = 4;

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
