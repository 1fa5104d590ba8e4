import { createCipheriv, createDecipheriv, timingSafeEqual } from 'node:crypto';
import { BackupError } from '../../common/errors.ts';
import { hedgedBytes } from '../../common/hedged-random.ts';
import { PIECE_BYTES, piecesOf, sha256InSteps } from '../../common/long-bytes.ts';
import { runAtOnce, StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { packKey } from './object-keys.ts';
import { Codec, MAX_RAW_LENGTH, type PackName, type RecordKind } from './record.ts';

/** A pack's table of contents: `docs/FORMAT.md`, section 5. */

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

const HEAD = Buffer.from('CWPACK01');
const TAIL = Buffer.from('CWFOOT01');
const ROW_BYTES = 48;
/** Length of the sealed footer, and the magic. */
export const TRAILER_BYTES = 4 + TAIL.length;
export const HEAD_BYTES = HEAD.length;
export const MAX_ROWS = 2 ** 20;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const DIGEST_BYTES = 32;

/** What every pack begins with. */
export function packHead(): Uint8Array {
  return HEAD;
}

/** The most bytes that footer and trailer of so many rows take. */
export function sealedFooterBytes(rows: number): number {
  return 4 + rows * ROW_BYTES + DIGEST_BYTES + TRAILER_BYTES;
}

/** Footer and trailer, as they end a pack. @param key - the footer key of an encrypted repository */
export function* sealingFooter(
  rows: readonly FooterRow[],
  pack: PackName,
  key: Uint8Array | undefined,
): Steps<Uint8Array> {
  const raw = Buffer.alloc(4 + rows.length * ROW_BYTES);
  raw.writeUInt32LE(rows.length, 0);
  const steps = new StepCounter();
  let at = 4;
  for (const row of rows) {
    raw.set(row.id, at);
    raw.writeUInt32LE(row.storedLength, at + 32);
    raw.writeUInt32LE((row.rawLength | (row.codec << 24) | (row.kind << 28)) >>> 0, at + 36);
    raw.writeBigUInt64LE(BigInt(row.hint), at + 40);
    at += ROW_BYTES;
    if (steps.isDue()) yield;
  }
  const sealed = key === undefined ? [raw, yield* sha256InSteps(raw)] : yield* encrypting(raw, pack, key);
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.writeUInt32LE(
    sealed.reduce((sum, { length }) => sum + length, 0),
    0,
  );
  trailer.set(TAIL, 4);
  return yield* joining([...sealed, trailer]);
}

/** As {@link sealingFooter}, at once: for a short one. */
export function sealFooter(...given: Parameters<typeof sealingFooter>): Uint8Array {
  return runAtOnce(sealingFooter(...given));
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
    length < 4 + DIGEST_BYTES ||
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
): Steps<FooterRow[]> {
  const raw = key === undefined ? yield* checkingDigest(sealed) : yield* decrypting(sealed, pack, key);
  if (raw.length < 4) throw corrupt('its footer is too short');
  const count = raw.readUInt32LE(0);
  if (count > MAX_ROWS || raw.length !== 4 + count * ROW_BYTES)
    throw corrupt('its footer has another length than it says');
  const rows: FooterRow[] = [];
  const steps = new StepCounter();
  let offset = HEAD_BYTES;
  for (let at = 4; at < raw.length; at += ROW_BYTES) {
    const lengths = raw.readUInt32LE(at + 36);
    const row = {
      kind: (lengths >>> 28) as RecordKind,
      id: raw.subarray(at, at + 32),
      offset,
      storedLength: raw.readUInt32LE(at + 32),
      codec: ((lengths >>> 24) & 0xf) as Codec,
      rawLength: lengths & 0xffffff,
      hint: Number(raw.readBigUInt64LE(at + 40)),
    };
    const most = MAX_RAW_LENGTH[row.kind] as number | undefined;
    if (most === undefined || row.rawLength > most || (row.codec !== Codec.raw && row.codec !== Codec.zstd)) {
      throw corrupt('its footer has a row that is not valid');
    }
    rows.push(row);
    offset += row.storedLength;
    if (steps.isDue()) yield;
  }
  if (offset + sealed.length + TRAILER_BYTES !== packBytes) throw corrupt('its records do not fill it');
  return rows;
}

/** As {@link openingFooter}, at once: for a short one. */
export function openFooter(...given: Parameters<typeof openingFooter>): FooterRow[] {
  return runAtOnce(openingFooter(...given));
}

function* encrypting(raw: Uint8Array, pack: PackName, key: Uint8Array): Steps<Uint8Array[]> {
  const text = raw.length <= PIECE_BYTES ? raw : yield* sha256InSteps(raw);
  const nonce = hedgedBytes(NONCE_BYTES, key, packKey(pack), text);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(associated(pack));
  const sealed: Uint8Array[] = [nonce];
  for (const [, piece] of piecesOf(raw)) {
    sealed.push(cipher.update(piece));
    yield;
  }
  cipher.final(); // A stream cipher keeps nothing back.
  sealed.push(cipher.getAuthTag());
  return sealed;
}

function* decrypting(sealed: Uint8Array, pack: PackName, key: Uint8Array): Steps<Buffer> {
  const end = sealed.length - TAG_BYTES;
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES)).setAAD(associated(pack));
    decipher.setAuthTag(sealed.subarray(end));
    const raw = Buffer.alloc(Math.max(0, end - NONCE_BYTES));
    for (const [at, piece] of piecesOf(sealed.subarray(NONCE_BYTES, end))) {
      raw.set(decipher.update(piece), at);
      yield;
    }
    decipher.final();
    return raw;
  } catch (cause) {
    throw new BackupError('PACK_CORRUPT', "a pack's footer does not open", { cause });
  }
}

function* joining(parts: readonly Uint8Array[]): Steps<Buffer> {
  const whole = Buffer.alloc(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    for (const [from, piece] of piecesOf(part)) {
      whole.set(piece, at + from);
      yield;
    }
    at += part.length;
  }
  return whole;
}

function associated(pack: PackName): Buffer {
  return Buffer.from(`cow1 footer${packKey(pack)}`, 'ascii');
}

function* checkingDigest(sealed: Uint8Array): Steps<Buffer> {
  const raw = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.length - DIGEST_BYTES);
  const expected = sealed.subarray(sealed.length - DIGEST_BYTES);
  if (expected.length !== DIGEST_BYTES || !timingSafeEqual(yield* sha256InSteps(raw), expected))
    throw corrupt('its footer is damaged');
  return raw;
}

function corrupt(what: string): BackupError {
  return new BackupError('PACK_CORRUPT', `not a valid pack: ${what}`);
}
