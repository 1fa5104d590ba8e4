/**
 * What a value is, whichever realm it comes from. Jest and `vm` contexts have a `Uint8Array`, an `Error` and a `Promise` of
 * their own, and Node's buffers, errors and promises are not instances of them: `instanceof` says no to every answer of Node.
 */

/** Whether `value` is a `Uint8Array`; a `Buffer` is one. */
export function isBytes(value: unknown): value is Uint8Array {
  // First what costs nothing and holds for nearly all.
  return value instanceof Uint8Array || (ArrayBuffer.isView(value) && tagOf(value) === 'Uint8Array');
}

/** Whether `value` is an `ArrayBuffer`, and not shared memory. */
export function isArrayBuffer(value: unknown): value is ArrayBuffer {
  return value instanceof ArrayBuffer || tagOf(value) === 'ArrayBuffer';
}

/** Whether `value` is an `Error` of any class. */
export function isError(value: unknown): value is Error {
  return value instanceof Error || tagOf(value) === 'Error';
}

/** Whether `value` is a `TypeError`, by which this library and Node tell of misuse. */
export function isTypeError(value: unknown): value is TypeError {
  return isError(value) && value.name === 'TypeError';
}

/** Whether `value` has to be awaited. */
export function isPromise<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as Partial<PromiseLike<T>> | null | undefined)?.then === 'function';
}

/** Whether `value` carries a brand: also of a class of another copy of this package, which `instanceof` does not know. */
export function hasBrand(value: unknown, brand: symbol): boolean {
  return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[brand] === true;
}

function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}
