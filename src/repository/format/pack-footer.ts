import { AEAD_BYTES, opening, sealing } from '../../common/aead.ts';
import { corruptError } from '../../common/errors.ts';
import { joinInSteps } from '../../common/long-bytes.ts';
import { MAX_SHA256_PADDING, sha256Padding } from '../../common/sha256.ts';
import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { packKey } from './object-keys.ts';
import { type Codec, MAX_RAW_LENGTH, type PackName, type RecordKind } from './record.ts';
import { locationFault } from './record-parts.ts';

/**
 * A pack's footer, which lists its records: `docs/FORMAT.md`, section 5. What comes before it is the _body_ of the pack, and
 * the padding with which SHA-256 ends the body: so the SHA-256 of the whole pack follows from the body's, which the footer has.
 */

/** One record of a pack. */
export interface FooterRow {
  readonly kind: RecordKind;
  /** 32 bytes. */
  readonly id: Uint8Array;
  /** Bytes from the start of the pack. */
  readonly offset: number;
  readonly storedLength: number;
  readonly codec: Codec;
  readonly rawLength: number;
  /** The block's number, or the first block that a node or run chunk covers; else 0. */
  readonly hint: number;
}

export interface PackFooter<Rows extends Iterable<FooterRow> = readonly FooterRow[]> {
  readonly rows: Rows;
  /** Bytes from the start of the pack to the end of its last record. */
  readonly bodyBytes: number;
  /** The SHA-256 of those bytes, as its writer had them. */
  readonly bodySha256: Uint8Array;
}

const corrupt = corruptError('PACK_CORRUPT', 'a pack');

const HEAD = Buffer.from('CWPACK01');
const TAIL = Buffer.from('CWFOOT01');
const ROW_BYTES = 48;
const DIGEST_BYTES = 32;
/** What stands before the rows: their number, and the digest of the body. */
const ROWS_AT = 4 + DIGEST_BYTES;
/** Length of the sealed footer, and the magic. */
export const TRAILER_BYTES = 4 + TAIL.length;
export const HEAD_BYTES = HEAD.length;
export const MAX_ROWS = 2 ** 20;

/** What every pack begins with. */
export function packHead(): Uint8Array {
  return HEAD;
}

/** The most bytes that padding, footer and trailer of so many rows take. */
export function sealedFooterBytes(rows: number): number {
  return MAX_SHA256_PADDING + ROWS_AT + rows * ROW_BYTES + DIGEST_BYTES + TRAILER_BYTES;
}

/**
 * Padding, footer and trailer, as they follow the body of a pack.
 *
 * @param key - the footer key of an encrypted repository
 */
export function* sealingFooter(
  { rows, bodyBytes, bodySha256 }: PackFooter,
  pack: PackName,
  key: Uint8Array | undefined,
): Steps<Uint8Array> {
  const raw = Buffer.alloc(ROWS_AT + rows.length * ROW_BYTES);
  raw.writeUInt32LE(rows.length, 0);
  raw.set(bodySha256, 4);
  const steps = new StepCounter();
  let at = ROWS_AT;
  for (const row of rows) {
    raw.set(row.id, at);
    raw.writeUInt32LE(row.storedLength, at + 32);
    raw.writeUInt32LE((row.rawLength | (row.codec << 24) | (row.kind << 28)) >>> 0, at + 36);
    raw.writeBigUInt64LE(BigInt(row.hint), at + 40);
    at += ROW_BYTES;
    if (steps.isDue()) yield;
  }
  const sealed = yield* sealing(key, associated(pack), raw);
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.writeUInt32LE(sealed.length, 0);
  trailer.set(TAIL, 4);
  return yield* joinInSteps([sha256Padding(bodyBytes), sealed, trailer]);
}

/**
 * How many bytes the sealed footer has, from a pack's last {@link TRAILER_BYTES} bytes.
 *
 * @throws `PACK_CORRUPT`
 */
