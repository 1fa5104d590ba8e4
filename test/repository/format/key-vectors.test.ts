import { scryptSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { checkKeySlot, decodeKeySlot, openKeySlot } from '../../../src/repository/crypto/key-slot.ts';
import { RepositoryKeys } from '../../../src/repository/crypto/repository-keys.ts';
import { checkUnlock } from '../../../src/repository/crypto/unlock.ts';
import { decodeFormat, formatObject, isAuthentic } from '../../../src/repository/format/format-object.ts';
import { appendixA, bytes, formatText, gcm, hkdf256, readMap, sealedSlot, slotBody } from './support/format-text.ts';

/** Appendix A of `docs/FORMAT.md`: recomputed from its own text, and by this library. */

const vector = appendixA();
const key = vector('repository key');
const repositoryId = vector('repository id');
const slot = '0123456789abcdef';
const associated = bytes('cow1 slot', repositoryId, slot);
const nonce = Buffer.from('e0e1e2e3e4e5e6e7e8e9eaeb', 'hex');

const DERIVED = {
  'content id key': ['cow1 content id', 'contentIdKey'],
  'record key': ['cow1 record key', 'recordKey'],
  'footer key': ['cow1 footer key', 'footerKey'],
  'log key': ['cow1 log key', 'logKey'],
} as const;

test.each(Object.entries(DERIVED))('the %s', (name, [label, getter]) => {
  expect(hkdf256(key, repositoryId, label)).toEqual(vector(name));
  expect(Buffer.from(RepositoryKeys.encrypted(key, repositoryId)[getter] as Uint8Array)).toEqual(vector(name));
});

test('the keys that this library never hands out', () => {
  expect(hkdf256(key, repositoryId, 'cow1 record id')).toEqual(vector('record id key'));
  expect(hkdf256(key, repositoryId, 'cow1 format mac')).toEqual(vector('format mac key'));
  expect(hkdf256(key, repositoryId, 'cow1 slot mac')).toEqual(vector('slot mac key'));
});

describe('key slots', () => {
  const copy = { version: 1, format: vector('format, encrypted') };

  test('of a passphrase', async () => {
    const typed = vector('passphrase as typed').toString('utf8');
    const fields = readMap(slotBody(vector('slot, passphrase')));
    expect(Buffer.from(typed.normalize('NFC'), 'utf8')).toEqual(vector('passphrase in nfc'));
    const kek = scryptSync(vector('passphrase in nfc'), fields.salt as Buffer, 32, { N: 1024, r: 8, p: 1 });
    expect(kek).toEqual(vector('kek of the passphrase'));
    const wrapped = gcm(kek, nonce, key, associated);
    expect(fields).toMatchObject({ ...copy, kind: 'passphrase', n: 1024, r: 8, p: 1, nonce, wrapped });
    await opens('slot, passphrase', { passphrase: typed });
  });

  test('of a raw key', async () => {
    const fields = readMap(slotBody(vector('slot, key')));
    const kek = hkdf256(vector('raw key'), fields.salt as Buffer, 'cow1 raw key');
    expect(kek).toEqual(vector('kek of the raw key'));
    expect(fields).toMatchObject({ ...copy, kind: 'key', nonce, wrapped: gcm(kek, nonce, key, associated) });
    await opens('slot, key', { key: vector('raw key') });
  });

  test('of a provider', async () => {
    const invert = async (data: Uint8Array) => data.map((byte) => byte ^ 0xff);
    const fields = readMap(slotBody(vector('slot, provider')));
    expect(fields).toMatchObject({ ...copy, kind: 'provider', provider: 'inverting', wrapped: await invert(key) });
    await opens('slot, provider', { provider: { id: 'inverting', wrap: invert, unwrap: invert } });
  });

  async function opens(name: string, unlock: Parameters<typeof checkUnlock>[0]): Promise<void> {
    const stored = vector(name);
    expect(sealedSlot(key, repositoryId, slot, slotBody(stored))).toEqual(stored);
    const opened = await openKeySlot(decodeKeySlot(stored), checkUnlock(unlock), { repositoryId, slot });
    expect(Buffer.from(opened.key)).toEqual(key);
    expect(checkKeySlot(stored, key, { repositoryId, slot })).toBeUndefined();
  }
});

test.each([
  ['encrypted', 'hmac-sha256', 'aes-256-gcm', slot],
  ['plain', 'sha256', 'none', null],
])('format, %s', (name, hash, cipher, keySlot) => {
  const body = vector(`format, ${name}`);
  const fields = { version: 1, minReader: 1, minWriter: 1, features: [], readerFeatures: [], repositoryId };
  expect(readMap(body)).toEqual({ ...fields, hash, cipher, fanOut: 128, mode: 'shared', keySlot });
  const encrypted = cipher !== 'none';
  const object = encrypted ? formatText(body, key, repositoryId) : formatText(body);
  expect(object.subarray(-32)).toEqual(vector(`checksum of format, ${name}`));
  expect(object.subarray(-64, -32)).toEqual(encrypted ? vector('mac of format') : Buffer.alloc(32));
  const stored = decodeFormat(object);
  expect(isAuthentic(stored, encrypted ? key : undefined)).toBe(true);
  expect(Buffer.from(formatObject(stored.format, encrypted ? key : undefined))).toEqual(object);
  expect(stored.format).toEqual({
    version: 1,
    minReader: 1,
    minWriter: 1,
    features: [],
    readerFeatures: [],
    repositoryId: Uint8Array.from(repositoryId),
    encrypted,
    fanOut: 128,
    mode: 'shared',
    keySlot: keySlot ?? undefined,
    body: Uint8Array.from(body),
  });
});
