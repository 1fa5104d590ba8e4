import { isUtf8 } from 'node:buffer';

/** Arrays and maps inside one another, the outermost counted. */
const MAX_DEPTH = 16;
/** No stored text is longer. A longer one would be decoded in one long step. */
const MAX_TEXT_BYTES = 2 ** 20;
/**
 * An empty map is one byte long and takes some fifty in memory. Values that take much more memory than they have bytes are
 * therefore counted. Nothing that this library encodes comes near these limits, because its containers are not empty.
 */
const LEAST_MAP_BYTES = 32;
const LEAST_VALUE_BYTES = 4;
const FREE_MAPS = 4096;
const FREE_VALUES = 65_536;
/** Keys of a map that are compared one by one. Those of larger maps are kept in a set. */
const KEYS_COMPARED = 16;
/** Texts of more bytes are checked by Node, whose call takes as long as looking at some dozen bytes here. */
const SHORT_TEXT_BYTES = 48;

/** A position to return to. */
export interface WalkerMark {
  readonly position: number;
  readonly mapsLeft: number;
  readonly valuesLeft: number;
  readonly allLeft: number;
}

/** The head of an array or a map. */
export interface MsgpackHead {
  readonly isMap: boolean;
  /** The number of elements of an array, or of keys and values of a map. */
  readonly values: number;
}

/** The key that msgpackr renames, and that other decoders take for a prototype. */
const RENAMED_KEY = '__proto__';

/** The keys of one map. What two decoders make of a key that occurs twice may differ. */
class MapKeys {
  readonly #bytes: Uint8Array;
  readonly #hashes: number[] = [];
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  #count = 0;
  #all: Set<string> | undefined;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** For the next map. */
  clear(): void {
    this.#count = 0;
    this.#all = undefined;
  }

  /** Adds the key whose text is in these bytes. */
  add(start: number, end: number): void {
    if (end - start === RENAMED_KEY.length && this.#text(start, end) === RENAMED_KEY) throw keyRefused(RENAMED_KEY);
    const count = this.#count++;
    if (count < KEYS_COMPARED ? this.#isSame(start, end, count) : this.#isInSet(start, end, count)) {
      throw new RangeError('a key occurs twice');
    }
  }

  #isSame(start: number, end: number, count: number): boolean {
    const hash = this.#hashOf(start, end);
    for (let index = 0; index < count; index++) {
      if (this.#hashes[index] !== hash) continue;
      if (this.#text(this.#starts[index] as number, this.#ends[index] as number) === this.#text(start, end))
        return true;
    }
    this.#hashes[count] = hash;
    this.#starts[count] = start;
    this.#ends[count] = end;
    return false;
  }

  #isInSet(start: number, end: number, count: number): boolean {
    let all = this.#all;
    if (all === undefined) {
      all = new Set();
      for (let index = 0; index < KEYS_COMPARED; index++) {
        all.add(this.#text(this.#starts[index] as number, this.#ends[index] as number));
      }
      this.#all = all;
    }
    return all.add(this.#text(start, end)).size === count;
  }

  #hashOf(start: number, end: number): number {
    let hash = end - start;
    for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + (this.#bytes[at] as number)) | 0;
    return hash;
  }

  /** One character for each byte. */
  #text(start: number, end: number): string {
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + start, end - start).toString('latin1');
  }
}

/** The error for a key that no plain map has. */
export function keyRefused(key: string): RangeError {
  return new RangeError(`no key may be ${key}`);
}

/**
 * Checks MessagePack without decoding it. All methods throw a `RangeError` for values that are incomplete, not plain, or claim
 * more than the bytes can hold. What passes is read alike by every decoder: keys differ, texts are UTF-8, and numbers are ones
 * that a double can hold.
 */
export class MsgpackWalker {
  position = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** The number of containers that were entered and not left. */
  #entered = 0;
  /** For each container within the value that is being skipped: the values that are left, and the keys if it is a map. */
  readonly #left: number[] = [];
  readonly #keys: (MapKeys | undefined)[] = [];
  /** By depth, to be used for each map there. */
  readonly #keysByDepth: MapKeys[] = [];
  /** Where the text of the last head begins. */
  #textAt = 0;
  /** Whether the last head was that of a map. */
  #isMap = false;
  #mapsLeft: number;
  /** The number of further maps, arrays and byte strings that the bytes may hold. */
  #valuesLeft: number;
  /** The number of further values of any kind. */
  #allLeft = Infinity;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#mapsLeft = FREE_MAPS + bytes.byteLength / LEAST_MAP_BYTES;
    this.#valuesLeft = FREE_VALUES + bytes.byteLength / LEAST_VALUE_BYTES;
  }

