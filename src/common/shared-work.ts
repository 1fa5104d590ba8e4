import { abortable } from './abort.ts';

/**
 * Work that several callers wait for. One caller's abort does not end it for the others. When no caller waits any more it is
 * abandoned, and its owner has to begin anew for the next caller: the other side may never answer what was asked before.
 */
export class SharedWork<T> {
  readonly #result: Promise<T>;
  readonly #abandoned = new AbortController();
  #waiting = 0;
  #isOver = false;

  /** @param work - should end when the signal that it is given aborts */
  constructor(work: (abandoned: AbortSignal) => Promise<T>) {
    this.#result = work(this.#abandoned.signal).finally(() => {
      this.#isOver = true;
    });
    this.#result.catch(() => {}); // All callers may have given up.
  }

  get isAbandoned(): boolean {
    return this.#abandoned.signal.aborted;
  }

  /** Settles as the work does, or rejects with `signal.reason` as soon as `signal` aborts. */
  async wait(signal: AbortSignal | undefined): Promise<T> {
    if (this.#isOver) {
      signal?.throwIfAborted();
      return this.#result;
    }
    this.#waiting++;
    try {
      return await abortable(this.#result, signal);
    } finally {
      if (--this.#waiting === 0 && !this.#isOver) this.#abandoned.abort();
    }
  }
}
