import { constants, crc32, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { isZero } from '../../../src/common/bytes.ts';
import { checkLevel } from '../../../src/common/compression.ts';
import { BackupError } from '../../../src/common/errors.ts';
import { RepositoryKeys } from '../../../src/repository/crypto/repository-keys.ts';
import { Codec, MAX_RAW_LENGTH, RecordKind } from '../../../src/repository/format/record.ts';
import { identityPart } from '../../../src/repository/format/record-parts.ts';
import {
  maxStoredLength,
  openRecord,
  type StoredRecord,
  sealRecord,
  sealRecordInto,
} from '../../../src/repository/packs/record-sealing.ts';
import { randomBytesFrom, seededRandom } from '../../../src/testing/seeded-random.ts';
import { randomBytes, testSeed } from '../../support/randomness.ts';
import { bytes, sealedRecord, u32 } from '../format/support/format-text.ts';

const FAN_OUT = 8;
const repositoryKey = randomBytes(32);
const repositoryId = randomBytes(16);
const REPOSITORIES = {
  plain: RepositoryKeys.plain(),
  encrypted: RepositoryKeys.encrypted(repositoryKey, repositoryId),
};
const corrupt = expect.objectContaining({ code: 'RECORD_CORRUPT' });

const CONTENTS: Record<string, Uint8Array> = {
  'that compresses': Buffer.from('the same over and over, '.repeat(40)),
  'that does not compress': randomBytes(700),
  'of one byte': Uint8Array.of(7),
};

function idOf(keys: RepositoryKeys, kind: RecordKind, raw: Uint8Array): Uint8Array {
  if (kind === RecordKind.block) return keys.contentId(raw);
  return keys.recordId(kind, identityPart(kind, raw, FAN_OUT));
}

function sealed(keys: RepositoryKeys, kind: RecordKind, raw: Uint8Array, level?: number) {
  const id = idOf(keys, kind, raw);
  const { codec, bytes: stored } = sealRecord(keys.recordKey, { kind, id }, raw, level);
  const record: StoredRecord = { kind, id, codec, rawLength: raw.length };
  return { record, stored };
}

/** A location part with its check. */
const checked = (part: string | Uint8Array) => bytes(part, u32(crc32(part)));

const open = (keys: RepositoryKeys, record: StoredRecord, stored: Uint8Array) =>
  Buffer.from(openRecord(keys, FAN_OUT, record, stored));

describe.each(Object.entries(REPOSITORIES))('in a repository that is %s', (_, keys) => {
  const overhead = keys.encrypted ? 28 : 0;

  describe.each(Object.entries(CONTENTS))('a block %s', (_, raw) => {
    test('comes back as it was', () => {
      const { record, stored } = sealed(keys, RecordKind.block, raw);
      expect(open(keys, record, stored)).toEqual(Buffer.from(raw));
    });

    test('is compressed only where that makes it smaller', () => {
      const { record, stored } = sealed(keys, RecordKind.block, raw);
      const compresses = raw.length === 960;
      expect(record.codec).toBe(compresses ? Codec.zstd : Codec.raw);
      if (compresses) expect(stored.length).toBeLessThan(100 + overhead);
      else expect(stored.length).toBe(raw.length + overhead);
    });

    test('is refused, or read right, whichever bit flips in what is stored or known of it', () => {
      const { record, stored } = sealed(keys, RecordKind.block, raw);
      let refused = 0;
      const attempt = (changed: StoredRecord, content: Uint8Array) => {
        try {
          expect(open(keys, changed, content)).toEqual(Buffer.from(raw));
        } catch (error) {
          if (!BackupError.is(error)) throw error;
          expect(error.code).toBe('RECORD_CORRUPT');
          refused++;
        }
      };
      const flip = (of: Uint8Array, bit: number) => {
        const flipped = Uint8Array.from(of);
        flipped[bit >>> 3] = (flipped[bit >>> 3] as number) ^ (1 << (bit & 7));
        return flipped;
      };
      for (let bit = 0; bit < stored.length * 8; bit++) attempt(record, flip(stored, bit));
      // In a zstd frame some bits mean nothing; nothing is read wrong for that.
      expect(refused).toBeGreaterThan(stored.length * (keys.encrypted || record.codec === Codec.raw ? 7.99 : 6));
      refused = 0;
      for (let bit = 0; bit < 256; bit++) attempt({ ...record, id: flip(record.id, bit) }, stored);
      for (let bit = 0; bit < 24; bit++) attempt({ ...record, rawLength: record.rawLength ^ (1 << bit) }, stored);
      for (const kind of [0, 2, 3, 4, 5, 6, 7, 255]) attempt({ ...record, kind: kind as RecordKind }, stored);
      for (const codec of [1 - record.codec, 2, 15]) attempt({ ...record, codec: codec as Codec }, stored);
      expect(refused).toBe(256 + 24 + 8 + 3);
    });

    test('is refused when it is cut or something follows it', () => {
      const { record, stored } = sealed(keys, RecordKind.block, raw);
      for (let length = 0; length < stored.length; length++) {
        expect(() => open(keys, record, stored.subarray(0, length))).toThrow(corrupt);
      }
      for (const tail of [Uint8Array.of(0), randomBytes(8), Buffer.from('28b52ffd', 'hex')]) {
        expect(() => open(keys, record, bytes(stored, tail))).toThrow(corrupt);
      }
    });
  });

  test.each([
    [RecordKind.leaf, bytes(0b11, randomBytes(64), checked('where they are'))],
    [RecordKind.inner, bytes(1, 0b1, randomBytes(32), checked('where it is'))],
    [RecordKind.runChunk, bytes(u32(2), u32(4), u32(9), 0b10, randomBytes(32), checked('where it is'))],
    [RecordKind.table, randomBytes(52)],
    [RecordKind.relocation, new Uint8Array(500)],
    [RecordKind.table, new Uint8Array()],
  ])('a record of kind %i comes back as it was, and not as another kind', (kind, raw) => {
    const { record, stored } = sealed(keys, kind, raw);
    expect(open(keys, record, stored)).toEqual(Buffer.from(raw));
    for (const other of Object.values(RecordKind)) {
      if (other !== kind) expect(() => open(keys, { ...record, kind: other }, stored)).toThrow(corrupt);
    }
  });

  test('what its id does not cover of a node is refused whichever bit of it flips', () => {
    const raw = bytes(0b11, randomBytes(64), checked('where they are'));
    const { record } = sealed(keys, RecordKind.leaf, raw);
    for (let bit = 65 * 8; bit < raw.length * 8; bit++) {
      const flipped = Uint8Array.from(raw);
      flipped[bit >>> 3] = (flipped[bit >>> 3] as number) ^ (1 << (bit & 7));
      // Sealed anew: by whoever has moved what an answer had garbled.
      const again = sealed(keys, RecordKind.leaf, flipped);
      expect(again.record.id).toEqual(record.id);
      expect(() => open(keys, again.record, again.stored)).toThrow(corrupt);
    }
  });

  test('another record in its place is refused, though it is valid by itself', () => {
    const [ours, other] = [randomBytes(64), randomBytes(64)].map((raw) => sealed(keys, RecordKind.block, raw));
    expect(() => open(keys, ours!.record, other!.stored)).toThrow(corrupt);
  });

  test('the largest record of each kind is sealed and opened; a longer one is not', () => {
    for (const kind of [RecordKind.block, RecordKind.table, RecordKind.inner]) {
      const raw = new Uint8Array(MAX_RAW_LENGTH[kind]);
      if (kind === RecordKind.inner) raw.set(checked(raw.subarray(2, -4)), 2);
      const { record, stored } = sealed(keys, kind, raw);
      expect(open(keys, record, stored).equals(raw)).toBe(true);
      const longer = new Uint8Array(raw.length + 1);
      expect(() => sealRecord(keys.recordKey, record, longer)).toThrow(RangeError);
      expect(() => open(keys, { ...record, rawLength: raw.length + 1 }, stored)).toThrow(corrupt);
    }
  });

  test('works on views of shared memory, and writes to no other part of it', () => {
    const raw = CONTENTS['that compresses'] as Uint8Array;
    const shared = new Uint8Array(new SharedArrayBuffer(4096)).fill(0xee);
    const input = shared.subarray(10, 10 + raw.length);
    input.set(raw);
    const out = shared.subarray(2000, 2000 + maxStoredLength(raw.length));
    const head = { kind: RecordKind.block, id: keys.contentId(input) };
    const { codec, storedLength } = sealRecordInto(out, keys.recordKey, head, input);
    expect(Buffer.from(input)).toEqual(Buffer.from(raw));
    const around = [
      shared.subarray(0, 10),
      shared.subarray(10 + raw.length, 2000),
      shared.subarray(2000 + storedLength),
    ];
    for (const part of around) expect(part.every((byte) => byte === 0xee)).toBe(true);
    const record = { ...head, codec, rawLength: raw.length };
    expect(open(keys, record, out.subarray(0, storedLength))).toEqual(Buffer.from(raw));
  });

  test('random and mutated bytes never open to anything wrong', () => {
    const seed = testSeed();
    const random = seededRandom(seed);
    const raw = CONTENTS['that compresses'] as Uint8Array;
    const { record, stored } = sealed(keys, RecordKind.block, raw);
    for (let round = 0; round < 3000; round++) {
      const mutated = round % 2 === 0 ? randomBytesFrom(random, Math.floor(random() * 200)) : Uint8Array.from(stored);
      for (let edits = 0; edits < 3; edits++) mutated[Math.floor(random() * mutated.length)] = random() * 256;
      try {
        expect(open(keys, record, mutated), `seed ${seed}`).toEqual(Buffer.from(raw));
      } catch (error) {
        if (!BackupError.is(error, 'RECORD_CORRUPT')) throw new Error(`seed ${seed}, round ${round}`, { cause: error });
      }
    }
  });
});

describe('encryption', () => {
  const raw = CONTENTS['that does not compress'] as Uint8Array;
  const keys = REPOSITORIES.encrypted;

  test('is what the text of the format says', () => {
    const { record, stored } = sealed(keys, RecordKind.block, raw);
    const expected = sealedRecord(repositoryKey, repositoryId, {
      ...record,
      nonce: stored.subarray(0, 12),
      content: raw,
    });
    expect(Buffer.from(stored)).toEqual(expected);
  });

  test('uses a fresh nonce each time', () => {
    const nonces = Array.from({ length: 100 }, () => sealed(keys, RecordKind.block, raw).stored.subarray(0, 12));
    expect(new Set(nonces.map((nonce) => Buffer.from(nonce).toString('hex'))).size).toBe(100);
  });

  test("opens with its own repository's key only", () => {
    const { record, stored } = sealed(keys, RecordKind.block, raw);
    for (const other of [RepositoryKeys.plain(), RepositoryKeys.encrypted(repositoryKey, randomBytes(16))]) {
      expect(() => open(other, record, stored)).toThrow(corrupt);
    }
  });
});

describe('a hostile record in a plain repository', () => {
  const keys = REPOSITORIES.plain;
  const recordOf = (raw: Uint8Array): StoredRecord => ({
    kind: RecordKind.block,
    id: keys.contentId(raw),
    codec: Codec.zstd,
    rawLength: raw.length,
  });
  const frameOf = (raw: Uint8Array, params: Record<number, number> = {}) => zstdCompressSync(raw, { params });

  test('that decompresses to more or less than its length is refused', () => {
    const frame = frameOf(new Uint8Array(1 << 26)); // 64 MiB in 2 KiB
    for (const rawLength of [4096, 1 << 22]) {
      expect(() => open(keys, recordOf(new Uint8Array(rawLength)), frame)).toThrow(corrupt);
    }
    const short = frameOf(new Uint8Array(4000));
    expect(() => open(keys, recordOf(new Uint8Array(4096)), short)).toThrow(corrupt);
  });

  test('does not make the decoder allocate a window larger than any record', () => {
    const raw = new Uint8Array(4096).fill(1);
    // A frame header by RFC 8878, 3.1.1.1: no size, and a window of 2^(10 + exponent); then one block of 4096 times 1.
    const framed = (exponent: number) => bytes(Buffer.from('28b52ffd', 'hex'), 0, exponent << 3, 0x03, 0x80, 0x00, 1);
    expect(open(keys, recordOf(raw), framed(14))).toEqual(Buffer.from(raw));
    expect(() => open(keys, recordOf(raw), framed(15))).toThrow(corrupt);
  });

  test('is read whichever valid frame another writer made', () => {
    const raw = CONTENTS['that compresses'] as Uint8Array;
    for (const params of [
      { [constants.ZSTD_c_checksumFlag]: 1 },
      { [constants.ZSTD_c_contentSizeFlag]: 0 },
      { [constants.ZSTD_c_compressionLevel]: 19 },
    ]) {
      expect(open(keys, recordOf(raw), frameOf(raw, params))).toEqual(Buffer.from(raw));
    }
  });
});

test('levels change the size and not the content, and are checked', () => {
  const raw = Buffer.from(Array.from({ length: 4000 }, (_, index) => `${(index * 7919) % 1009},`).join(''));
  const keys = REPOSITORIES.plain;
  const [fast, small] = [-5, 19].map((level) => sealed(keys, RecordKind.block, raw, level));
  expect(small!.stored.length).toBeLessThan(fast!.stored.length);
  for (const { record, stored } of [fast!, small!]) expect(open(keys, record, stored)).toEqual(raw);
  for (const level of [-8, 23, 1.5, Number.NaN, '3']) expect(() => checkLevel(level as number)).toThrow(TypeError);
  expect(checkLevel(undefined)).toBe(1);
});

test('a block is zero when all of its bytes are', () => {
  for (const length of [0, 1, 512, 65_535, 65_536, 65_537, 200_000]) {
    const block = new Uint8Array(new SharedArrayBuffer(length + 2)).fill(1);
    const inner = block.subarray(1, 1 + length).fill(0);
    expect(isZero(inner)).toBe(true);
    for (const at of [0, length >> 1, length - 1]) {
      if (length === 0) continue;
      inner[at] = 128;
      expect(isZero(inner)).toBe(false);
      inner[at] = 0;
    }
  }
});
