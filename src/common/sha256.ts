import { StepCounter, type Steps } from './yield-to-event-loop.ts';

/**
 * SHA-256 of a message whose beginning is known by its digest only.
 *
 * A digest is the state in which SHA-256 is after the message and its padding. So where the padding stands in the message
 * itself, the digest of what comes before it is enough to go on from there. Nothing of Node's gives or takes that state.
 */

const BLOCK_BYTES = 64;
/** The most bytes that the padding of a message has. */
export const MAX_SHA256_PADDING = BLOCK_BYTES + 8;

/** With this SHA-256 ends a message of so many bytes: 80, zeroes, and the length in bits, up to a multiple of 64 bytes. */
export function sha256Padding(messageBytes: number): Buffer {
  const padded = Math.ceil((messageBytes + 9) / BLOCK_BYTES) * BLOCK_BYTES;
  const padding = Buffer.alloc(padded - messageBytes);
  padding[0] = 0x80;
  padding.writeBigUInt64BE(BigInt(messageBytes) * 8n, padding.length - 8);
  return padding;
}

/**
 * The SHA-256 of a message, its {@link sha256Padding} and `rest`.
 *
 * @param digest - the SHA-256 of the message
 */
export function* continuingSha256(digest: Uint8Array, messageBytes: number, rest: Uint8Array): Steps<Uint8Array> {
  const from = messageBytes + sha256Padding(messageBytes).length;
  const given = Buffer.from(digest);
  const state = Uint32Array.from({ length: 8 }, (_, word) => given.readUInt32BE(word * 4));
  const schedule = new Uint32Array(BLOCK_BYTES);
  const steps = new StepCounter();
  // Only the end is copied: the rest may be long.
  const whole = rest.length - (rest.length % BLOCK_BYTES);
  const ending = Buffer.concat([rest.subarray(whole), sha256Padding(from + rest.length)]);
  for (const data of [Buffer.from(rest.buffer, rest.byteOffset, whole), ending]) {
    for (let at = 0; at < data.length; at += BLOCK_BYTES) {
      compress(state, schedule, data, at);
      if (steps.isDue()) yield;
    }
  }
  const result = Buffer.alloc(32);
  for (const [word, value] of state.entries()) result.writeUInt32BE(value, word * 4);
  return new Uint8Array(result);
}

/** FIPS 180-4, section 6.2.2. */
function compress(state: Uint32Array, w: Uint32Array, data: Buffer, at: number): void {
  for (let t = 0; t < 16; t++) w[t] = data.readUInt32BE(at + t * 4);
  for (let t = 16; t < BLOCK_BYTES; t++) {
    const [x, y] = [w[t - 15] as number, w[t - 2] as number];
    const s0 = rotated(x, 7) ^ rotated(x, 18) ^ (x >>> 3);
    const s1 = rotated(y, 17) ^ rotated(y, 19) ^ (y >>> 10);
    w[t] = (w[t - 16] as number) + s0 + (w[t - 7] as number) + s1;
  }
  let [a, b, c, d, e, f, g, h] = state as unknown as [number, number, number, number, number, number, number, number];
  for (let t = 0; t < BLOCK_BYTES; t++) {
    const s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + (ROUNDS[t] as number) + (w[t] as number)) | 0;
    const s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  for (const [word, value] of [a, b, c, d, e, f, g, h].entries()) state[word] = (state[word] as number) + value;
}

function rotated(value: number, by: number): number {
  return (value >>> by) | (value << (32 - by));
}

/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
const ROUNDS = Uint32Array.from(firstPrimes(BLOCK_BYTES), cubeRootFraction);

function firstPrimes(count: number): number[] {
  const primes: number[] = [];
  for (let n = 2; primes.length < count; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  return primes;
}

/** In integers, because a number has too few digits for the larger primes. */
function cubeRootFraction(prime: number): number {
  const cube = BigInt(prime) << 96n;
  let [low, high] = [0n, 1n << 36n];
  while (high - low > 1n) {
    const middle = (low + high) / 2n;
    if (middle ** 3n <= cube) low = middle;
    else high = middle;
  }
  return Number(low & 0xffff_ffffn);
}
