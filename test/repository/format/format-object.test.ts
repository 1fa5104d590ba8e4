import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import {
  checkWritable,
  decodeFormat,
  decodeFormatBody,
  encodeFormat,
  FORMAT_BYTES,
  type FormatFields,
  formatObject,
  isAuthentic,
} from '../../../src/repository/format/format-object.ts';
import { randomBytesFrom, seededRandom } from '../../../src/testing/seeded-random.ts';
import { randomBytes, testSeed } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { readMap, sha256 } from './support/format-text.ts';

const key = Uint8Array.from(randomBytes(32));
const encrypted: FormatFields = {
  version: 1,
  minReader: 1,
  minWriter: 1,
  features: [],
  readerFeatures: [],
  repositoryId: Uint8Array.from(randomBytes(16)),
  encrypted: true,
  fanOut: 128,
  mode: 'shared',
  keySlot: '0123456789abcdef',
};
const plain: FormatFields = { ...encrypted, encrypted: false, keySlot: undefined, mode: 'single-writer', fanOut: 8 };
const keyOf = (format: FormatFields) => (format.encrypted ? key : undefined);
const bodyOf = (format: FormatFields) => encodeFormat(format).body;
const objectOf = (format: FormatFields) => formatObject(encodeFormat(format), keyOf(format));
const changed = (changes: object) => encodeMsgpack({ ...readMap(bodyOf(encrypted)), ...changes });

test.each([encrypted, plain, { ...encrypted, keySlot: undefined, fanOut: 248 }])(
  'decodes to what was encoded (%#)',
  (fields) => {
    const format = encodeFormat(fields);
    expect(format).toEqual({ ...fields, body: format.body });
    expect(decodeFormatBody(format.body)).toEqual(format);
    const stored = decodeFormat(objectOf(fields));
    expect(stored.format).toEqual(format);
    expect(isAuthentic(stored, keyOf(fields))).toBe(true);
    expect(() => checkWritable(format)).not.toThrow();
  },
);

test('does not share memory with the bytes that it was decoded from', () => {
  const bytes = objectOf(plain);
  const { format } = decodeFormat(bytes);
  bytes.fill(0);
  expect(format).toEqual(encodeFormat(plain));
});

test('is the same object each time: so whoever restores it writes what was there', () => {
  for (const fields of [encrypted, plain]) {
    const object = objectOf(fields);
    expect(object).toHaveLength(FORMAT_BYTES);
    const { body } = decodeFormat(object).format;
    expect(formatObject(decodeFormatBody(body), keyOf(fields))).toEqual(object);
  }
});

test('nothing is encoded that would not be read', () => {
  const long = { features: ['x'.repeat(1000)] };
  for (const wrong of [
    { fanOut: 12 },
    { keySlot: 'x' },
    { repositoryId: new Uint8Array(15) },
    { minWriter: 2 },
    long,
  ]) {
    expect(() => encodeFormat({ ...encrypted, ...wrong })).toThrow(withCode('REPOSITORY_CORRUPT'));
  }
  for (const newer of [{ minReader: 2 }, { readerFeatures: ['dictionaries'] }]) {
    expect(() => encodeFormat({ ...encrypted, ...newer })).toThrow(withCode('REPOSITORY_UNSUPPORTED'));
  }
});

