import { setTimeout as timeout } from 'node:timers/promises';

/** Time, as the decorators that wait see it; injected so that tests need not wait. @public */
export interface TargetClock {
  /** Milliseconds from any fixed start, never going back. */
  now(): number;
  /** Resolves after so many milliseconds, or rejects with `signal.reason` as soon as `signal` aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** The clock of the machine. */
export const systemClock: TargetClock = {
  now: () => performance.now(),
  async sleep(delayMs, signal) {
    try {
      await timeout(delayMs, undefined, { signal });
    } catch (error) {
      signal?.throwIfAborted(); // Node wraps the reason in an AbortError; callers are promised the reason itself.
      throw error;
    }
  },
};
