import { scryptSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { decodeFormat } from '../../../src/repository/keys/format-object.ts';
import { openKeySlot } from '../../../src/repository/keys/key-slot.ts';
import { RepositoryKeys } from '../../../src/repository/keys/repository-keys.ts';
import { checkUnlock } from '../../../src/repository/keys/unlock.ts';
import { appendixA, bytes, gcm, hkdf256, readMap, slotCommitment } from './support/format-text.ts';

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
  expect(hkdf256(key, repositoryId, 'cow1 commitment')).toEqual(vector('commitment key'));
});

describe('key slots', () => {
  const commitment = slotCommitment(key, repositoryId, slot);

  test('of a passphrase', async () => {
    const typed = vector('passphrase as typed').toString('utf8');
    const fields = readMap(vector('slot, passphrase'));
    expect(Buffer.from(typed.normalize('NFC'), 'utf8')).toEqual(vector('passphrase in nfc'));
    const kek = scryptSync(vector('passphrase in nfc'), fields.salt as Buffer, 32, { N: 1024, r: 8, p: 1 });
    expect(kek).toEqual(vector('kek of the passphrase'));
    const wrapped = gcm(kek, nonce, key, associated);
    expect(fields).toMatchObject({ version: 1, kind: 'passphrase', n: 1024, r: 8, p: 1, nonce, wrapped, commitment });
    await opens('slot, passphrase', { passphrase: typed });
  });

  test('of a raw key', async () => {
    const fields = readMap(vector('slot, key'));
    const kek = hkdf256(vector('raw key'), fields.salt as Buffer, 'cow1 raw key');
    expect(kek).toEqual(vector('kek of the raw key'));
    expect(fields).toMatchObject({ kind: 'key', nonce, wrapped: gcm(kek, nonce, key, associated), commitment });
    await opens('slot, key', { key: vector('raw key') });
  });

  test('of a provider', async () => {
    const invert = async (data: Uint8Array) => data.map((byte) => byte ^ 0xff);
    const fields = readMap(vector('slot, provider'));
    expect(fields).toMatchObject({ kind: 'provider', provider: 'inverting', wrapped: await invert(key), commitment });
    await opens('slot, provider', { provider: { id: 'inverting', wrap: invert, unwrap: invert } });
  });

  async function opens(name: string, unlock: Parameters<typeof checkUnlock>[0]): Promise<void> {
    const opened = await openKeySlot(vector(name), checkUnlock(unlock), { repositoryId, slot });
    expect(Buffer.from(opened)).toEqual(key);
  }
});

test.each([
  ['format, encrypted', 'hmac-sha256', 'aes-256-gcm', slot],
  ['format, plain', 'sha256', 'none', null],
])('%s', (name, hash, cipher, keySlot) => {
  const fields = { magic: 'cow-cloud-backup', version: 1, minReader: 1, minWriter: 1, features: [], repositoryId };
  expect(readMap(vector(name))).toEqual({ ...fields, hash, cipher, fanOut: 128, mode: 'shared', keySlot });
  expect(decodeFormat(vector(name))).toEqual({
    version: 1,
    minReader: 1,
    minWriter: 1,
    features: [],
    repositoryId: Uint8Array.from(repositoryId),
    encrypted: cipher !== 'none',
    fanOut: 128,
    mode: 'shared',
    keySlot: keySlot ?? undefined,
  });
});
