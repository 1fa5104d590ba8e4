import { createCipheriv, createDecipheriv, timingSafeEqual } from 'node:crypto';
import { hedgedBytes } from '../../common/hedged-random.ts';
import { PIECE_BYTES, piecesOf, sha256InSteps } from '../../common/long-bytes.ts';
import { runAtOnce, type Steps } from '../../common/yield-to-event-loop.ts';
import { logCorrupt } from './corrupt.ts';

/** How entries and checkpoints stand in their objects: `docs/FORMAT.md`, sections 8 and 9. */

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HASH_BYTES = 32;

export type SealLabel = 'cow1 log' | 'cow1 checkpoint' | 'cow1 verified' | 'cow1 verified log';

/** The object's bytes. @param logKey - 32 bytes, of an encrypted repository */
export function* sealing(
  logKey: Uint8Array | undefined,
  label: SealLabel,
  seq: number,
  body: Uint8Array,
): Steps<Uint8Array<ArrayBuffer>> {
  // In memory of its own: a target is given no view of a pool.
  const bytes = new Uint8Array(body.length + (logKey === undefined ? HASH_BYTES : NONCE_BYTES + TAG_BYTES));
  if (logKey === undefined) {
    for (const [at, piece] of piecesOf(body)) {
      bytes.set(piece, at);
      yield;
    }
    bytes.set(yield* sha256InSteps(body, label), body.length);
    return bytes;
  }
  // Copies of one process memory draw the same random numbers: no nonce may serve two bodies.
  const text = body.length <= PIECE_BYTES ? body : yield* sha256InSteps(body);
  const nonce = hedgedBytes(NONCE_BYTES, logKey, label, seq, text);
  const cipher = createCipheriv('aes-256-gcm', logKey, nonce).setAAD(associated(label, seq));
  bytes.set(nonce);
  for (const [at, piece] of piecesOf(body)) {
    bytes.set(cipher.update(piece), NONCE_BYTES + at);
    yield;
  }
  cipher.final(); // A stream cipher keeps nothing back.
  bytes.set(cipher.getAuthTag(), NONCE_BYTES + body.length);
  return bytes;
}

/** As {@link sealing}, at once: for a short body. */
export function sealObject(...given: Parameters<typeof sealing>): Uint8Array<ArrayBuffer> {
  return runAtOnce(sealing(...given));
}

/** The body. @throws `LOG_CORRUPT` */
export function* opening(
  logKey: Uint8Array | undefined,
  label: SealLabel,
  seq: number,
  bytes: Uint8Array,
): Steps<Uint8Array> {
  if (bytes.length < (logKey === undefined ? HASH_BYTES : NONCE_BYTES + TAG_BYTES)) throw logCorrupt('it is cut short');
  if (logKey === undefined) {
    const end = bytes.length - HASH_BYTES;
    const body = bytes.subarray(0, end);
    if (!timingSafeEqual(yield* sha256InSteps(body, label), bytes.subarray(end)))
      throw logCorrupt('its checksum is wrong');
    return body;
  }
  const end = bytes.length - TAG_BYTES;
  try {
    const decipher = createDecipheriv('aes-256-gcm', logKey, bytes.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(associated(label, seq)).setAuthTag(bytes.subarray(end));
    const body = new Uint8Array(end - NONCE_BYTES);
    for (const [at, piece] of piecesOf(bytes.subarray(NONCE_BYTES, end))) {
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
  return runAtOnce(opening(...given));
}

/** The sequence keeps an entry from being passed off as another number's. */
function associated(label: SealLabel, seq: number): Uint8Array {
  const bytes = Buffer.alloc(label.length + 8);
  bytes.write(label, 'ascii');
  bytes.writeBigUInt64LE(BigInt(seq), label.length);
  return bytes;
}
