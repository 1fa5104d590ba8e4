const MAX_DEPTH = 16;
/** No text that is stored here is longer; a longer one would be decoded in one long step. */
const MAX_TEXT_BYTES = 2 ** 20;
/**
 * An empty map is one byte, and some fifty in memory: so values that take much more than their bytes are counted. Nothing
 * that is encoded here comes near: maps have fields, arrays and byte strings hold something.
 */
const LEAST_MAP_BYTES = 32;
const LEAST_VALUE_BYTES = 4;
const FREE_MAPS = 4096;
const FREE_VALUES = 65_536;

/** A place to go back to. */
export interface WalkerMark {
  readonly position: number;
  readonly mapsLeft: number;
  readonly valuesLeft: number;
  readonly allLeft: number;
}

/** What an array or a map begins with. */
export interface PlainHead {
  readonly isMap: boolean;
  /** Elements of an array; keys and values of a map. */
  readonly values: number;
}

/** Steps over MessagePack and makes nothing of it. Everything throws a `RangeError` for what is not there in full, or not plain. */
export class PlainWalker {
  position = 0;
  readonly #view: DataView;
  /** Containers that {@link PlainWalker.enter} went into. */
  #entered = 0;
  /** Of each container within the value that is stepped over: how many values are left, and whether it is a map. */
  readonly #left: number[] = [];
  readonly #maps: boolean[] = [];
  /** Whether the head that was read last is of a map. */
  #isMap = false;
  #mapsLeft: number;
  /** Maps, arrays and byte strings. */
  #valuesLeft: number;
  /** Values of every kind. */
  #allLeft = Infinity;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#mapsLeft = FREE_MAPS + bytes.byteLength / LEAST_MAP_BYTES;
    this.#valuesLeft = FREE_VALUES + bytes.byteLength / LEAST_VALUE_BYTES;
  }

  /**
   * Steps over the value that begins here.
   *
   * @param limit - stops in the value once this position is reached: the next call goes on from there
   * @returns whether the value has ended
   */
  over(limit = Infinity): boolean {
    const left = this.#left;
    do {
      if (this.position >= limit) return false;
      const top = left.length - 1;
      const isKey = top >= 0 && this.#maps[top] === true && (left[top] as number) % 2 === 0;
      const values = this.#head(isKey);
      if (top >= 0) left[top] = (left[top] as number) - 1;
      if (values > 0) {
        left.push(values);
        this.#maps.push(this.#isMap);
      }
      while (left.length > 0 && left[left.length - 1] === 0) {
        left.pop();
        this.#maps.pop();
      }
    } while (left.length > 0);
    return true;
  }

  mark(): WalkerMark {
    return { position: this.position, mapsLeft: this.#mapsLeft, valuesLeft: this.#valuesLeft, allLeft: this.#allLeft };
  }

  /** Back to where a value began. */
  reset({ position, mapsLeft, valuesLeft, allLeft }: WalkerMark): void {
    this.position = position;
    this.#mapsLeft = mapsLeft;
    this.#valuesLeft = valuesLeft;
    this.#allLeft = allLeft;
    this.#left.length = 0;
    this.#maps.length = 0;
  }

  /** So many values of whatever kind may follow. */
  limit(values: number): void {
    this.#allLeft = values;
  }

  /** Goes into the array or map that begins here: its values follow. */
  enter(): PlainHead {
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

  /** Steps over what a value begins with, and over all of one that holds no others. @returns how many others it holds */
  #head(isKey: boolean): number {
    if (this.#entered + this.#left.length > MAX_DEPTH) throw new RangeError('nested too deeply');
    if (--this.#allLeft < 0) throw new RangeError('too many values');
    const type = this.#unsigned(1);
    if (isKey && !(type >= 0xa0 && type <= 0xbf) && !(type >= 0xd9 && type <= 0xdb)) {
      throw new RangeError('a key is not a text');
    }
    if (type <= 0x7f || type >= 0xe0) return 0; // fixint
    if (type <= 0x8f) return this.#container(type & 0x0f, true);
    if (type <= 0x9f) return this.#container(type & 0x0f, false);
    if (type <= 0xbf) return this.#skip(type & 0x1f);
    switch (type) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        return 0;
      case 0xc4: // bin 8, 16, 32
      case 0xc5:
      case 0xc6:
        this.#count(false);
        return this.#skip(this.#unsigned(1 << (type - 0xc4)));
      case 0xca: // float 32, 64
      case 0xcb:
        return this.#skip(4 << (type - 0xca));
      case 0xcc: // unsigned 8 ... 64
      case 0xcd:
      case 0xce:
      case 0xcf:
        return this.#skip(1 << (type - 0xcc));
      case 0xd0: // signed 8 ... 64
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return this.#skip(1 << (type - 0xd0));
      case 0xd9: // string 8, 16, 32
      case 0xda:
      case 0xdb:
        return this.#text(this.#unsigned(1 << (type - 0xd9)));
      case 0xdc: // array 16, 32
      case 0xdd:
        return this.#container(this.#unsigned(2 << (type - 0xdc)), false);
      case 0xde: // map 16, 32
      case 0xdf:
        return this.#container(this.#unsigned(2 << (type - 0xde)), true);
      default:
        throw new RangeError(`type 0x${type.toString(16)} is not allowed`);
    }
  }

  #container(count: number, isMap: boolean): number {
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
    return this.#skip(length);
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
