import { createHmac, createSecretKey, randomBytes } from 'node:crypto';

/** Returns `length` unpredictable bytes. */
export type RandomSource = (length: number) => Uint8Array;

const LABEL = 'cow1 hedged random';
const RANDOM_BYTES = 32;
const BLOCK_BYTES = 64;
const KINDS: readonly string[] = ['object', 'string', 'number'];

/**
 * Makes random bytes for a nonce, a name, an id or a salt: a keyed hash of fresh random bytes and of the content that they are
 * for.
 *
 * Two copies of one process memory (a virtual machine that was cloned, or reverted to a snapshot) draw the same numbers from
 * their random generators. These bytes differ as soon as the contents differ: the copies never seal two texts under one key
 * and nonce, and never give one name to two objects. Only copies with the same content get the same bytes.
 *
 * @param secret - a key of the repository, if it has one; the bytes then can't be guessed even if the generator can
 * @param what - everything in which two uses may differ: the purpose, the location, and the text (or its digest, if it is long)
 */
export function hedgedBytes(
  length: number,
  secret: Uint8Array | undefined,
  ...what: readonly (Uint8Array | string | number)[]
): Uint8Array<ArrayBuffer> {
  return hedge(randomBytes, length, secret, ...what);
}

/** As {@link hedgedBytes}, with a random source of the caller's. */
export function hedge(
  random: RandomSource,
  length: number,
  secret: Uint8Array | undefined,
  ...what: readonly (Uint8Array | string | number)[]
): Uint8Array<ArrayBuffer> {
  const seed = random(RANDOM_BYTES);
  const key = createSecretKey(secret ?? seed);
  const bytes = new Uint8Array(length);
  for (let at = 0, block = 0; at < length; at += BLOCK_BYTES, block++) {
    const mac = createHmac('sha512', key);
    mac.update(LABEL).update(head(length, block)).update(seed);
    // Each part follows its length and kind, so that two different lists of parts never make the same text.
    for (const part of what) {
      const body = typeof part === 'object' ? part : Buffer.from(String(part));
      mac.update(head(body.length, KINDS.indexOf(typeof part))).update(body);
    }
    const drawn = mac.digest();
    bytes.set(drawn.subarray(0, Math.min(BLOCK_BYTES, length - at)), at);
  }
  return bytes;
}

/** As {@link hedgedBytes}, as two hex digits for each byte. */
export function hedgedHex(
  length: number,
  secret: Uint8Array | undefined,
  ...what: readonly (Uint8Array | string | number)[]
): string {
  return Buffer.from(hedgedBytes(length, secret, ...what)).toString('hex');
}

function head(length: number, number: number): Uint8Array {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64LE(BigInt(length));
  bytes.writeBigUInt64LE(BigInt(number), 8);
  return bytes;
}
