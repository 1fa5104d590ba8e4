import { described, signalArgument } from './arguments.ts';

/** The last argument of everything that waits. @public */
export interface AbortOptions {
  /** When it aborts, the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
}

/**
 * Settles as `work` does, or rejects with `signal.reason` as soon as `signal` aborts.
 *
 * For adapters over clients that know no `AbortSignal`. The work itself goes on: whatever buffer it was
 * given must not be used again after an abort, because it may still be sent or filled. A late failure
 * of abandoned work is not reported as unhandled.
 *
 * @public
 */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (typeof work?.then !== 'function') throw new TypeError(`work must be a promise, not ${described(work)}`);
  signalArgument('signal', signal);
  if (signal === undefined) return work;
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) {
      work.catch(() => {});
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
