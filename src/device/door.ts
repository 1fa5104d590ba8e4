import { bytesArgument, described, integerArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import type { BlockDevice } from './block-device.ts';
import { type Bounds, checkSpan } from './span.ts';

/** The checks of arguments that all devices share. */

/** Throws unless `bytes` is a `Uint8Array` of whole sectors that lies within the device at `offset`. */
export function checkTransfer(bounds: Bounds, name: 'into' | 'from', offset: number, bytes: Uint8Array): void {
  checkBytes(name, bytes);
  checkSpan(bounds, offset, bytes.length);
}

/** Does what `bytesArgument` does, which recognises arrays of other realms, too, but costs as much as a small write to memory. */
export function checkBytes(name: string, bytes: Uint8Array): void {
  if (!(bytes instanceof Uint8Array && bytes.length > 0)) bytesArgument(name, bytes);
}

/**
 * Throws unless a buffer has the same length as when the call began. Memory of WebAssembly and resizable buffers may change during
 * a call that waits, and other bytes than those that were checked would be moved.
 */
export function checkLength(name: 'into' | 'from', bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) throw lengthError(name, bytes, length);
}

export function lengthError(name: 'into' | 'from', bytes: Uint8Array, length: number): TypeError {
  const now = `it had ${length} bytes and has ${bytes.length} now`;
  return new TypeError(`${name} is a view of memory that was detached or resized during the call: ${now}`);
}

/** Returns a view of the same bytes that does not grow with its buffer. */
export function fixedView(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Returns `value` if it has the required members of a `BlockDevice`, else throws a `TypeError` that names it. */
export function deviceArgument(name: string, value: BlockDevice): BlockDevice {
  objectWith(name, 'a BlockDevice', value, ['read', 'write', 'flush', Symbol.asyncDispose]);
  integerArgument(`${name}.sectorSize`, value.sectorSize, 1);
  integerArgument(`${name}.size`, value.size, 0);
  if (value.size % value.sectorSize !== 0) {
    throw new TypeError(`${name}.size is ${value.size} and must be whole sectors of ${value.sectorSize} bytes`);
  }
  if (value.maxTransferBytes !== undefined) integerArgument(`${name}.maxTransferBytes`, value.maxTransferBytes, 1);
  return value;
}

/** Throws unless `value` is an object with `methods`, which may be inherited. */
export function objectWith(name: string, what: string, value: unknown, methods: readonly (string | symbol)[]): void {
  if (typeof value !== 'object' || value === null) {
    throw new TypeError(`${name} must be ${what}, not ${described(value)}`);
  }
  for (const method of methods) {
    if (typeof (value as Record<string | symbol, unknown>)[method] !== 'function') {
      throw new TypeError(`${name} must be ${what}, but it has no method ${String(method)}`);
    }
  }
}

/** The error of calls to a closed device. */
export function closedError(what: string): BackupError {
  return new BackupError('CLOSED', `${what} is closed`);
}
