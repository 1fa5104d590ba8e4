/** Callbacks whose failure has become a warning already. */
const warned = new WeakSet<object>();

/**
 * Calls a callback of the host's, if there is one: its mistakes stop nothing, and end no process. What it throws, or what a
 * promise that it returns rejects with, becomes one process warning for each callback.
 *
 * @param name - for the warning, as the option is called
 */
export function tell<Values extends unknown[]>(
  name: string,
  callback: ((...values: Values) => void) | undefined,
  ...values: Values
): void {
  if (callback === undefined) return;
  const warn = (thrown: unknown) => {
    if (warned.has(callback)) return;
    warned.add(callback);
    const detail = String((thrown as Error | undefined)?.stack ?? thrown);
    process.emitWarning(`${name} threw an error; the operation that called it continues`, {
      code: 'COW_CALLBACK_FAILED',
      detail,
    });
  };
  try {
    const returned: unknown = callback(...values);
    // An async function is one that returns nothing as far as the types know.
    if (typeof (returned as PromiseLike<unknown> | undefined)?.then === 'function') {
      (returned as PromiseLike<unknown>).then(undefined, warn);
    }
  } catch (thrown) {
    warn(thrown);
  }
}
