import type { KeyProvider, Unlock } from '../../../src/repository/crypto/unlock.ts';
import type { Secret } from './manifest.ts';

/** What unlocks golden repositories. They hold no secrets, so all of this may be known. */

export const PASSPHRASE = 'the cow jumped over the moön';
export const KEY = new Uint8Array(32).fill(0x6b);
/** A key that is added and removed again. */
export const REMOVED_KEY = new Uint8Array(32).fill(0x72);

const inverted = (bytes: Uint8Array) => bytes.map((byte) => byte ^ 0xff);

/** A provider that needs no service: it inverts all bits. The test vectors of `docs/FORMAT.md` have it too. */
export const INVERTING: KeyProvider = {
  id: 'inverting',
  wrap: async (key) => inverted(key),
  unwrap: async (wrapped) => inverted(wrapped),
};

export function unlockWith(secret: Secret): Unlock {
  if ('passphrase' in secret) return secret;
  if ('key' in secret) return { key: Uint8Array.from(Buffer.from(secret.key, 'hex')) };
  return { provider: INVERTING };
}
