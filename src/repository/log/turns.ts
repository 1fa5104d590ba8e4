/** One at a time, in the order of asking. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `work` once everybody before has finished. Who aborts while waiting rejects at once and never runs. */
  async take<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const before = this.#last;
    const turn = Promise.withResolvers<void>();
    // Later ones wait for those before as well, also when this one gives up.
    this.#last = Promise.all([before, turn.promise]);
    try {
      await untilAborted(before, signal);
      return await work();
    } finally {
      turn.resolve();
    }
  }
}

function untilAborted(work: Promise<unknown>, signal: AbortSignal | undefined): Promise<unknown> {
  if (signal === undefined) return work;
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  return Promise.race([work, promise]).finally(() => signal.removeEventListener('abort', onAbort));
}
