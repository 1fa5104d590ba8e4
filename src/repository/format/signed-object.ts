import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/**
 * How `format` and key slots end: `docs/FORMAT.md`, section 2. The checksum shows accidents to everybody; the MAC shows
 * everything else to whoever has the repository's key. Both cover all bytes before them, so fields that a later version
 * adds are covered as well.
 */

export const MAC_BYTES = 32;
/** The MAC and the checksum. */
export const SIGNATURE_BYTES = MAC_BYTES + 32;

export type SignedLabel = 'cow1 format' | 'cow1 key slot';

/** An object whose checksum is right. */
export interface SignedObject {
  readonly content: Uint8Array;
  readonly mac: Uint8Array;
}

/** `content || MAC || checksum`. @param macKey - 32 bytes; `undefined` in a plain repository, where the MAC is zeroes */
export function signObject(
  label: SignedLabel,
  macKey: Uint8Array | undefined,
  content: Uint8Array,
  context = '',
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(content.length + SIGNATURE_BYTES);
  bytes.set(content);
  bytes.set(macOf(macKey, content, context), content.length);
  const signed = bytes.subarray(0, content.length + MAC_BYTES);
  bytes.set(checksumOf(label, signed), signed.length);
  return bytes;
}

/** Takes an object apart; `undefined` where its checksum is wrong. */
export function openSignedObject(label: SignedLabel, bytes: Uint8Array): SignedObject | undefined {
  const end = bytes.length - SIGNATURE_BYTES;
  if (end < 0) return undefined;
  const signed = bytes.subarray(0, end + MAC_BYTES);
  if (!timingSafeEqual(checksumOf(label, signed), bytes.subarray(end + MAC_BYTES))) return undefined;
  return { content: bytes.subarray(0, end), mac: bytes.subarray(end, end + MAC_BYTES) };
}

/** Whether the MAC is the one of this key. */
export function isSignedWith(macKey: Uint8Array | undefined, { content, mac }: SignedObject, context = ''): boolean {
  return timingSafeEqual(macOf(macKey, content, context), mac);
}

function macOf(macKey: Uint8Array | undefined, content: Uint8Array, context: string): Uint8Array {
  if (macKey === undefined) return new Uint8Array(MAC_BYTES);
  return createHmac('sha256', macKey).update(context).update(content).digest();
}

function checksumOf(label: SignedLabel, signed: Uint8Array): Uint8Array {
  return createHash('sha256').update(label).update(signed).digest();
}
