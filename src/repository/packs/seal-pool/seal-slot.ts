import type { SlotMemory } from './seal-service.ts';

/** A slot's memory and what the pool knows of it. */
export interface SlotState {
  readonly index: number;
  readonly memory: SlotMemory;
  /** A task on it is queued or under way; only that task may touch it. */
  busy: boolean;
  /** No caller holds it, though it may still be busy. */
  released: boolean;
}

/**
 * A buffer of blocks that one caller holds, from `acquire` to `release`. Views of it must not be used afterwards. Do not
 * read into it while a task on it is under way, and do not release it while a device may still be reading into it.
 */
export class SealSlot {
  /** Plaintext goes here: block `i` at `i * blockSize`. Shared memory. */
  readonly input: Uint8Array;
  readonly state: SlotState;
  /** Bytes of each block, as given to `identify`. */
  lengths: readonly number[] | undefined;
  /** Whether each block has an id: blocks of zeroes have none. */
  identified: readonly boolean[] = [];
  readonly #onRelease: (state: SlotState) => void;
  #released = false;

  constructor(state: SlotState, onRelease: (state: SlotState) => void) {
    this.state = state;
    this.input = state.memory.input;
    this.#onRelease = onRelease;
  }

  get released(): boolean {
    return this.#released;
  }

  /** Gives the slot back. If a task on it is under way, the next caller gets it when the task is over. Idempotent. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#onRelease(this.state);
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/**
 * Callers that wait for a slot, served in the order in which they came. This is no queue of work, as `p-queue` is one: what is
 * handed out is a slot, which comes back at another time than the work on it ends.
 */
export class Waiters<T> {
  readonly #waiting = new Set<{ resolve(value: T): void; reject(error: unknown): void }>();

  /** Resolves when {@link Waiters.serve} gives it something. A caller that has aborted is given nothing. */
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

  /** Gives `value` to the one that has waited longest. There must be one. */
  serve(value: T): void {
    const [first] = this.#waiting;
    if (first === undefined) throw new RangeError('no caller is waiting');
    this.#waiting.delete(first);
    first.resolve(value);
  }

  rejectAll(error: unknown): void {
    for (const waiter of this.#waiting) waiter.reject(error);
    this.#waiting.clear();
  }
}