  /**
   * Skips the value that begins here.
   *
   * @param limit - the position at which to stop within the value; the next call continues from there
   * @returns whether the end of the value was reached
   */
  over(limit = Infinity): boolean {
    const left = this.#left;
    do {
      if (this.position >= limit) return false;
      const top = left.length - 1;
      const keys = top >= 0 && (left[top] as number) % 2 === 0 ? this.#keys[top] : undefined;
      const values = this.#head(keys !== undefined);
      keys?.add(this.#textAt, this.position);
      if (top >= 0) left[top] = (left[top] as number) - 1;
      if (values > 0) {
        left.push(values);
        this.#keys.push(this.#isMap ? this.#keysAt(top + 1) : undefined);
      }
      while (left.length > 0 && left[left.length - 1] === 0) {
        left.pop();
        this.#keys.pop();
      }
    } while (left.length > 0);
    return true;
  }

  mark(): WalkerMark {
    return { position: this.position, mapsLeft: this.#mapsLeft, valuesLeft: this.#valuesLeft, allLeft: this.#allLeft };
  }

  /** Returns to the beginning of a value. */
  reset({ position, mapsLeft, valuesLeft, allLeft }: WalkerMark): void {
    this.position = position;
    this.#mapsLeft = mapsLeft;
    this.#valuesLeft = valuesLeft;
    this.#allLeft = allLeft;
    this.#left.length = 0;
    this.#keys.length = 0;
  }

  /** Limits how many values of any kind may follow. */
  limit(values: number): void {
    this.#allLeft = values;
  }

  /** Enters the array or map that begins here: its values are walked one by one. */
  enter(): MsgpackHead {
    this.#isMap = false;
    const before = this.position;
    const type = this.#view.byteLength > before ? this.#view.getUint8(before) : 0;
    const isContainer = (type >= 0x80 && type <= 0x9f) || (type >= 0xdc && type <= 0xdf);
    if (!isContainer) throw new RangeError('neither an array nor a map');
    const values = this.#head(false);
    this.#entered++;
    return { isMap: (type & 0xf0) === 0x80 || type >= 0xde, values };
  }

  leave(): void {
    this.#entered--;
  }

  /** Skips the head of a container, or the whole of any other value. @returns the number of values in the container */
  #head(isKey: boolean): number {
    if (--this.#allLeft < 0) throw new RangeError('too many values');
    const type = this.#unsigned(1);
    if (isKey && !(type >= 0xa0 && type <= 0xbf) && !(type >= 0xd9 && type <= 0xdb)) {
      throw new RangeError('a key is not a text');
    }
    if (type <= 0x7f || type >= 0xe0) return 0; // fixint
    if (type <= 0x8f) return this.#container(type & 0x0f, true);
    if (type <= 0x9f) return this.#container(type & 0x0f, false);
    if (type <= 0xbf) return this.#text(type & 0x1f);
    if (type === 0xc0 || type === 0xc2 || type === 0xc3) return 0; // nil, false, true
    if (type >= 0xc4 && type <= 0xc6) {
      this.#count(false); // bin 8, 16, 32
      return this.#skip(this.#unsigned(1 << (type - 0xc4)));
    }
    if (type >= 0xca && type <= 0xcb) return this.#float(4 << (type - 0xca)); // float 32, 64
    if (type >= 0xcc && type <= 0xce) return this.#skip(1 << (type - 0xcc)); // unsigned 8, 16, 32
    if (type >= 0xd0 && type <= 0xd2) return this.#skip(1 << (type - 0xd0)); // signed 8, 16, 32
    if (type === 0xcf || type === 0xd3) return this.#long(type === 0xd3); // unsigned, signed 64
    if (type >= 0xd9 && type <= 0xdb) return this.#text(this.#unsigned(1 << (type - 0xd9))); // string 8, 16, 32
    if (type >= 0xdc && type <= 0xdd) return this.#container(this.#unsigned(2 << (type - 0xdc)), false); // array 16, 32
    if (type >= 0xde && type <= 0xdf) return this.#container(this.#unsigned(2 << (type - 0xde)), true); // map 16, 32
    throw new RangeError(`type 0x${type.toString(16)} is not allowed`);
  }

  #container(count: number, isMap: boolean): number {
    if (this.#entered + this.#left.length >= MAX_DEPTH) throw new RangeError('nested too deeply');
    this.#isMap = isMap;
    this.#count(isMap);
    const values = isMap ? count * 2 : count;
    if (values > this.#view.byteLength - this.position)
      throw new RangeError('claims more entries than there are bytes');
    return values;
  }

  #count(isMap: boolean): void {
    if (isMap && --this.#mapsLeft < 0) throw new RangeError('too many maps for its length');
    if (--this.#valuesLeft < 0) throw new RangeError('too many values for its length');
  }

  #text(length: number): 0 {
    if (length > MAX_TEXT_BYTES) throw new RangeError('a text is longer than any that is stored');
    const start = this.position;
    this.#textAt = start;
    this.#skip(length);
    if (!this.#isText(start, this.position)) throw new RangeError('a text is not UTF-8');
    return 0;
  }

  #isText(start: number, end: number): boolean {
    if (end - start > SHORT_TEXT_BYTES) return isUtf8(this.#bytes.subarray(start, end));
    for (let at = start; at < end; at++) {
      if ((this.#bytes[at] as number) >= 0x80) return isUtf8(this.#bytes.subarray(at, end));
    }
    return true;
  }

  #float(size: number): 0 {
    const at = this.position;
    this.#skip(size);
    if (Number.isFinite(size === 4 ? this.#view.getFloat32(at) : this.#view.getFloat64(at))) return 0;
    throw new RangeError('a number is not finite');
  }

  #long(isSigned: boolean): 0 {
    const at = this.position;
    this.#skip(8);
    const value = Number(isSigned ? this.#view.getBigInt64(at) : this.#view.getBigUint64(at));
    if (Number.isSafeInteger(value)) return 0;
    throw new RangeError('an integer is larger than a double can hold');
  }

  #keysAt(depth: number): MapKeys {
    const keys = this.#keysByDepth[depth] ?? new MapKeys(this.#bytes);
    this.#keysByDepth[depth] = keys;
    keys.clear();
    return keys;
  }

  #unsigned(size: number): number {
    const at = this.position;
    this.#skip(size);
    if (size === 1) return this.#view.getUint8(at);
    return size === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #skip(size: number): 0 {
    this.position += size;
    if (this.position > this.#view.byteLength) throw new RangeError('ends in the middle of a value');
    return 0;
  }
}
