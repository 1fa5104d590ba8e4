import { BackupError } from '../common/errors.ts';

/** Whether a target has been closed. */
export class Lifetime {
  readonly #what: string;
  #closed = false;

  constructor(what: string) {
    this.#what = what;
  }

  /** May be called again. */
  close(): void {
    this.#closed = true;
  }

  /** Throws `CLOSED` after `close`, and the reason of a signal that has aborted. @returns the signal */
  check(signal: AbortSignal | undefined): AbortSignal | undefined {
    if (this.#closed) throw new BackupError('CLOSED', `${this.#what} is closed`);
    signal?.throwIfAborted();
    return signal;
  }
}
