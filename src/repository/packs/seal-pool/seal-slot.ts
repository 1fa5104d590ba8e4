import type { SlotMemory } from './slot-memory.ts';

/** A slot's memory and what the pool knows of it. */
export interface SlotPlace {
  readonly index: number;
  readonly memory: SlotMemory;
  /** A task on it is queued or under way; nobody else may touch it. */
  busy: boolean;
  /** Nobody holds it, though it may still be busy. */
  released: boolean;
}

/**
 * A buffer of blocks that one caller holds, from `acquire` to `release`. Views that it gave are not to be used
 * afterwards. Read into no part of it while a task of its is under way, nor release it while a device may still be
 * reading into it.
 */
export class SealSlot {
  /** Plaintext goes here: block `i` at `i * blockSize`. Shared memory. */
  readonly input: Uint8Array;
  /** @internal */
  readonly place: SlotPlace;
  /** Bytes of each block, as `identify` was told. @internal */
  lengths: readonly number[] | undefined;
  /** Whether each block has an id: those of zeroes have none. @internal */
  identified: readonly boolean[] = [];
  readonly #onRelease: (place: SlotPlace) => void;
  #released = false;

  /** @internal */
  constructor(place: SlotPlace, onRelease: (place: SlotPlace) => void) {
    this.place = place;
    this.input = place.memory.input;
    this.#onRelease = onRelease;
  }

  get released(): boolean {
    return this.#released;
  }

  /** Gives the slot back. One that a task is still busy with is given to the next caller when that is over. Idempotent. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#onRelease(this.place);
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
