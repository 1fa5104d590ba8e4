import { BackupError } from '../common/errors.ts';

/** What a target remembers of having been closed. */
export class Lifetime {
  readonly #what: string;
  #closed = false;

  constructor(what: string) {
    this.#what = what;
  }

  /** Closing twice is the same as closing once. */
  close(): void {
    this.#closed = true;
  }

  /** Throws `CLOSED` after `close`, and the reason of a signal that has aborted already. */
  check(signal: AbortSignal | undefined): void {
    if (this.#closed) throw new BackupError('CLOSED', `${this.#what} is closed`);
    signal?.throwIfAborted();
  }
}
