import { expect, test } from 'vitest';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { identityPart } from '../../../src/repository/format/record-parts.ts';
import { randomBytes } from '../../support/randomness.ts';
import { bytes, u32 } from './support/format-text.ts';

const ids = (count: number) => randomBytes(32 * count);
const PARTS = {
  'a leaf of fan-out 16': [RecordKind.leaf, bytes(0b1000_0001, 0b1, ids(3))],
  'an inner node of fan-out 16': [RecordKind.inner, bytes(2, 0xff, 0b10, ids(9))],
  'a run of 10 entries': [RecordKind.runChunk, bytes(u32(10), randomBytes(40), 0b101, 0b11, ids(4))],
  'a run without entries': [RecordKind.runChunk, u32(0)],
  // Bits past the last entry stand for nothing.
  'a run with stray bits': [RecordKind.runChunk, bytes(u32(1), randomBytes(4), 0b1111_1110)],
} as const;

test.each(Object.entries(PARTS))('the identity part of %s ends with its ids', (_, [kind, part]) => {
  expect(Buffer.from(identityPart(kind, bytes(part, 'the location part'), 16))).toEqual(Buffer.from(part));
  expect(Buffer.from(identityPart(kind, part, 16))).toEqual(Buffer.from(part));
  for (let length = 0; length < part.length; length++) {
    expect(() => identityPart(kind, part.subarray(0, length), 16)).toThrow(
      expect.objectContaining({ code: 'RECORD_CORRUPT' }),
    );
  }
});

test('that of a block or table is all of it', () => {
  const raw = randomBytes(100);
  for (const kind of [RecordKind.block, RecordKind.table, RecordKind.relocation]) {
    expect(identityPart(kind, raw, 16)).toBe(raw);
  }
});

test('a run that claims more entries than the format allows is refused', () => {
  const raw = new Uint8Array(4 * 70_000);
  raw.set(u32(65_537));
  expect(() => identityPart(RecordKind.runChunk, raw, 16)).toThrow(expect.objectContaining({ code: 'RECORD_CORRUPT' }));
});
