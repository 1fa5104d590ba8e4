import { createCipheriv, createDecipheriv, createSecretKey, timingSafeEqual } from 'node:crypto';
import { isZero, wipeBytes } from './bytes.ts';
import { BackupError } from './errors.ts';
import { hedgedBytes } from './hedged-random.ts';
import { joinInSteps, PIECE_BYTES, piecesOf, sha256InSteps } from './long-bytes.ts';
import type { Steps } from './yield-to-event-loop.ts';

/**
 * How log objects, footers and wrapped keys are sealed: `nonce || AES-256-GCM(text) || tag` in an encrypted repository,
 * `text || SHA-256(label || text)` in a plain one (`docs/FORMAT.md`, sections 3, 5, 8 and 9). Records are sealed in
 * `packs/record-sealing.ts`, in one step and with fewer copies.
 *
 * A key may be zeroed by `RepositoryKeys.wipe()` while one of these generators is suspended. So each reads its key before
 * it yields for the first time, and refuses one that is zeroed already: anybody could open what such a key had sealed.
 */

export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;
/** What encryption adds to a text. */
export const AEAD_BYTES = NONCE_BYTES + TAG_BYTES;
const HASH_BYTES = 32;

/**
 * The sealed text, in memory of its own.
 *
 * @param key - 32 bytes; `undefined` in a plain repository
 * @param aad - what the text is bound to: it opens with the same bytes only
 * @param label - what the checksum of a plain repository begins with
 * @throws `CLOSED` where the key has been wiped
 */
export function* sealing(
  key: Uint8Array | undefined,
  aad: Uint8Array,
  text: Uint8Array,
  label = '',
): Steps<Uint8Array<ArrayBuffer>> {
  if (key === undefined) return yield* joinInSteps([text, yield* sha256InSteps(text, label)]);
  checkNotWiped(key);
  const ownKey = Uint8Array.from(key);
  try {
    // Copies of one process memory draw the same random numbers: the text goes into the nonce, so that no two share one.
    const digest = text.length <= PIECE_BYTES ? text : yield* sha256InSteps(text);
    const nonce = hedgedBytes(NONCE_BYTES, ownKey, aad, digest);
    // Node 24 takes several times as long over a key that is bytes as over one that it has made a `KeyObject` of.
    const cipher = createCipheriv('aes-256-gcm', createSecretKey(ownKey), nonce).setAAD(aad);
    const sealed = new Uint8Array(text.length + AEAD_BYTES);
    sealed.set(nonce);
    for (const [at, piece] of piecesOf(text)) {
      sealed.set(cipher.update(piece), NONCE_BYTES + at);
      yield;
    }
    cipher.final(); // GCM keeps nothing back.
    sealed.set(cipher.getAuthTag(), NONCE_BYTES + text.length);
    return sealed;
  } finally {
    wipeBytes(ownKey);
  }
}

/**
 * The text; `undefined` where the bytes are not what was sealed with this key and `aad`. In a plain repository it is a
 * view of `sealed`.
 *
 * @throws `CLOSED` where the key has been wiped
 */
export function* opening(
  key: Uint8Array | undefined,
  aad: Uint8Array,
  sealed: Uint8Array,
  label = '',
): Steps<Uint8Array | undefined> {
  if (key === undefined) {
    const end = sealed.length - HASH_BYTES;
    if (end < 0) return undefined;
    const text = sealed.subarray(0, end);
    return timingSafeEqual(yield* sha256InSteps(text, label), sealed.subarray(end)) ? text : undefined;
  }
  checkNotWiped(key);
  const end = sealed.length - TAG_BYTES;
  if (end < NONCE_BYTES) return undefined;
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', createSecretKey(key), nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(aad).setAuthTag(sealed.subarray(end));
  const text = new Uint8Array(end - NONCE_BYTES);
  for (const [at, piece] of piecesOf(sealed.subarray(NONCE_BYTES, end))) {
    const part = decipher.update(piece);
    text.set(part, at);
    wipeBytes(part); // It may be a key.
    yield;
  }
  try {
    decipher.final();
    return text;
  } catch {
    wipeBytes(text); // With a wrong tag it may be the right text all the same.
    return undefined;
  }
}

function checkNotWiped(key: Uint8Array): void {
  // @mutation wiped-keys-seal-nothing
  if (isZero(key)) throw new BackupError('CLOSED', 'the keys of this repository have been wiped');
}
