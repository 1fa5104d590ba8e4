import { described, optionsArgument, signalArgument } from './arguments.ts';

/** The last argument of every call that waits. @public */
export interface AbortOptions {
  /** When it aborts, the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
}

const ABORT_OPTIONS = { signal: true } as const satisfies Record<keyof AbortOptions, true>;

/** Checks options of which `signal` is the only one, and throws the signal's reason if it has aborted. */
export function abortOptionsArgument(options: AbortOptions | undefined): AbortSignal | undefined {
  if (options === undefined) return undefined;
  const signal = signalArgument('options.signal', optionsArgument('options', options, ABORT_OPTIONS).signal);
  signal?.throwIfAborted();
  return signal;
}

/**
 * Settles as `work` does, or rejects with `signal.reason` as soon as `signal` aborts.
 *
 * Adapters need it for clients that do not take an `AbortSignal`. The work itself continues after an abort: a buffer that it
 * was given must not be used again, because it may still be sent or filled. A later failure of that work is not reported as
 * unhandled.
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

/** How long after an abort {@link pastAbort} waits for its work, in milliseconds. */
export const ABORT_GRACE_MS = 10_000;

/**
 * Runs `work` to its end although `signal` aborts, because its outcome is worth a wait. The wait is bounded, since the other
 * side may never answer: {@link ABORT_GRACE_MS} after the abort, the signal that `work` is given aborts.
 *
 * @param reason - makes the reason that the signal of `work` aborts with
 */
export async function pastAbort<T>(
  signal: AbortSignal | undefined,
  work: (givenUp: AbortSignal) => Promise<T>,
  reason: () => unknown,
): Promise<T> {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(() => controller.abort(reason()), ABORT_GRACE_MS);
  };
  if (signal?.aborted) onAbort();
  else signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}
