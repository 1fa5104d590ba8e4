import { describe, expect, test } from 'vitest';
import { runAtOnce } from '../../../src/common/yield-to-event-loop.ts';
import { AdoptedBlocks, IdTable } from '../../../src/repository/backup/adopted-blocks.ts';
import type { FooterRow } from '../../../src/repository/format/pack-footer.ts';
import { Codec, RecordKind } from '../../../src/repository/format/record.ts';
import { randomBytesFrom } from '../../../src/testing/seeded-random.ts';
import { randomForTest } from '../../support/randomness.ts';

const random = randomForTest(3);
const newId = () => randomBytesFrom(random, 32);
const nameOf = (pack: number) => ({ session: 1, random: pack.toString(16).padStart(32, '0') });

function rowOf(hint: number, kind: RecordKind = RecordKind.block): FooterRow {
  return { kind, id: newId(), offset: 8 + hint * 100, storedLength: 100, codec: Codec.zstd, rawLength: 4096, hint };
}

test('a table finds what it was given, and nothing else, however many there are', () => {
  const packs = [nameOf(0), nameOf(1)];
  const table = new IdTable(packs, 5000);
  const rows = Array.from({ length: 5000 }, (_, n) => rowOf(n));
  for (const [n, row] of rows.entries()) table.add(row.id, n % 2, row);
  expect(table.size).toBe(5000);
  for (const [n, { id, offset }] of rows.entries()) {
    const location = { pack: packs[n % 2], offset, storedLength: 100, codec: Codec.zstd, rawLength: 4096 };
    expect(table.find(id)).toEqual({ pack: n % 2, location });
    table.add(id, 1 - (n % 2), rowOf(n)); // The first one stays.
  }
  expect(table.size).toBe(5000);
  const last = Uint8Array.from(rows[7]!.id);
  last[31]! ^= 1;
  expect(table.find(last)).toBeUndefined();
  for (let n = 0; n < 1000; n++) expect(table.find(newId())).toBeUndefined();
});

describe('what was adopted', () => {
  const LIMITS = { tableBlocks: 20, tables: 3, zoneBlocks: 10 };
  /** Packs of ten blocks beside each other. */
  function swept(count: number) {
    const blocks = new AdoptedBlocks(LIMITS);
    const packs = Array.from({ length: count }, (_, n) => Array.from({ length: 10 }, (_, at) => rowOf(n * 10 + at)));
    for (const rows of packs) runAtOnce(blocks.add(blocks.number(nameOf(packs.indexOf(rows))), rows));
    const found = (pack: number) => packs[pack]!.filter(({ id }) => blocks.find(id)?.pack === pack).length;
    return { blocks, packs, found };
  }

  test('is remembered all while there is room, and nothing is read again', () => {
    const { blocks, found } = swept(6);
    expect([0, 1, 2, 3, 4, 5].map(found)).toEqual([10, 10, 10, 10, 10, 10]);
    expect(blocks.forgotten([0, 15, 59])).toEqual([]);
  });

  test('is in tables that never fill up, though packs are added in turns', () => {
    const blocks = new AdoptedBlocks({ tableBlocks: 2000, tables: 1, zoneBlocks: 1000 });
    const packs = [0, 1, 2].map((n) => Array.from({ length: 1000 }, (_, at) => rowOf(n * 1000 + at)));
    const adding = packs.map((rows, n) => blocks.add(blocks.number(nameOf(n)), rows));
    while (adding.map((steps) => steps.next()).some(({ done }) => !done));
    // Two packs fill a table, so the third is in another one, and there is room for one table only.
    const found = packs.map((rows, n) => rows.filter(({ id }) => blocks.find(id)?.pack === n).length);
    expect(found).toEqual([0, 0, 1000]);
    expect(blocks.forgotten([0, 1000, 2000])).toEqual([0, 1]);
  });

  test('is forgotten where there is too much, and read again where the sweep comes to it', () => {
    const { blocks, packs, found } = swept(40);
    expect(found(0)).toBe(0);
    expect(found(39)).toBe(10);
    let readings = 0;
    for (let block = 0; block < 400; block++) {
      for (const pack of blocks.forgotten([block])) {
        readings++;
        runAtOnce(blocks.add(pack, packs[pack]!));
      }
      const { id } = packs[Math.floor(block / 10)]![block % 10]!;
      expect(blocks.find(id)?.pack).toBe(Math.floor(block / 10));
    }
    expect(readings).toBeLessThanOrEqual(40);
  });

  test('is not read again without end', () => {
    const { blocks, packs } = swept(40);
    let readings = 0;
    for (let time = 0; time < 20; time++) {
      for (let block = 0; block < 400; block += 10) {
        for (const pack of blocks.forgotten([block])) {
          readings++;
          runAtOnce(blocks.add(pack, packs[pack]!));
        }
      }
    }
    expect(readings).toBeLessThanOrEqual(3 * 40);
    expect(readings).toBeGreaterThan(40);
  });

  test('is only blocks, and of packs that are not too large or too scattered to be read again', () => {
    const blocks = new AdoptedBlocks(LIMITS);
    const node = rowOf(1, RecordKind.leaf);
    runAtOnce(blocks.add(blocks.number(nameOf(0)), [node, rowOf(1_000_000)]));
    expect(blocks.find(node.id)).toBeUndefined();
    const large = Array.from({ length: 21 }, (_, n) => rowOf(n));
    runAtOnce(blocks.add(blocks.number(nameOf(1)), large));
    expect(large.some(({ id }) => blocks.find(id) !== undefined)).toBe(false);
    const scattered = Array.from({ length: 20 }, (_, n) => rowOf(n * 1000));
    runAtOnce(blocks.add(blocks.number(nameOf(2)), scattered));
    expect(blocks.find(scattered[0]!.id)?.pack).toBe(2);
    for (let pack = 3; pack < 9; pack++) {
      const rows = Array.from({ length: 20 }, (_, n) => rowOf(pack * 20 + n));
      runAtOnce(blocks.add(blocks.number(nameOf(pack)), rows));
    }
    expect(blocks.find(scattered[0]!.id)).toBeUndefined();
    expect(blocks.forgotten([0, 1000, 2000])).toEqual([]);
  });
});
