/**
 * The result of work that goes on in the background. A failure that the host never looks at must neither end its process nor
 * stay unseen.
 */
export class BackgroundResult<T> {
  readonly #result: Promise<T>;
  #isObserved = false;

  /** @param onUnseen - called shortly after a failure that nobody had asked for */
  constructor(result: Promise<T>, onUnseen: (error: unknown) => void) {
    this.#result = result;
    result.catch((error: unknown) => {
      if (!this.#isObserved) setImmediate(() => onUnseen(error));
    });
  }

  /** For the host, which from now on handles a failure. */
  get observed(): Promise<T> {
    this.#isObserved = true;
    return this.#result;
  }

  /** Resolves when the work has ended, in whatever way. */
  async settled(): Promise<void> {
    await this.#result.catch(() => {});
  }
}
