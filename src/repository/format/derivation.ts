import { createHmac, createSecretKey, hash, hkdfSync } from 'node:crypto';

/** The primitives of `docs/FORMAT.md`, sections 3 and 4, that keys and ids are made with. */

export const KEY_BYTES = 32;
export const ID_BYTES = 32;
export const REPOSITORY_ID_BYTES = 16;

/** HKDF-SHA-256 (RFC 5869), 32 bytes. */
export function hkdf(key: Uint8Array, salt: Uint8Array, label: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(hkdfSync('sha256', key, salt, label, KEY_BYTES));
}

/** HMAC-SHA-256 of the parts, one after another. */
export function hmac(key: Uint8Array, ...parts: readonly (Uint8Array | string)[]): Uint8Array<ArrayBuffer> {
  const mac = createHmac('sha256', createSecretKey(key));
  for (const part of parts) mac.update(part);
  return new Uint8Array(mac.digest());
}

/** The content id of a block. @param key - the content id key of an encrypted repository */
export function contentId(key: Uint8Array | undefined, block: Uint8Array): Uint8Array<ArrayBuffer> {
  return key === undefined ? new Uint8Array(hash('sha256', block, 'buffer')) : hmac(key, block);
}
