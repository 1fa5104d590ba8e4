import { piecesOf } from './long-bytes.ts';
import { encodedView } from './msgpack.ts';
import type { Steps } from './yield-to-event-loop.ts';

/**
 * Encodes long values in steps. The parts below stand for values that are made only when they are encoded, so that the whole
 * is never in memory twice.
 */

/** The number of bytes that are encoded in one step. */
const SLICE_BYTES = 16 * 1024;
/** The number of bytes that are copied in one step. */
const COPIED_BYTES = 1024 * 1024;
/** The result is collected in pieces whose lengths grow from the first to the second of these, because most values are short. */
const FIRST_PIECE_BYTES = 1024;
const PIECE_BYTES = 256 * 1024;

/** An array whose elements are made one by one, when they are encoded. */
export class MsgpackArray<T = unknown> {
  readonly count: number;
  readonly #items: Iterable<T>;
  readonly #plainOf: (item: T) => unknown;

  private constructor(count: number, items: Iterable<T>, plainOf: (item: T) => unknown) {
    this.count = count;
    this.#items = items;
    this.#plainOf = plainOf;
  }

  /** @param count - the number of items. @param plainOf - makes the value of an item, which may contain parts */
  static of<T>(count: number, items: Iterable<T>, plainOf: (item: T) => unknown = (item) => item): MsgpackArray {
    return new MsgpackArray(count, items, plainOf) as MsgpackArray;
  }

  /** This is not a closure because V8 makes a hidden class for each generator function that is called, and keeps it for long. */
  *plains(): Iterable<unknown> {
    for (const item of this.#items) yield this.#plainOf(item);
  }
}

/** A map with values that are parts. */
export class MsgpackMap {
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(fields: Readonly<Record<string, unknown>>) {
    this.fields = fields;
  }
}

/** A byte string that is made piece by piece. A piece may be filled again when the next one is requested. */
export class MsgpackBytes {
  /** The length of all pieces together, in bytes. */
  readonly length: number;
  readonly pieces: Iterable<Uint8Array>;

  constructor(length: number, pieces: Iterable<Uint8Array>) {
    this.length = length;
    this.pieces = pieces;
  }
}

/** A value that has been encoded already. */
export class MsgpackEncoded {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/**
 * Encodes a value in steps. The result is byte for byte what `encodeMsgpack` makes of it.
 *
 * @param value - a plain value, or a part of plain values and parts
 */
export function* encodeMsgpackInSteps(value: unknown): Steps<Uint8Array<ArrayBuffer>> {
  const written = new Written();
  yield* write(written, value);
  return yield* written.joined();
}

/**
 * The bytes that have been encoded, in pieces. They are copied at once: views of a million short values would be a million objects
 * that live until the end, and the garbage collector would move all of them in long steps.
 */
class Written {
  /** The bytes since the last step. */
  unpaused = 0;
  readonly #pieces: Uint8Array[] = [];
  #length = 0;
  #piece = new Uint8Array(FIRST_PIECE_BYTES);
  /** The bytes of the piece that are in use. */
  #used = 0;

  add(bytes: Uint8Array): void {
    this.unpaused += bytes.length + 16; // Short values take time, too.
    if (bytes.length > PIECE_BYTES) {
      this.#close(0);
      this.#keep(bytes.slice());
      return;
    }
    this.#makeRoom(bytes.length);
    this.#piece.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  /** The head of a container: one byte for a count below `fixed`, else type `long` with a u16, or the next type with a u32. */
  addHead(count: number, short: number, fixed: number, long: number): void {
    if (count < fixed) this.#addBytes(short | count);
    else if (count < 65_536) this.#addBytes(long, count >> 8, count & 0xff);
    else this.#addBytes(long + 1, count >>> 24, (count >> 16) & 0xff, (count >> 8) & 0xff, count & 0xff);
  }

  /** All pieces as one array. */
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

  /** Begins a new piece of `next` bytes. */
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
  if (value instanceof MsgpackArray) {
    to.addHead(value.count, 0x90, 16, 0xdc);
    for (const item of value.plains()) yield* write(to, item);
  } else if (value instanceof MsgpackMap) {
    const fields = Object.entries(value.fields);
    to.addHead(fields.length, 0x80, 16, 0xde);
    for (const [name, field] of fields) {
      to.add(encodedView(name));
      yield* write(to, field);
    }
  } else if (value instanceof MsgpackBytes) yield* writeBytes(to, value);
  else to.add(value instanceof MsgpackEncoded ? value.bytes : encodedView(value));
}

function* writeBytes(to: Written, { length, pieces }: MsgpackBytes): Steps<void> {
  if (length < 256) to.add(Uint8Array.of(0xc4, length));
  else to.addHead(length, 0, 0, 0xc5);
  for (const whole of pieces) {
    for (const [, piece] of piecesOf(whole)) {
      to.add(piece);
      if (to.unpaused < SLICE_BYTES) continue;
      to.unpaused = 0;
      yield;
    }
  }
}
