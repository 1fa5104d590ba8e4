import { createDecipheriv } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { AEAD_BYTES, NONCE_BYTES, opening, sealing, TAG_BYTES } from '../../src/common/aead.ts';
import { PIECE_BYTES } from '../../src/common/long-bytes.ts';
import { runAtOnce, type Steps } from '../../src/common/yield-to-event-loop.ts';

const AAD = Buffer.from('cow1 test');
const newKey = () => new Uint8Array(32).fill(7);
const SHORT = new Uint8Array(100).fill(1);
const LONG = new Uint8Array(3 * PIECE_BYTES + 5).fill(2);

/** Opens with Node alone, so that a mistake made twice shows. */
function decrypted(key: Uint8Array, sealed: Uint8Array): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES)).setAAD(AAD);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES)), decipher.final()]);
}

/** Zeroes the key after the first step, as `RepositoryKeys.wipe()` does. */
function wipedAfterOneStep<T>(work: Steps<T>, key: Uint8Array): T {
  expect(work.next().done).toBe(false);
  key.fill(0);
  return runAtOnce(work);
}

describe.each([
  ['short', SHORT],
  ['long', LONG],
])('a %s text', (_, text) => {
  test('opens with the key and the associated data that sealed it, and with no other', () => {
    const sealed = runAtOnce(sealing(newKey(), AAD, text));
    expect(sealed.length).toBe(text.length + AEAD_BYTES);
    expect(decrypted(newKey(), sealed).equals(text)).toBe(true);
    expect(runAtOnce(opening(newKey(), AAD, sealed))).toEqual(text);
    expect(runAtOnce(opening(newKey().fill(8), AAD, sealed))).toBeUndefined();
    expect(runAtOnce(opening(newKey(), Buffer.from('cow1 tess'), sealed))).toBeUndefined();
    for (const at of [0, NONCE_BYTES, sealed.length - 1]) {
      const changed = Uint8Array.from(sealed);
      changed[at]! ^= 1;
      expect(runAtOnce(opening(newKey(), AAD, changed))).toBeUndefined();
    }
    for (const length of [0, NONCE_BYTES, AEAD_BYTES - 1, sealed.length - 1]) {
      expect(runAtOnce(opening(newKey(), AAD, sealed.subarray(0, length)))).toBeUndefined();
    }
  });

  test('has a checksum with its label in a plain repository', () => {
    const sealed = runAtOnce(sealing(undefined, AAD, text, 'cow1 test'));
    expect(sealed.length).toBe(text.length + 32);
    expect(runAtOnce(opening(undefined, AAD, sealed, 'cow1 test'))).toEqual(text);
    expect(runAtOnce(opening(undefined, AAD, sealed, 'cow1 tess'))).toBeUndefined();
    expect(runAtOnce(opening(undefined, AAD, sealed.subarray(0, 31), 'cow1 test'))).toBeUndefined();
  });

  test('is sealed with its own key where the key is wiped while sealing is suspended', () => {
    const key = newKey();
    const sealed = wipedAfterOneStep(sealing(key, AAD, text), key);
    expect(() => decrypted(new Uint8Array(32), sealed)).toThrow();
    expect(decrypted(newKey(), sealed).equals(text)).toBe(true);
  });

  test('is opened where the key is wiped while opening is suspended', () => {
    const key = newKey();
    expect(wipedAfterOneStep(opening(key, AAD, runAtOnce(sealing(newKey(), AAD, text))), key)).toEqual(text);
  });

  test('is neither sealed nor opened with a key that was wiped before the first step', () => {
    const key = newKey();
    const [seal, open] = [sealing(key, AAD, text), opening(key, AAD, new Uint8Array(text.length + AEAD_BYTES))];
    key.fill(0);
    for (const work of [seal, open]) {
      expect(() => work.next()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    }
  });
});
