interface Holder {
  readonly first: number;
  readonly last: number;
  released: Promise<void>;
  release: () => void;
}

/** Exclusive use of runs of numbers (sectors), in the order in which it was asked for where runs overlap. */
export class SpanLock {
  readonly #holders: Holder[] = [];

  /** Whether somebody has, or waits for, any number from `first` to `last`. */
  isHeld(first: number, last: number): boolean {
    return this.#holders.some((holder) => holder.first <= last && first <= holder.last);
  }

  /** Waits for everybody who asked earlier for any of `first` to `last`, and then has them until it calls the result. */
  async acquire(first: number, last: number): Promise<() => void> {
    const before = this.#holders.filter((holder) => holder.first <= last && first <= holder.last);
    const { promise, resolve } = Promise.withResolvers<void>();
    const mine: Holder = { first, last, released: promise, release: resolve };
    this.#holders.push(mine);
    await Promise.all(before.map((holder) => holder.released));
    return () => {
      this.#holders.splice(this.#holders.indexOf(mine), 1);
      mine.release();
    };
  }
}
