import { createCipheriv, createDecipheriv, createHash, timingSafeEqual } from 'node:crypto';
import { hedgedBytes } from '../../common/hedged-random.ts';
import { atOnce, type InSteps } from '../records/event-loop-turns.ts';
import { logCorrupt } from './corrupt.ts';

/** How entries and checkpoints stand in their objects: `docs/FORMAT.md`, sections 8 and 9. */

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HASH_BYTES = 32;
/** So many bytes are hashed, encrypted or copied in one step: well under a millisecond. */
const PIECE_BYTES = 256 * 1024;

export type SealLabel = 'cow1 log' | 'cow1 checkpoint' | 'cow1 verified' | 'cow1 verified log';

/** The object's bytes. @param logKey - 32 bytes, of an encrypted repository */
export function* sealing(
  logKey: Uint8Array | undefined,
  label: SealLabel,
  seq: number,
  body: Uint8Array,
): InSteps<Uint8Array<ArrayBuffer>> {
  // In memory of its own: a target is given no view of a pool.
  const bytes = new Uint8Array(body.length + (logKey === undefined ? HASH_BYTES : NONCE_BYTES + TAG_BYTES));
  if (logKey === undefined) {
    for (const [at, piece] of pieces(body)) {
      bytes.set(piece, at);
      yield;
    }
    bytes.set(yield* hashing(body, label), body.length);
    return bytes;
  }
  // Copies of one process memory draw the same random numbers: no nonce may serve two bodies.
  const text = body.length <= PIECE_BYTES ? body : yield* hashing(body);
  const nonce = hedgedBytes(NONCE_BYTES, logKey, label, seq, text);
  const cipher = createCipheriv('aes-256-gcm', logKey, nonce).setAAD(associated(label, seq));
  bytes.set(nonce);
  for (const [at, piece] of pieces(body)) {
    bytes.set(cipher.update(piece), NONCE_BYTES + at);
    yield;
  }
  cipher.final(); // A stream cipher keeps nothing back.
  bytes.set(cipher.getAuthTag(), NONCE_BYTES + body.length);
  return bytes;
}

/** As {@link sealing}, at once: for a short body. */
export function sealObject(...given: Parameters<typeof sealing>): Uint8Array<ArrayBuffer> {
  return atOnce(sealing(...given));
}

/** The body. @throws `LOG_CORRUPT` */
export function* opening(
  logKey: Uint8Array | undefined,
  label: SealLabel,
  seq: number,
  bytes: Uint8Array,
): InSteps<Uint8Array> {
  if (bytes.length < (logKey === undefined ? HASH_BYTES : NONCE_BYTES + TAG_BYTES)) throw logCorrupt('it is cut short');
  if (logKey === undefined) {
    const end = bytes.length - HASH_BYTES;
    const body = bytes.subarray(0, end);
    if (!timingSafeEqual(yield* hashing(body, label), bytes.subarray(end))) throw logCorrupt('its checksum is wrong');
    return body;
  }
  const end = bytes.length - TAG_BYTES;
  try {
    const decipher = createDecipheriv('aes-256-gcm', logKey, bytes.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(associated(label, seq)).setAuthTag(bytes.subarray(end));
    const body = new Uint8Array(end - NONCE_BYTES);
    for (const [at, piece] of pieces(bytes.subarray(NONCE_BYTES, end))) {
      body.set(decipher.update(piece), at);
      yield;
    }
    decipher.final();
    return body;
  } catch (cause) {
    throw logCorrupt('it does not decrypt', cause);
  }
}

/** As {@link opening}, at once: for a short object. */
export function openObject(...given: Parameters<typeof opening>): Uint8Array {
  return atOnce(opening(...given));
}

/** SHA-256 of the bytes, after a label where there is one. Of its object bytes it is an entry's hash. */
export function* hashing(bytes: Uint8Array, label?: SealLabel): InSteps<Uint8Array<ArrayBuffer>> {
  const hash = createHash('sha256');
  if (label !== undefined) hash.update(label);
  for (const [, piece] of pieces(bytes)) {
    hash.update(piece);
    yield;
  }
  return new Uint8Array(hash.digest());
}

/** Where each piece begins, and the piece. */
function* pieces(bytes: Uint8Array): Iterable<[number, Uint8Array]> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield [at, bytes.subarray(at, at + PIECE_BYTES)];
}

/** The sequence keeps an entry from being passed off as another number's. */
function associated(label: SealLabel, seq: number): Uint8Array {
  const bytes = Buffer.alloc(label.length + 8);
  bytes.write(label, 'ascii');
  bytes.writeBigUInt64LE(BigInt(seq), label.length);
  return bytes;
}
