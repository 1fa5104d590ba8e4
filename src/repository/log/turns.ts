import { abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';

/** Work of this process at one thing, one after another. */
export class Turns {
  readonly #timeoutMs: number;
  /** Settles when every turn that was asked for is over. */
  #last: Promise<unknown> = Promise.resolve();

  /** @param timeoutMs - how long one turn may take */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Runs `work` when all turns that were asked for before are over. A call that is aborted while it waits rejects at once, and
   * its `work` never runs.
   *
   * No turn lasts longer than the option allows, whatever a target does, because every other operation of the process waits
   * for it (decision 116). `work` must end when the signal that it is given aborts: with the caller's reason, or with
   * `TARGET_TIMEOUT`.
   */
  async take<T>(work: (ending: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const before = this.#last;
    const turn = Promise.withResolvers<void>();
    // Later turns wait for the earlier ones too, if this call gives up while it waits.
    this.#last = Promise.all([before, turn.promise]);
    const ending = new AbortController();
    const onAbort = () => ending.abort(signal?.reason);
    const onTimeout = () => ending.abort(timedOut(this.#timeoutMs));
    let timer: NodeJS.Timeout | undefined;
    try {
      await abortable(before, signal);
      timer = setTimeout(onTimeout, this.#timeoutMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      return await work(ending.signal);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      turn.resolve();
    }
  }
}

function timedOut(timeoutMs: number): BackupError {
  const message = `the log could not be read or written within ${timeoutMs} ms, because the store answers too slowly or not at all: try again when it answers`;
  return new BackupError('TARGET_TIMEOUT', message, { retryable: true });
}
