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

  /** Throws `CLOSED` after `close`, and the reason of a signal that has aborted. */
  check(signal: AbortSignal | undefined): void {
    if (this.#closed) throw new BackupError('CLOSED', `${this.#what} is closed`);
    signal?.throwIfAborted();
  }
}
