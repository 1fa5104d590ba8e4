import { encodedView } from './bounded-msgpack.ts';

/** So many bytes are encoded in one step. */
const SLICE_BYTES = 16 * 1024;
/** So many are copied. */
const COPIED_BYTES = 1024 * 1024;

type Steps<T> = Generator<void, T, void>;

/** An array that is encoded element by element: each is made when its turn comes. */
export class PlainList {
  readonly count: number;
  readonly items: () => Iterable<unknown>;

  private constructor(count: number, items: () => Iterable<unknown>) {
    this.count = count;
    this.items = items;
  }

  /** @param count - of the items. @param plainOf - makes what stands for an item, which may be a part again */
  static of<T>(count: number, items: Iterable<T>, plainOf: (item: T) => unknown = (item) => item): PlainList {
    return new PlainList(count, function* () {
      for (const item of items) yield plainOf(item);
    });
  }
}

/** A map of which some values are parts. */
export class PlainFields {
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(fields: Readonly<Record<string, unknown>>) {
    this.fields = fields;
  }
}

/** A byte string that is made piece by piece. */
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
  const written: Written = { views: [], length: 0, unpaused: 0 };
  yield* write(written, value);
  const bytes = new Uint8Array(written.length);
  let at = 0;
  let pausedAt = 0;
  for (const view of written.views) {
    bytes.set(view, at);
    at += view.length;
    if (at - pausedAt < COPIED_BYTES) continue;
    pausedAt = at;
    yield;
  }
  return bytes;
}

interface Written {
  readonly views: Uint8Array[];
  length: number;
  /** Bytes since the last pause. */
  unpaused: number;
}

function* write(to: Written, value: unknown): Steps<void> {
  if (to.unpaused >= SLICE_BYTES) {
    to.unpaused = 0;
    yield;
  }
  if (value instanceof PlainList) {
    append(to, head(value.count, 0x90, 16, 0xdc));
    for (const item of value.items()) yield* write(to, item);
  } else if (value instanceof PlainFields) {
    const fields = Object.entries(value.fields);
    append(to, head(fields.length, 0x80, 16, 0xde));
    for (const [name, field] of fields) {
      append(to, encodedView(name));
      yield* write(to, field);
    }
  } else if (value instanceof PlainBytes) yield* writeBytes(to, value);
  else append(to, value instanceof PlainEncoded ? value.bytes : encodedView(value));
}

function* writeBytes(to: Written, { length, pieces }: PlainBytes): Steps<void> {
  if (length < 256) append(to, Uint8Array.of(0xc4, length));
  else append(to, head(length, 0, 0, 0xc5));
  for (const piece of pieces) {
    append(to, piece);
    if (to.unpaused < SLICE_BYTES) continue;
    to.unpaused = 0;
    yield;
  }
}

function append(to: Written, bytes: Uint8Array): void {
  to.views.push(bytes);
  to.length += bytes.length;
  to.unpaused += bytes.length + 16; // Short ones take time too.
}

/** The short form below `fixed`, else the one of a u16, of which the type is `long`, or of a u32, of which it is the next. */
function head(count: number, short: number, fixed: number, long: number): Uint8Array {
  if (count < fixed) return Uint8Array.of(short | count);
  if (count < 65_536) return Uint8Array.of(long, count >> 8, count & 0xff);
  return Uint8Array.of(long + 1, count >>> 24, (count >> 16) & 0xff, (count >> 8) & 0xff, count & 0xff);
}
