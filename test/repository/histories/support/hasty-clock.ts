import type { TargetClock } from '../../../../src/common/clock.ts';

export const LONGEST_TIMER_MS = 2 ** 31 - 1;

let sleptMs = 0;

/**
 * A clock on which nobody waits, for `vi.mock` in place of `src/common/clock.ts`: between two tries of a request there is one
 * turn of the event loop, and the clock says that the pause is over. So waiting for an outage ends too.
 */
export const systemClock: TargetClock = {
  now: () => performance.now() + sleptMs,
  async sleep(delayMs, signal) {
    sleptMs += delayMs;
    await new Promise((resolve) => setImmediate(resolve));
    signal?.throwIfAborted();
  },
};