describe('a damaged one', () => {
  test.each([
    { version: 0 },
    { version: '1' },
    { minReader: 0 },
    { minReader: null },
    { minReader: 1.5 },
    { minWriter: 2 }, // More than the version that it is.
    { minWriter: 0 },
    { features: 'none' },
    { features: [1] },
    { features: null },
    { features: [''] },
    { readerFeatures: 'none' },
    { readerFeatures: [1] },
    { readerFeatures: null }, // It is there from the first version on: none could be left out without notice.
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
    { padding: 'x'.repeat(FORMAT_BYTES) }, // No copy of it would be whole.
  ])('is not believed: %o', (changes) => {
    expect(() => decodeFormatBody(changed(changes))).toThrow(withCode('REPOSITORY_CORRUPT'));
  });

  test.each([[[]], ['text'], [null], [new Uint8Array(4)], [3]])('that is no map is not believed (%#)', (value) => {
    expect(() => decodeFormatBody(encodeMsgpack(value))).toThrow(withCode('REPOSITORY_CORRUPT'));
  });

  test.each([encrypted, plain])('is noticed whichever bit of it flips, without any key (%#)', (fields) => {
    const bytes = objectOf(fields);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Uint8Array.from(bytes);
      flipped[bit >>> 3]! ^= 1 << (bit & 7);
      expect(() => decodeFormat(flipped), `bit ${bit}`).toThrow(withCode('REPOSITORY_CORRUPT'));
    }
  });

  test.each([encrypted, plain])('is noticed when it is cut, or something follows it (%#)', (fields) => {
    const bytes = objectOf(fields);
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeFormat(bytes.subarray(0, length))).toThrow(withCode('REPOSITORY_CORRUPT'));
    }
    expect(() => decodeFormat(Buffer.concat([bytes, Buffer.of(0)]))).toThrow(withCode('REPOSITORY_CORRUPT'));
  });

  test('whose checksum somebody made anew is noticed by whoever has the key, at every byte', () => {
    const bytes = objectOf(encrypted);
    for (let at = 0; at < bytes.length - 32; at++) {
      const forged = withNewChecksum(bytes, (copy) => {
        copy[at]! ^= 1;
      });
      let isBelieved: boolean;
      try {
        const stored = decodeFormat(forged);
        isBelieved = isAuthentic(stored, stored.format.encrypted ? key : undefined);
      } catch (error) {
        expect(BackupError.is(error), String(error)).toBe(true);
        isBelieved = false;
      }
      expect(isBelieved, `byte ${at}`).toBe(false);
    }
  });

  test('whose MAC was stripped, or is another key’s, is noticed by whoever has the key', () => {
    const stripped = withNewChecksum(objectOf(encrypted), (copy) => copy.subarray(-64, -32).fill(0));
    expect(isAuthentic(decodeFormat(stripped), key)).toBe(false);
    const others = formatObject(encodeFormat(encrypted), Uint8Array.from(randomBytes(32)));
    expect(isAuthentic(decodeFormat(others), key)).toBe(false);
  });

  test('that is plain has no MAC', () => {
    const signed = withNewChecksum(objectOf(plain), (copy) => copy.subarray(-64, -32).fill(1));
    expect(isAuthentic(decodeFormat(signed), undefined)).toBe(false);
  });

  test('made of random bytes gives an error with a code', () => {
    const seed = testSeed();
    const random = seededRandom(seed);
    const body = bodyOf(encrypted);
    for (let round = 0; round < 5000; round++) {
      const mutated = round % 2 === 0 ? randomBytesFrom(random, Math.floor(random() * 300)) : Uint8Array.from(body);
      for (let edits = 0; edits < 3; edits++) mutated[Math.floor(random() * mutated.length)] = random() * 256;
      for (const decode of [decodeFormatBody, decodeFormat]) {
        try {
          decode(mutated);
        } catch (error) {
          expect(BackupError.is(error), `seed ${seed}, round ${round}: ${error}`).toBe(true);
        }
      }
    }
  });
});

describe('one of a later version', () => {
  test('is read as long as it says that this version may, whatever else it holds', () => {
    const body = changed({ version: 7, minWriter: 1, colour: 'green' });
    const later = decodeFormatBody(body);
    expect(later).toEqual({ ...encrypted, version: 7, body });
    expect(() => checkWritable(later)).not.toThrow();
    // What is not known here is kept where it is copied.
    expect(decodeFormat(formatObject(later, key)).format.body).toEqual(body);
  });

  test('is read but not written where it asks for a newer writer, or uses a feature unknown here', () => {
    for (const changes of [{ version: 2, minWriter: 2 }, { features: ['compaction'] }]) {
      const format = decodeFormatBody(changed(changes));
      expect(() => checkWritable(format)).toThrow(withCode('REPOSITORY_UNSUPPORTED'));
    }
  });

  test.each([
    { version: 2, minReader: 2, hash: 'blake3', fanOut: 1 },
    { version: null, minReader: 2, minWriter: 'x', features: 7, readerFeatures: 'all', repositoryId: null },
    { minReader: 2 },
    { readerFeatures: ['dictionaries'] },
    { version: 'two', minWriter: null, features: null, readerFeatures: ['dictionaries'], cipher: 'rot13' },
  ])('is refused where it asks for a newer reader, before its other fields are judged: %o', (changes) => {
    expect(() => decodeFormatBody(changed(changes))).toThrow(withCode('REPOSITORY_UNSUPPORTED'));
  });

  test('is refused by the name of the feature that a reader must know', () => {
    const bytes = changed({ readerFeatures: ['dictionaries'] });
    expect(() => decodeFormatBody(bytes)).toThrow(/to read .* the feature "dictionaries": update this library/);
    expect(decodeFormatBody(changed({ features: ['dictionaries'] })).features).toEqual(['dictionaries']);
  });
});

/** As somebody without the key can make it. */
function withNewChecksum(bytes: Uint8Array, change: (copy: Buffer) => unknown): Uint8Array {
  const copy = Buffer.from(bytes);
  change(copy);
  sha256(Buffer.concat([Buffer.from('cow1 format'), copy.subarray(0, -32)])).copy(copy, copy.length - 32);
  return Uint8Array.from(copy);
}
