import { bytesArgument, described, integerArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import type { BlockDevice } from './block-device.ts';
import { type Bounds, checkSpan } from './span.ts';

/** What is checked at the door of every device: the values that callers pass in, and the devices and stores themselves. */

/** Throws unless `bytes` is a `Uint8Array` that is whole sectors and fits at `offset`. */
export function checkTransfer(bounds: Bounds, name: 'into' | 'from', offset: number, bytes: Uint8Array): void {
  checkBytes(name, bytes);
  checkSpan(bounds, offset, bytes.length);
}

/** As `bytesArgument`, which knows those of another realm too and costs as much as a small write to memory. */
export function checkBytes(name: string, bytes: Uint8Array): void {
  if (!(bytes instanceof Uint8Array && bytes.length > 0)) bytesArgument(name, bytes);
}

/**
 * Throws unless a buffer is as long as it was at the door. Memory of WebAssembly and resizable buffers change under a
 * call that waits: then more or less than what was checked would be moved.
 */
export function checkLength(name: 'into' | 'from', bytes: Uint8Array, length: number): void {
  if (bytes.length === length) return;
  const now = `it had ${length} bytes and has ${bytes.length} now`;
  throw new TypeError(`${name} is a view of memory that was detached or resized during the call: ${now}`);
}

/** A view of the same bytes that does not grow with its buffer. */
export function fixedView(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Returns `value` when it has the obligatory parts of a `BlockDevice`, else throws a `TypeError` that names it. */
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

/** Throws unless `value` is an object with these methods, its own or inherited. */
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

/** What a closed device answers. */
export function closedError(what: string): BackupError {
  return new BackupError('CLOSED', `${what} is closed`);
}