export function footerLength(trailer: Uint8Array, packBytes: number): number {
  const view = Buffer.from(trailer.buffer, trailer.byteOffset, trailer.length);
  if (view.length !== TRAILER_BYTES || !view.subarray(4).equals(TAIL)) throw corrupt('it does not end as a pack does');
  const length = view.readUInt32LE(0);
  if (
    length < ROWS_AT + AEAD_BYTES ||
    length > sealedFooterBytes(MAX_ROWS) ||
    length > packBytes - HEAD_BYTES - TRAILER_BYTES
  ) {
    throw corrupt('the length of its footer is not valid');
  }
  return length;
}

/** Reads a sealed footer (without the trailer), which may have a million rows. @throws `PACK_CORRUPT` */
export function* openingFooter(
  sealed: Uint8Array,
  pack: PackName,
  packBytes: number,
  key: Uint8Array | undefined,
): Steps<PackFooter<FooterRows>> {
  const opened = yield* opening(key, associated(pack), sealed);
  if (opened === undefined)
    throw corrupt(key === undefined ? 'the checksum of its footer is wrong' : 'its footer does not decrypt');
  if (opened.length < ROWS_AT) throw corrupt('its footer is too short');
  const raw = Buffer.from(opened.buffer, opened.byteOffset, opened.length);
  const count = raw.readUInt32LE(0);
  if (count > MAX_ROWS || raw.length !== ROWS_AT + count * ROW_BYTES)
    throw corrupt('its footer has another length than it says');
  const offsets = new Uint32Array(count);
  const steps = new StepCounter();
  let offset = HEAD_BYTES;
  for (let row = 0; row < count; row++) {
    const at = ROWS_AT + row * ROW_BYTES;
    const lengths = raw.readUInt32LE(at + 36);
    const storedLength = raw.readUInt32LE(at + 32);
    const rawLength = lengths & 0xffffff;
    const most = MAX_RAW_LENGTH[(lengths >>> 28) as RecordKind] as number | undefined;
    const fault = locationFault(offset, storedLength, ((lengths >>> 24) & 0xf) as Codec, rawLength);
    if (most === undefined || rawLength > most || fault !== undefined) {
      throw corrupt('its footer has a row that is not valid');
    }
    offsets[row] = offset;
    offset += storedLength;
    if (steps.isDue()) yield;
  }
  const padding = sha256Padding(offset).length;
  if (offset + padding + sealed.length + TRAILER_BYTES !== packBytes) throw corrupt('its records do not fill it');
  return { rows: new FooterRows(raw, offsets), bodyBytes: offset, bodySha256: raw.subarray(4, ROWS_AT) };
}

/**
 * The rows of a footer that was read, kept as its bytes: a million objects would take 250 MB, and the garbage collector would
 * move them in steps of tens of milliseconds. The ids are views of the bytes.
 */
export class FooterRows implements Iterable<FooterRow> {
  readonly #raw: Buffer;
  readonly #offsets: Uint32Array;

  /** @param raw - checked. @param offsets - of each row's record */
  constructor(raw: Buffer, offsets: Uint32Array) {
    this.#raw = raw;
    this.#offsets = offsets;
  }

  get length(): number {
    return this.#offsets.length;
  }

  *[Symbol.iterator](): Iterator<FooterRow> {
    for (let row = 0; row < this.length; row++) yield this.#row(row);
  }

  /** The row of the record that begins at an offset of the pack. */
  at(offset: number): FooterRow | undefined {
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#offsets[middle] as number) < offset) low = middle + 1;
      else high = middle;
    }
    return this.#offsets[low] === offset ? this.#row(low) : undefined;
  }

  #row(row: number): FooterRow {
    const raw = this.#raw;
    const at = ROWS_AT + row * ROW_BYTES;
    const lengths = raw.readUInt32LE(at + 36);
    return {
      kind: (lengths >>> 28) as RecordKind,
      id: raw.subarray(at, at + 32),
      offset: this.#offsets[row] as number,
      storedLength: raw.readUInt32LE(at + 32),
      codec: ((lengths >>> 24) & 0xf) as Codec,
      rawLength: lengths & 0xffffff,
      hint: Number(raw.readBigUInt64LE(at + 40)),
    };
  }
}

function associated(pack: PackName): Buffer {
  return Buffer.from(`cow1 footer${packKey(pack)}`, 'ascii');
}
