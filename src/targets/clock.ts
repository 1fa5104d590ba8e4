/** Time, as the decorators that wait see it; injected so that tests need not wait. @public */
export interface TargetClock {
  /** Milliseconds from any fixed start, never going back. */
  now(): number;
  /** Resolves after so many milliseconds, or rejects with `signal.reason` as soon as `signal` aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** The longest that a timer of Node waits. Told to wait longer it fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The clock of the machine. */
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
