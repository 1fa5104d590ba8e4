import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { RepositoryKeys } from '../../../src/repository/crypto/repository-keys.ts';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { randomBytes } from '../../support/randomness.ts';
import { bytes, hkdf256, hmac256, sha256 } from '../format/support/format-text.ts';

const key = randomBytes(32);
const repositoryId = randomBytes(16);
const block = randomBytes(5000);
const GETTERS = ['repositoryKey', 'contentIdKey', 'recordKey', 'footerKey', 'logKey'] as const;

describe('an encrypted repository', () => {
  test('has ids that nobody can make without its key', () => {
    const keys = RepositoryKeys.encrypted(key, repositoryId);
    expect(keys.encrypted).toBe(true);
    expect(Buffer.from(keys.contentId(block))).toEqual(hmac256(hkdf256(key, repositoryId, 'cow1 content id'), block));
    for (const kind of Object.values(RecordKind)) {
      const expected = hmac256(hkdf256(key, repositoryId, 'cow1 record id'), bytes(kind, block));
      expect(Buffer.from(keys.recordId(kind, block))).toEqual(expected);
    }
  });

  test('has keys that all differ, and differ from those of another repository with the same key', () => {
    const hexOf = (keys: RepositoryKeys) =>
      GETTERS.map((getter) => Buffer.from(keys[getter] as Uint8Array).toString('hex'));
    const ours = hexOf(RepositoryKeys.encrypted(key, repositoryId));
    const others = hexOf(RepositoryKeys.encrypted(key, randomBytes(16)));
    expect(new Set([...ours, ...others]).size).toBe(2 * GETTERS.length - 1); // The repository key is the same.
  });

  test('keeps a copy of the key', () => {
    const given = Uint8Array.from(key);
    const keys = RepositoryKeys.encrypted(given, repositoryId);
    given.fill(0);
    expect(Buffer.from(keys.repositoryKey as Uint8Array)).toEqual(key);
  });

  test('zeroes its keys when wiped, and gives none afterwards', () => {
    const keys = RepositoryKeys.encrypted(key, repositoryId);
    const handed = GETTERS.map((getter) => keys[getter] as Uint8Array);
    keys.wipe();
    keys.wipe();
    for (const secret of handed) expect(secret).toEqual(new Uint8Array(32));
    for (const getter of GETTERS) expect(() => keys[getter]).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(() => keys.contentId(block)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(() => keys.recordId(RecordKind.leaf, block)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });

  test('shows no key to whoever prints it', () => {
    const keys = RepositoryKeys.encrypted(Buffer.alloc(32, 'k'), repositoryId);
    const printed = inspect(keys, { showHidden: true, depth: 9 }) + JSON.stringify(keys);
    expect(printed).not.toMatch(/kkkk|6b6b|107/);
  });

  test('takes keys and ids of the right length only', () => {
    expect(() => RepositoryKeys.encrypted(key.subarray(1), repositoryId)).toThrow(TypeError);
    expect(() => RepositoryKeys.encrypted(key, repositoryId.subarray(1))).toThrow(TypeError);
  });
});

test('a plain repository has ids that anybody can check, and no keys', () => {
  const keys = RepositoryKeys.plain();
  expect(keys.encrypted).toBe(false);
  for (const getter of GETTERS) expect(keys[getter]).toBeUndefined();
  expect(Buffer.from(keys.contentId(block))).toEqual(sha256(block));
  for (const kind of Object.values(RecordKind)) {
    expect(Buffer.from(keys.recordId(kind, block))).toEqual(sha256(bytes('cow1 record id', kind, block)));
  }
});
