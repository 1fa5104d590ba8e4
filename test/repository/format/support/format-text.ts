import { createCipheriv, createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * What `docs/FORMAT.md` says, done step by step with bare primitives and nothing of `src/`: a second implementation for
 * tests to compare with.
 */

export const bytes = (...parts: (Uint8Array | string | number)[]): Buffer =>
  Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'number') return Buffer.of(part);
      return typeof part === 'string' ? Buffer.from(part, 'utf8') : Buffer.from(part);
    }),
  );

export const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);

export const sha256 = (data: Uint8Array): Buffer => createHash('sha256').update(data).digest();

export const hmac256 = (key: Uint8Array, data: Uint8Array): Buffer => createHmac('sha256', key).update(data).digest();

/** RFC 5869 for one block of output: extract, expand. */
export function hkdf256(ikm: Uint8Array, salt: Uint8Array, info: string): Buffer {
  return hmac256(hmac256(salt, ikm), bytes(info, 1));
}

/** The ciphertext with its tag last. */
export function gcm(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, aad: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
  return bytes(cipher.update(plaintext), cipher.final(), cipher.getAuthTag());
}

/** A sealed record of an encrypted repository. */
export function sealedRecord(
  repositoryKey: Uint8Array,
  repositoryId: Uint8Array,
  record: { kind: number; codec: number; rawLength: number; id: Uint8Array; nonce: Uint8Array; content: Uint8Array },
): Buffer {
  const { kind, codec, rawLength, id, nonce, content } = record;
  const aad = bytes('cow1 record', kind, codec, u32(rawLength), id);
  const key = hmac256(hkdf256(repositoryKey, repositoryId, 'cow1 record key'), aad);
  return bytes(nonce, gcm(key, nonce, content, aad));
}

/** `signed || checksum`, as `format` and key slots end. */
export function withChecksum(label: 'cow1 format' | 'cow1 key slot', signed: Uint8Array): Buffer {
  return bytes(signed, sha256(bytes(label, signed)));
}

/** A key slot out of its body. */
export function sealedSlot(
  repositoryKey: Uint8Array,
  repositoryId: Uint8Array,
  slot: string,
  body: Uint8Array,
): Buffer {
  const mac = hmac256(hkdf256(repositoryKey, repositoryId, 'cow1 slot mac'), bytes(slot, body));
  return withChecksum('cow1 key slot', bytes(body, mac));
}

export function slotBody(slot: Uint8Array): Buffer {
  return Buffer.from(slot.subarray(0, -64));
}

/** The object `format` out of its body. @param repositoryKey - of an encrypted repository */
export function formatText(body: Uint8Array, repositoryKey?: Uint8Array, repositoryId?: Uint8Array): Buffer {
  const content = bytes('cow-cloud-backup', u32(body.length), body, Buffer.alloc(940 - body.length));
  const mac =
    repositoryKey === undefined || repositoryId === undefined
      ? Buffer.alloc(32)
      : hmac256(hkdf256(repositoryKey, repositoryId, 'cow1 format mac'), content);
  return withChecksum('cow1 format', bytes(content, mac));
}

/** A plain map of MessagePack with values as the objects of sections 2 and 3 have them. */
export function readMap(object: Uint8Array): Record<string, unknown> {
  const data = Buffer.from(object);
  let at = 0;
  const take = (length: number) => {
    at += length;
    return data.subarray(at - length, at);
  };
  const value = (): unknown => {
    const type = take(1)[0] as number;
    if (type < 0x80) return type;
    if (type >> 4 === 8) return Object.fromEntries(Array.from({ length: type & 15 }, () => [value(), value()]));
    if (type >> 4 === 9) return Array.from({ length: type & 15 }, value);
    if (type >> 5 === 5) return take(type & 31).toString('utf8');
    if (type === 0xc0) return null;
    if (type === 0xc4) return take(take(1)[0] as number);
    if (type === 0xcc) return take(1)[0];
    if (type === 0xcd) return take(2).readUInt16BE();
    if (type === 0xce) return take(4).readUInt32BE();
    throw new Error(`type ${type} is not known here`);
  };
  const map = value() as Record<string, unknown>;
  if (at !== data.length) throw new Error('something follows the map');
  return map;
}

/** The named values of Appendix A. */
export function appendixA(): (name: string) => Buffer {
  const text = readFileSync(join(import.meta.dirname, '../../../../docs/FORMAT.md'), 'utf8');
  const appendix = text.slice(text.indexOf('## Appendix A: test vectors'));
  const found = new Map<string, Buffer>();
  for (const [, name, hex] of appendix.matchAll(/^ {4}([a-z][a-z ,0-9()-]*?) += ([0-9a-f]+)$/gm)) {
    found.set(name as string, Buffer.from(hex as string, 'hex'));
  }
  return (name) => {
    const vector = found.get(name);
    if (vector === undefined) throw new Error(`docs/FORMAT.md, Appendix A, has no line for ${name}`);
    return vector;
  };
}
