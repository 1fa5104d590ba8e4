import type { TargetClock } from '../../../../src/target/clock.ts';

/**
 * A clock on which nobody waits, for `vi.mock` in place of `src/target/clock.ts`: between two tries of a log entry there
 * is one turn of the event loop.
 */
export const systemClock: TargetClock = {
  now: () => performance.now(),
  async sleep(_delayMs, signal) {
    await new Promise((resolve) => setImmediate(resolve));
    signal?.throwIfAborted();
  },
};
