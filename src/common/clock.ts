/** Time, as operations that wait see it. Tests inject one, so that they need not wait. @public */
export interface TargetClock {
  /** Milliseconds from any fixed start. The value never decreases. */
  now(): number;
  /** Resolves after `delayMs` milliseconds, or rejects with `signal.reason` as soon as `signal` aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** The longest delay that a timer of Node takes, in milliseconds. A timer with a longer delay fires at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The clock of this machine. */
export const systemClock: TargetClock = {
  now: () => performance.now(),
  async sleep(delayMs, signal) {
    let left = delayMs;
    do {
      const slice = Math.min(left, LONGEST_TIMER_MS);
      await wait(slice, signal);
      left -= slice;
    } while (left > 0);
  },
};

function wait(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, delayMs);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
