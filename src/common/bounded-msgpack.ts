import { addExtension, Packr, Unpackr } from 'msgpackr';
import { BackupError, type BackupErrorCode } from './errors.ts';

/**
 * MessagePack from a stranger. msgpackr takes an array's or a map's claimed length at its word and allocates it, and
 * knows extensions that make records, dates, errors and references; so the bytes are walked first, and pass only if
 * every claimed length fits what follows, nesting is shallow and there is nothing but plain values.
 */

const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'number' });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });
const MAX_DEPTH = 16;
/**
 * An empty map is one byte, and some fifty in memory: so values that take much more than their bytes are counted. Nothing
 * that {@link encodePlain} is given here comes near: maps have fields, arrays and byte strings hold something.
 */
const LEAST_MAP_BYTES = 32;
const LEAST_VALUE_BYTES = 4;
const FREE_MAPS = 4096;
const FREE_VALUES = 65_536;

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
  return new Uint8Array(packr.pack(value));
}

/**
 * Decodes what {@link encodePlain} made, or rejects it with `code`. Never allocates more than a small multiple of the
 * input: lengths and numbers of values are checked before anything is made. Byte strings in the result are views of `bytes`.
 */
export function decodePlain(bytes: Uint8Array, code: BackupErrorCode): unknown {
  try {
    const walker = new Walker(bytes);
    walker.value(0);
    if (walker.position !== bytes.length) throw new RangeError('something follows the value');
    return unpackr.unpack(bytes.subarray()); // A view of our own: msgpackr leaves a property on what it is given.
  } catch (cause) {
    throw new BackupError(code, 'these bytes are not plain MessagePack', { cause });
  }
}

class Walker {
  position = 0;
  readonly #view: DataView;
  #mapsLeft: number;
  /** Maps, arrays and byte strings. */
  #valuesLeft: number;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#mapsLeft = FREE_MAPS + bytes.byteLength / LEAST_MAP_BYTES;
    this.#valuesLeft = FREE_VALUES + bytes.byteLength / LEAST_VALUE_BYTES;
  }

  /** Steps over one value; a `RangeError` when it is not there in full or not plain. */
  value(depth: number): void {
    if (depth > MAX_DEPTH) throw new RangeError('nested too deeply');
    const type = this.#unsigned(1);
    if (type <= 0x7f || type >= 0xe0) return; // fixint
    if (type <= 0x8f) {
      this.#entries(type & 0x0f, 2, depth);
      return;
    }
    if (type <= 0x9f) {
      this.#entries(type & 0x0f, 1, depth);
      return;
    }
    if (type <= 0xbf) {
      this.#skip(type & 0x1f);
      return;
    }
    switch (type) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        return;
      case 0xc4: // bin 8, 16, 32
      case 0xc5:
      case 0xc6:
        this.#count(1);
        this.#skip(this.#unsigned(1 << (type - 0xc4)));
        return;
      case 0xca: // float 32, 64
      case 0xcb:
        this.#skip(4 << (type - 0xca));
        return;
      case 0xcc: // unsigned 8 ... 64
      case 0xcd:
      case 0xce:
      case 0xcf:
        this.#skip(1 << (type - 0xcc));
        return;
      case 0xd0: // signed 8 ... 64
      case 0xd1:
      case 0xd2:
      case 0xd3:
        this.#skip(1 << (type - 0xd0));
        return;
      case 0xd9: // string 8, 16, 32
      case 0xda:
      case 0xdb:
        this.#skip(this.#unsigned(1 << (type - 0xd9)));
        return;
      case 0xdc: // array 16, 32
      case 0xdd:
        this.#entries(this.#unsigned(2 << (type - 0xdc)), 1, depth);
        return;
      case 0xde: // map 16, 32
      case 0xdf:
        this.#entries(this.#unsigned(2 << (type - 0xde)), 2, depth);
        return;
      default:
        throw new RangeError(`type 0x${type.toString(16)} is not allowed`);
    }
  }

  #entries(count: number, valuesEach: number, depth: number): void {
    this.#count(valuesEach);
    const values = count * valuesEach;
    if (values > this.#view.byteLength - this.position)
      throw new RangeError('claims more entries than there are bytes');
    for (let i = 0; i < values; i++) this.value(depth + 1);
  }

  #count(valuesEach: number): void {
    if (valuesEach === 2 && --this.#mapsLeft < 0) throw new RangeError('too many maps for its length');
    if (--this.#valuesLeft < 0) throw new RangeError('too many values for its length');
  }

  #unsigned(size: number): number {
    const at = this.position;
    this.#skip(size);
    if (size === 1) return this.#view.getUint8(at);
    return size === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #skip(size: number): void {
    this.position += size;
    if (this.position > this.#view.byteLength) throw new RangeError('ends in the middle of a value');
  }
}
