import { addExtension, Packr, Unpackr } from 'msgpackr';
import { BackupError, type BackupErrorCode } from './errors.ts';
import { PlainWalker } from './plain-walker.ts';

/**
 * MessagePack from a stranger. msgpackr takes an array's or a map's claimed length at its word and allocates it, and
 * knows extensions that make records, dates, errors and references; so the bytes are walked first, and pass only if
 * every claimed length fits what follows, nesting is shallow and there is nothing but plain values.
 */

const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'number' });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

// In a vm context the `Uint8Array` of this module is not that of Node's buffers, and msgpackr knows one of the two: the
// other would be written as a map.
const NodeBytes = Object.getPrototypeOf(Buffer) as typeof Uint8Array;
if (NodeBytes !== Uint8Array) {
  const knowsOurs = packr.pack(new Uint8Array(1))[0] === 0xc4;
  addExtension(
    knowsOurs
      ? { Class: NodeBytes, write: (bytes: Uint8Array) => new Uint8Array(bytes) }
      : { Class: Uint8Array, write: (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length) },
  );
}

/** Encodes plain values (nil, booleans, safe integers, floats, strings, bytes, arrays, maps with string keys). */
export function encodePlain(value: unknown): Uint8Array<ArrayBuffer> {
  return new Uint8Array(encodedView(value));
}

/** As {@link encodePlain}, as a view of memory that msgpackr writes to no more. */
export function encodedView(value: unknown): Uint8Array {
  return packr.pack(value);
}

/**
 * Decodes what {@link encodePlain} made, or rejects it with `code`. Never allocates more than a small multiple of the
 * input: lengths and numbers of values are checked before anything is made. Byte strings in the result are views of `bytes`.
 *
 * All of it is done in one step: for what is short. See {@link PlainReader} for the rest.
 */
export function decodePlain(bytes: Uint8Array, code: BackupErrorCode): unknown {
  try {
    const walker = new PlainWalker(bytes);
    walker.over();
    if (walker.position !== bytes.length) throw new RangeError('something follows the value');
    return unpackr.unpack(bytes.subarray()); // A view of our own: msgpackr leaves a property on what it is given.
  } catch (cause) {
    throw notPlain(code, cause);
  }
}

/** The values that stand one after another in bytes which a {@link PlainWalker} has stepped over. */
export function decodeWalked(bytes: Uint8Array): unknown[] {
  return unpackr.unpackMultiple(bytes) as unknown[];
}

export function notPlain(code: BackupErrorCode, cause: unknown): BackupError {
  return new BackupError(code, 'these bytes are not plain MessagePack', { cause });
}
