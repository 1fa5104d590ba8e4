import { encodedView } from './bounded-msgpack.ts';

/** So many bytes are encoded in one step. */
const SLICE_BYTES = 16 * 1024;
/** So many are copied. */
const COPIED_BYTES = 1024 * 1024;
/** What is encoded is gathered in pieces that grow from the one to the other: most values are short. */
const FIRST_PIECE_BYTES = 1024;
const PIECE_BYTES = 256 * 1024;

type Steps<T> = Generator<void, T, void>;

/** An array that is encoded element by element: each is made when its turn comes. */
export class PlainList<T = unknown> {
  readonly count: number;
  readonly #items: Iterable<T>;
  readonly #plainOf: (item: T) => unknown;

  private constructor(count: number, items: Iterable<T>, plainOf: (item: T) => unknown) {
    this.count = count;
    this.#items = items;
    this.#plainOf = plainOf;
  }

  /** @param count - of the items. @param plainOf - makes what stands for an item, which may be a part again */
  static of<T>(count: number, items: Iterable<T>, plainOf: (item: T) => unknown = (item) => item): PlainList {
    return new PlainList(count, items, plainOf) as PlainList;
  }

  /** A method and no closure: V8 makes a hidden class for each generator function that is called, and keeps it for long. */
  *plains(): Iterable<unknown> {
    for (const item of this.#items) yield this.#plainOf(item);
  }
}

/** A map of which some values are parts. */
export class PlainFields {
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(fields: Readonly<Record<string, unknown>>) {
    this.fields = fields;
  }
}

/** A byte string that is made piece by piece. Each piece may be filled again once the next one is asked for. */
export class PlainBytes {
  /** Of all pieces together. */
  readonly length: number;
  readonly pieces: Iterable<Uint8Array>;

  constructor(length: number, pieces: Iterable<Uint8Array>) {
    this.length = length;
    this.pieces = pieces;
  }
}

/** A value that is encoded already. */
export class PlainEncoded {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/**
 * Encodes in steps, to the very bytes that `encodePlain` makes of the whole.
 *
 * @param value - a plain value, or one of the parts above, of plain values and parts
 */
export function* encodingPlain(value: unknown): Steps<Uint8Array<ArrayBuffer>> {
  const written = new Written();
  yield* write(written, value);
  return yield* written.joined();
}

/**
 * What has been encoded, in pieces. It is copied as it comes: a view of each of a million short values would be a million objects
 * that live until the end, and the garbage collector would move all of them in long steps.
 */
class Written {
  /** Bytes since the last pause. */
  unpaused = 0;
  readonly #pieces: Uint8Array[] = [];
  #length = 0;
  #piece = new Uint8Array(FIRST_PIECE_BYTES);
  /** Bytes of the piece that are taken. */
  #used = 0;

  add(bytes: Uint8Array): void {
    this.unpaused += bytes.length + 16; // Short ones take time too.
    if (bytes.length > PIECE_BYTES) {
      this.#close(0);
      this.#keep(bytes.slice());
      return;
    }
    this.#makeRoom(bytes.length);
    this.#piece.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  /** The short form below `fixed`, else the one of a u16, of which the type is `long`, or of a u32, of which it is the next. */
  addHead(count: number, short: number, fixed: number, long: number): void {
    if (count < fixed) this.#addBytes(short | count);
    else if (count < 65_536) this.#addBytes(long, count >> 8, count & 0xff);
    else this.#addBytes(long + 1, count >>> 24, (count >> 16) & 0xff, (count >> 8) & 0xff, count & 0xff);
  }

  /** All of it as one. */
  *joined(): Steps<Uint8Array<ArrayBuffer>> {
    this.#close(0);
    const bytes = new Uint8Array(this.#length);
    let at = 0;
    let pausedAt = 0;
    for (const piece of this.#pieces) {
      bytes.set(piece, at);
      at += piece.length;
      if (at - pausedAt < COPIED_BYTES) continue;
      pausedAt = at;
      yield;
    }
    return bytes;
  }

  #addBytes(...bytes: number[]): void {
    this.#makeRoom(bytes.length);
    this.unpaused += bytes.length + 16;
    for (const byte of bytes) this.#piece[this.#used++] = byte;
  }

  #makeRoom(bytes: number): void {
    if (this.#used + bytes > this.#piece.length) this.#close(Math.max(bytes, Math.min(PIECE_BYTES, 2 * this.#length)));
  }

  /** Begins a new piece of so many bytes. */
  #close(next: number): void {
    this.#keep(this.#piece.subarray(0, this.#used));
    this.#piece = new Uint8Array(next);
    this.#used = 0;
  }

  #keep(bytes: Uint8Array): void {
    this.#pieces.push(bytes);
    this.#length += bytes.length;
  }
}

function* write(to: Written, value: unknown): Steps<void> {
  if (to.unpaused >= SLICE_BYTES) {
    to.unpaused = 0;
    yield;
  }
  if (value instanceof PlainList) {
    to.addHead(value.count, 0x90, 16, 0xdc);
    for (const item of value.plains()) yield* write(to, item);
  } else if (value instanceof PlainFields) {
    const fields = Object.entries(value.fields);
    to.addHead(fields.length, 0x80, 16, 0xde);
    for (const [name, field] of fields) {
      to.add(encodedView(name));
      yield* write(to, field);
    }
  } else if (value instanceof PlainBytes) yield* writeBytes(to, value);
  else to.add(value instanceof PlainEncoded ? value.bytes : encodedView(value));
}

function* writeBytes(to: Written, { length, pieces }: PlainBytes): Steps<void> {
  if (length < 256) to.add(Uint8Array.of(0xc4, length));
  else to.addHead(length, 0, 0, 0xc5);
  for (const piece of pieces) {
    to.add(piece);
    if (to.unpaused < SLICE_BYTES) continue;
    to.unpaused = 0;
    yield;
  }
}
