import { abortable } from '../common/abort.ts';

/**
 * Holds new writes for the moment that an instant takes, and knows when those at the device have landed. Rule R9.
 *
 * Only what the device has lengthens a hold. A write that is still preserving when one begins goes on preserving, and
 * then waits here like a new one; it has issued nothing yet, and tests again what it needs.
 */
export class WriteGate {
  /** Writes that the device has and has not settled. */
  inFlight = 0;
  #holds = 0;
  #isShut = false;
  #opened: PromiseWithResolvers<void> | undefined;
  #landed: PromiseWithResolvers<void> | undefined;

  /** Whether a write may pass at once. */
  get isOpen(): boolean {
    // @mutation gate-holds
    return this.#holds === 0;
  }

  /** Holds new writes until the result is called. Several may hold at once. */
  hold(): () => void {
    this.#holds++;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#holds--;
      if (this.#holds === 0) {
        this.#opened?.resolve();
        this.#opened = undefined;
      }
    };
  }

  /** The volume closes: who waits goes on at once, and finds that out. */
  shut(): void {
    this.#isShut = true;
    this.#opened?.resolve();
  }

  /** Waits until nobody holds, or the gate is shut. */
  async pass(signal: AbortSignal | undefined): Promise<void> {
    while (!this.isOpen && !this.#isShut) {
      this.#opened ??= Promise.withResolvers<void>();
      await abortable(this.#opened.promise, signal);
    }
  }

  /** A write goes to the device. */
  enter(): void {
    this.inFlight++;
  }

  /** The device has settled a write, one way or the other. */
  leave(): void {
    this.inFlight--;
    if (this.inFlight === 0 && this.#landed !== undefined) {
      this.#landed.resolve();
      this.#landed = undefined;
    }
  }

  /** Resolves when nothing is at the device; something may be again by the time that the caller runs. */
  landed(): Promise<void> {
    if (this.inFlight === 0) return Promise.resolve();
    this.#landed ??= Promise.withResolvers<void>();
    return this.#landed.promise;
  }
}
