import { createCipheriv, createDecipheriv, createHash, timingSafeEqual } from 'node:crypto';
import { hedgedBytes } from '../../common/hedged-random.ts';
import { logCorrupt } from './corrupt.ts';

/** How entries and checkpoints stand in their objects: `docs/FORMAT.md`, sections 8 and 9. */

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HASH_BYTES = 32;

export type SealLabel = 'cow1 log' | 'cow1 checkpoint' | 'cow1 verified' | 'cow1 verified log';

/** The object's bytes. @param logKey - 32 bytes, of an encrypted repository */
export function sealObject(
  logKey: Uint8Array | undefined,
  label: SealLabel,
  seq: number,
  body: Uint8Array,
): Uint8Array<ArrayBuffer> {
  if (logKey === undefined) return joined(body, digest(label, body));
  // Copies of one process memory draw the same random numbers: no nonce may serve two bodies.
  const nonce = hedgedBytes(NONCE_BYTES, logKey, label, seq, body);
  const cipher = createCipheriv('aes-256-gcm', logKey, nonce).setAAD(associated(label, seq));
  const sealed = cipher.update(body);
  cipher.final(); // A stream cipher keeps nothing back.
  return joined(nonce, sealed, cipher.getAuthTag());
}

/** The body. @throws `LOG_CORRUPT` */
export function openObject(
  logKey: Uint8Array | undefined,
  label: SealLabel,
  seq: number,
  bytes: Uint8Array,
): Uint8Array {
  if (bytes.length < (logKey === undefined ? HASH_BYTES : NONCE_BYTES + TAG_BYTES)) throw logCorrupt('it is cut short');
  if (logKey === undefined) {
    const end = bytes.length - HASH_BYTES;
    const body = bytes.subarray(0, end);
    if (!timingSafeEqual(digest(label, body), bytes.subarray(end))) throw logCorrupt('its checksum is wrong');
    return body;
  }
  const end = bytes.length - TAG_BYTES;
  try {
    const decipher = createDecipheriv('aes-256-gcm', logKey, bytes.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(associated(label, seq)).setAuthTag(bytes.subarray(end));
    const body = decipher.update(bytes.subarray(NONCE_BYTES, end));
    decipher.final();
    return body;
  } catch (cause) {
    throw logCorrupt('it does not decrypt', cause);
  }
}

/** An entry's hash: SHA-256 of its object bytes. */
export function objectHash(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(createHash('sha256').update(bytes).digest());
}

function digest(label: SealLabel, body: Uint8Array): Uint8Array {
  return createHash('sha256').update(label).update(body).digest();
}

/** The sequence keeps an entry from being passed off as another number's. */
function associated(label: SealLabel, seq: number): Uint8Array {
  const bytes = Buffer.alloc(label.length + 8);
  bytes.write(label, 'ascii');
  bytes.writeBigUInt64LE(BigInt(seq), label.length);
  return bytes;
}

/** In memory of their own: a target is given no view of a pool. */
function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
