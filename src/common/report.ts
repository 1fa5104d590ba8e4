import { isPromise } from './realms.ts';

/** Callbacks whose failure has become a process warning already. */
const warned = new WeakSet<object>();

/**
 * Calls a callback of the host, if there is one. An error that it throws, or with which the promise that it returns
 * rejects, ends neither the operation nor the process: it becomes one process warning for each callback.
 */
export function report<Values extends unknown[]>(
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
    // An async function is assignable to one that returns nothing.
    if (isPromise(returned)) returned.then(undefined, warn);
  } catch (thrown) {
    warn(thrown);
  }
}
