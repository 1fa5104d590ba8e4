import { type AbortOptions, abortable } from '../../common/abort.ts';
import { hkdf, wipeBytes } from '../format/derivation.ts';
import { DEFAULT_SCRYPT_COST, passphraseKey, type ScryptCost } from './scrypt.ts';
import type { CheckedUnlock } from './unlock.ts';

/** Works with the key that wraps the repository's key, and zeroes it: also where nobody waits for it any more. */
export async function withWrappingKey<T>(
  unlock: CheckedUnlock,
  salt: Uint8Array,
  cost: ScryptCost | undefined,
  { signal }: AbortOptions,
  work: (kek: Uint8Array) => T,
): Promise<T> {
  const making = wrappingKey(unlock, salt, cost);
  let kek: Uint8Array;
  try {
    kek = await abortable(making, signal);
  } catch (error) {
    making.then(wipeBytes, () => {});
    throw error;
  }
  try {
    return work(kek);
  } finally {
    wipeBytes(kek);
  }
}

/** The key that wraps the repository's key. */
async function wrappingKey(
  unlock: CheckedUnlock,
  salt: Uint8Array,
  cost: ScryptCost | undefined,
): Promise<Uint8Array<ArrayBuffer>> {
  if (unlock.kind === 'passphrase') return passphraseKey(unlock.passphrase, salt, cost ?? DEFAULT_SCRYPT_COST);
  return hkdf(secretOf(unlock), salt, 'cow1 raw key');
}

/** What it is made of. */
export function secretOf(unlock: CheckedUnlock): Uint8Array {
  return unlock.kind === 'passphrase' ? unlock.passphrase : (unlock as { key: Uint8Array }).key;
}
