import { describe, expect, test } from 'vitest';
import { encodePlain } from '../../../src/common/bounded-msgpack.ts';
import { BackupError } from '../../../src/common/errors.ts';
import {
  checkWritable,
  decodeFormat,
  encodeFormat,
  type RepositoryFormat,
} from '../../../src/repository/keys/format-object.ts';
import { randomBytesFrom, seededRandom } from '../../../src/testing/seeded-random.ts';
import { randomBytes, testSeed } from '../../support/randomness.ts';
import { readMap } from './support/format-text.ts';

const encrypted: RepositoryFormat = {
  version: 1,
  minReader: 1,
  minWriter: 1,
  features: [],
  repositoryId: Uint8Array.from(randomBytes(16)),
  encrypted: true,
  fanOut: 128,
  mode: 'shared',
  keySlot: '0123456789abcdef',
};
const plain: RepositoryFormat = {
  ...encrypted,
  encrypted: false,
  keySlot: undefined,
  mode: 'single-writer',
  fanOut: 8,
};
const withCode = (code: string) => expect.objectContaining({ code });
const changed = (changes: object) => encodePlain({ ...readMap(encodeFormat(encrypted)), ...changes });

test.each([encrypted, plain, { ...encrypted, keySlot: undefined, fanOut: 248 }])(
  'decodes to what was encoded (%#)',
  (format) => {
    expect(decodeFormat(encodeFormat(format))).toEqual(format);
    expect(() => checkWritable(format)).not.toThrow();
  },
);

test('does not share memory with the bytes that it was decoded from', () => {
  const bytes = encodeFormat(plain);
  const format = decodeFormat(bytes);
  bytes.fill(0);
  expect(format.repositoryId).toEqual(plain.repositoryId);
});

test('nothing is encoded that would not be read', () => {
  for (const wrong of [{ fanOut: 12 }, { keySlot: 'x' }, { repositoryId: new Uint8Array(15) }, { minReader: 2 }]) {
    expect(() => encodeFormat({ ...encrypted, ...wrong })).toThrow(withCode('REPOSITORY_CORRUPT'));
  }
});

describe('a damaged one', () => {
  test.each([
    { magic: 'cow-cloud-backups' },
    { magic: null },
    { version: 0 },
    { version: '1' },
    { minReader: 0 },
    { minReader: 2 }, // More than the version that it is.
    { minWriter: 2 },
    { features: 'none' },
    { features: [1] },
    { repositoryId: new Uint8Array(15) },
    { repositoryId: 'sixteen letters.' },
    { hash: 'sha256' }, // Not with encryption.
    { cipher: 'none' },
    { hash: 'md5' },
    { cipher: 'rot13' },
    { fanOut: 0 },
    { fanOut: 4 },
    { fanOut: 12 },
    { fanOut: 1032 },
    { fanOut: 128.5 },
    { mode: 'solo' },
    { keySlot: '0123' },
    { keySlot: 7 },
    { hash: 'sha256', cipher: 'none' }, // A plain one has no key slot.
  ])('is not believed: %o', (changes) => {
    expect(() => decodeFormat(changed(changes))).toThrow(withCode('REPOSITORY_CORRUPT'));
  });

  test.each([[[]], ['text'], [null], [new Uint8Array(4)], [3]])('that is no map is not believed (%#)', (value) => {
    expect(() => decodeFormat(encodePlain(value))).toThrow(withCode('REPOSITORY_CORRUPT'));
  });

  test('of more than 64 KiB is not looked at', () => {
    expect(() => decodeFormat(changed({ padding: 'x'.repeat(64 * 1024) }))).toThrow(withCode('REPOSITORY_CORRUPT'));
    expect(decodeFormat(changed({ padding: 'x'.repeat(60 * 1024) }))).toEqual(encrypted);
  });

  test('gives an error with a code, or a valid format, whichever bit of it flips', () => {
    const bytes = encodeFormat(encrypted);
    let refused = 0;
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Uint8Array.from(bytes);
      flipped[bit >>> 3] = (flipped[bit >>> 3] as number) ^ (1 << (bit & 7));
      try {
        const format = decodeFormat(flipped);
        expect(encodeFormat(format)).toHaveLength(bytes.length - (format.keySlot === undefined ? 16 : 0));
      } catch (error) {
        expect(BackupError.is(error), String(error)).toBe(true);
        refused++;
      }
    }
    // What can change unnoticed: the repository's id (then no key slot and no log entry opens), version, fan-out, the
    // name of the field `keySlot` and its digits, which are a hint.
    expect(refused).toBeGreaterThan(bytes.length * 8 * 0.75);
  });

  test('made of random bytes gives an error with a code', () => {
    const seed = testSeed();
    const random = seededRandom(seed);
    const bytes = encodeFormat(encrypted);
    for (let round = 0; round < 5000; round++) {
      const mutated = round % 2 === 0 ? randomBytesFrom(random, Math.floor(random() * 300)) : Uint8Array.from(bytes);
      for (let edits = 0; edits < 3; edits++) mutated[Math.floor(random() * mutated.length)] = random() * 256;
      try {
        decodeFormat(mutated);
      } catch (error) {
        expect(BackupError.is(error), `seed ${seed}, round ${round}: ${error}`).toBe(true);
      }
    }
  });
});

describe('one of a later version', () => {
  test('is read as long as it says that this version may, whatever else it holds', () => {
    const later = decodeFormat(changed({ version: 7, minWriter: 1, colour: 'green' }));
    expect(later).toEqual({ ...encrypted, version: 7 });
    expect(() => checkWritable(later)).not.toThrow();
  });

  test('is read but not written where it asks for a newer writer, or uses a feature unknown here', () => {
    for (const changes of [{ version: 2, minWriter: 2 }, { features: ['compaction'] }]) {
      const format = decodeFormat(changed(changes));
      expect(() => checkWritable(format)).toThrow(withCode('REPOSITORY_UNSUPPORTED'));
    }
  });

  test('is refused where it asks for a newer reader, before its other fields are judged', () => {
    const bytes = changed({ version: 2, minReader: 2, hash: 'blake3', fanOut: 1 });
    expect(() => decodeFormat(bytes)).toThrow(withCode('REPOSITORY_UNSUPPORTED'));
  });
});
