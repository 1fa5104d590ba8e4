import { type ScryptOptions, scrypt } from 'node:crypto';
import { KEY_BYTES } from '../format/derivation.ts';

/** How much work a passphrase costs (RFC 7914). */
export interface ScryptCost {
  readonly n: number;
  readonly r: number;
  readonly p: number;
}

/** 128 MiB and some 0.3 seconds. */
export const DEFAULT_SCRYPT_COST: ScryptCost = { n: 2 ** 17, r: 8, p: 1 };

/** Limits of one slot: memory, and 2^23 block mixes, which take some 3 seconds. Each is eight times the default. */
const MAX_MEMORY_BYTES = 2 ** 30;
const MAX_WORK = 2 ** 23;
const MAX_P = 16;
/** What runs before the mixing takes 128·r·p bytes too, which the limit on 128·n·r does not bound where n is small. */
const MAX_LANES_BYTES = 2 ** 26;

/** Time that a passphrase costs, in block mixes: it grows with all three parameters. */
export function scryptWork({ n, r, p }: ScryptCost): number {
  return n * r * p;
}

/** Whether the parameters of a slot are within a reader's limits. A slot may be an attacker's, so this is checked before any work. */
export function scryptCostIsAllowed(cost: ScryptCost): boolean {
  const { n, r, p } = cost;
  const positive = [n, r, p].every((value) => Number.isSafeInteger(value) && value >= 1);
  return (
    positive &&
    n >= 2 &&
    Number.isInteger(Math.log2(n)) &&
    128 * n * r <= MAX_MEMORY_BYTES &&
    scryptWork(cost) <= MAX_WORK &&
    p <= MAX_P &&
    128 * r * p <= MAX_LANES_BYTES &&
    Math.log2(n) < 16 * r // RFC 7914, section 2
  );
}

/** The key that a passphrase gives, 32 bytes. Runs on the thread pool. */
export function passphraseKey(
  passphrase: Uint8Array,
  salt: Uint8Array,
  { n, r, p }: ScryptCost,
): Promise<Uint8Array<ArrayBuffer>> {
  const options: ScryptOptions = { N: n, r, p, maxmem: 128 * r * (n + p + 2) + 1024 };
  return new Promise((resolve, reject) => {
    scrypt(passphrase, salt, KEY_BYTES, options, (error, key) => {
      if (error) reject(error);
      else resolve(new Uint8Array(key.buffer as ArrayBuffer, key.byteOffset, key.length));
    });
  });
}
