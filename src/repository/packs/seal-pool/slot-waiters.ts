/** Callers who wait for something that there is a bounded number of, served in the order in which they came. */
export class Waiters<T> {
  readonly #waiting = new Set<{ resolve(value: T): void; reject(error: unknown): void }>();

  /** Resolves when {@link Waiters.serve} gives it something. A caller who has aborted is given nothing. */
  wait(signal: AbortSignal | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiting.delete(waiter);
        reject(signal?.reason);
      };
      const settled = () => signal?.removeEventListener('abort', leave);
      const waiter = {
        resolve: (value: T) => {
          settled();
          resolve(value);
        },
        reject: (error: unknown) => {
          settled();
          reject(error);
        },
      };
      this.#waiting.add(waiter);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }

  get count(): number {
    return this.#waiting.size;
  }

  /** Gives `value` to the one that has waited longest. There must be somebody. */
  serve(value: T): void {
    const [first] = this.#waiting;
    if (first === undefined) throw new RangeError('nobody is waiting');
    this.#waiting.delete(first);
    first.resolve(value);
  }

  rejectAll(error: unknown): void {
    for (const waiter of this.#waiting) waiter.reject(error);
    this.#waiting.clear();
  }
}
