/**
 * What a value is, whatever realm it comes from. Jest and `vm` contexts have a `Uint8Array`, an `Error` and a `Promise` of
 * their own. Node's buffers, errors and promises are no instances of them, so `instanceof` is false for all values from Node.
 */

/** Whether `value` is a `Uint8Array`; a `Buffer` is one. */
export function isBytes(value: unknown): value is Uint8Array {
  // `instanceof` costs nothing, and is true for nearly all.
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

/** Whether `value` is a `TypeError`, which is how this library and Node report misuse. */
export function isTypeError(value: unknown): value is TypeError {
  return isError(value) && value.name === 'TypeError';
}

/** Whether `value` has to be awaited. */
export function isPromise<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as Partial<PromiseLike<T>> | null | undefined)?.then === 'function';
}

/** Whether `value` carries a brand. Unlike `instanceof`, it recognises classes of another copy of this package. */
export function hasBrand(value: unknown, brand: symbol): boolean {
  return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[brand] === true;
}

function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}
