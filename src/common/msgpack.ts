import { addExtension, Packr, Unpackr } from 'msgpackr';
import { BackupError, type BackupErrorCode } from './errors.ts';
import { MsgpackWalker } from './msgpack-walker.ts';

/**
 * MessagePack of plain values: nil, booleans, safe integers, floats, strings, bytes, arrays, and maps with string keys.
 *
 * What is decoded comes from a store that an attacker may write to. msgpackr allocates whatever length an array or a map
 * claims, and it knows extensions that make records, dates, errors and references. {@link MsgpackWalker} therefore walks the
 * bytes first: they pass only if every claimed length fits the bytes that follow, nesting is shallow, and all values are
 * plain. Short values are encoded and decoded in one call, here; long ones step by step, in `msgpack-writer.ts` and
 * `msgpack-reader.ts`.
 */

const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'number' });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

// In a vm context the `Uint8Array` of this module is not the class of Node's buffers. msgpackr knows only one of the two, and
// would write the other as a map.
const NodeBytes = Object.getPrototypeOf(Buffer) as typeof Uint8Array;
if (NodeBytes !== Uint8Array) {
  const knowsOurs = packr.pack(new Uint8Array(1))[0] === 0xc4;
  addExtension(
    knowsOurs
      ? { Class: NodeBytes, write: (bytes: Uint8Array) => new Uint8Array(bytes) }
      : { Class: Uint8Array, write: (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length) },
  );
}

/** Encodes a plain value. */
export function encodeMsgpack(value: unknown): Uint8Array<ArrayBuffer> {
  return new Uint8Array(encodedView(value));
}

/** As {@link encodeMsgpack}, but the result is a view of a larger buffer, which msgpackr does not write to again. */
export function encodedView(value: unknown): Uint8Array {
  return packr.pack(value);
}

/**
 * Decodes what {@link encodeMsgpack} made, in one step. It never allocates more than a small multiple of the input, because
 * lengths and numbers of values are checked first. Byte strings in the result are views of `bytes`.
 *
 * @throws `code` for anything else
 */
export function decodeMsgpack(bytes: Uint8Array, code: BackupErrorCode): unknown {
  try {
    const walker = new MsgpackWalker(bytes);
    walker.over();
    if (walker.position !== bytes.length) throw new RangeError('something follows the value');
    return unpackr.unpack(bytes.subarray()); // msgpackr leaves a property on the array that it is given, hence a new view.
  } catch (cause) {
    throw notPlain(code, cause);
  }
}

/** Decodes a sequence of values that a {@link MsgpackWalker} has checked. */
export function decodeWalked(bytes: Uint8Array): unknown[] {
  return unpackr.unpackMultiple(bytes) as unknown[];
}

export function notPlain(code: BackupErrorCode, cause: unknown): BackupError {
  return new BackupError(code, 'these bytes are not plain MessagePack', { cause });
}
