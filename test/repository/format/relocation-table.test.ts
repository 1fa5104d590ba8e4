import { describe, expect, test } from 'vitest';
import {
  findRelocation,
  MAX_RELOCATION_ROWS,
  type RelocationRow,
} from '../../../src/repository/format/relocation-table.ts';
import { randomBytes } from '../../support/randomness.ts';
import { errorOf } from '../../volume/support/bytes.ts';
import { decodeRelocationTable, encodeRelocationTable } from './support/codecs-at-once.ts';

const row = (offset: number, to: Partial<RelocationRow['to']> = {}): RelocationRow => ({
  offset,
  to: { pack: { session: 7, random: randomBytes(16).toString('hex') }, offset: offset + 1, storedLength: 100, ...to },
});

test('is as the format says', () => {
  const to = {
    pack: { session: 0x0102030405, random: '00112233445566778899aabbccddeeff' },
    offset: 9,
    storedLength: 258,
  };
  const raw = encodeRelocationTable([{ offset: 8, to }]);
  expect(Buffer.from(raw).toString('hex')).toBe(
    ['08000000', '0504030201000000', '00112233445566778899aabbccddeeff', '09000000', '02010000'].join(''),
  );
});

test('gives back what went in, and finds each row and nothing else', () => {
  const rows = Array.from({ length: 1000 }, (_, index) => row(8 + index * 3));
  const raw = encodeRelocationTable(rows);
  expect(decodeRelocationTable(raw)).toEqual(rows);
  const shifted = new Uint8Array(raw.length + 5);
  shifted.set(raw, 5);
  for (const { offset, to } of rows) {
    expect(findRelocation(shifted.subarray(5), offset)).toEqual(to);
    expect(findRelocation(raw, offset + 1)).toBeUndefined();
  }
  expect(findRelocation(raw, 0)).toBeUndefined();
  expect(findRelocation(raw, 2 ** 32 - 1)).toBeUndefined();
});

test('holds numbers up to their limits', () => {
  const most = row(2 ** 32 - 1, {
    pack: { session: 2 ** 52 - 2, random: 'f'.repeat(32) },
    offset: 2 ** 32 - 2 ** 24,
    storedLength: 2 ** 24 - 1,
  });
  expect(decodeRelocationTable(encodeRelocationTable([row(8), most]))[1]).toEqual(most);
});

test('has one row, of offset 0, where nothing is needed', () => {
  const nowhere = row(0, { offset: 0, storedLength: 1 });
  expect(decodeRelocationTable(encodeRelocationTable([nowhere]))).toEqual([nowhere]);
});

describe('is refused', () => {
  test.each<[string, (raw: Uint8Array) => Uint8Array]>([
    ['without rows', () => new Uint8Array(0)],
    ['cut off', (raw) => raw.subarray(0, raw.length - 1)],
    ['with something behind it', (raw) => Buffer.concat([raw, new Uint8Array(1)])],
    ['with a row twice', (raw) => Buffer.concat([raw, raw.subarray(36)])],
    ['in another order', (raw) => Buffer.concat([raw.subarray(36), raw.subarray(0, 36)])],
    ['of session 0', (raw) => raw.fill(0, 4, 12)],
    ['of session 2^52 - 1', (raw) => raw.fill(255, 4, 10).fill(15, 10, 11).fill(0, 11, 12)],
    ['with a row of offset 0 beside another', (raw) => raw.fill(0, 0, 4)],
    ['of an old place in the head of a pack', (raw) => raw.fill(0, 0, 4).fill(7, 0, 1)],
    ['of a new place in the head of a pack', (raw) => raw.fill(0, 28, 32).fill(7, 28, 29)],
    ['of a new place at the end of the largest pack', (raw) => raw.fill(255, 28, 32)],
    ['of a session that is too large', (raw) => raw.fill(255, 4, 12)],
    ['of an empty record', (raw) => raw.fill(0, 32, 36)],
    ['of a record that is too long', (raw) => raw.fill(1, 32, 36)],
    ['with too many rows', () => new Uint8Array((MAX_RELOCATION_ROWS + 1) * 36)],
  ])('%s', async (_what, spoil) => {
    const raw = spoil(encodeRelocationTable([row(8), row(9)]));
    await errorOf(() => decodeRelocationTable(raw), 'RECORD_CORRUPT');
  });

  test('by who writes it when rows do not ascend, or are none or too many', () => {
    expect(() => encodeRelocationTable([row(9), row(9)])).toThrow(RangeError);
    expect(() => encodeRelocationTable([])).toThrow(RangeError);
    expect(() => encodeRelocationTable(new Array(MAX_RELOCATION_ROWS + 1).fill(row(1)))).toThrow(RangeError);
  });
});
