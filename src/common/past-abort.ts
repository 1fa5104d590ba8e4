/** For how long what was begun is waited for after an abort. */
export const ABORT_GRACE_MS = 10_000;

/**
 * Runs `work` past an abort of `signal`, where its outcome is worth a wait. Not worth any wait, though: who is asked may never
 * answer. Some seconds after the abort the signal that `work` is given aborts.
 *
 * @param reason - what that signal aborts with
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
