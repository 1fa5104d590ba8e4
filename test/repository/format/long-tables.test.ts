import { expect, test } from 'vitest';
import { sha256Padding } from '../../../src/common/sha256.ts';
import type { Steps } from '../../../src/common/yield-to-event-loop.ts';
import { EntryColumns } from '../../../src/repository/format/entry-columns.ts';
import { encodingInnerNode } from '../../../src/repository/format/inner-node.ts';
import { openingFooter, sealingFooter, TRAILER_BYTES } from '../../../src/repository/format/pack-footer.ts';
import { decodingPackTable, encodingPackTable } from '../../../src/repository/format/pack-table-record.ts';
import { decodingRelocationTable, encodingRelocationTable } from '../../../src/repository/format/relocation-table.ts';
import { encodingRunChunk } from '../../../src/repository/format/run-chunk.ts';
import { encodePackTable, encodeRelocationTable, sealFooter } from './support/codecs-at-once.ts';

/** Footers and tables may have from 70,000 to a million rows: they are read and written in steps of 512. */

const ROWS = 5120;
const PACK = { session: 7, random: 'ab'.repeat(16) };

function stepsOf(work: Steps<{ readonly length: number }>): [number, number] {
  for (let steps = 1; ; steps++) {
    const step = work.next();
    if (step.done) return [step.value.length, steps];
  }
}

function* openedRows(work: ReturnType<typeof openingFooter>) {
  return (yield* work).rows;
}

test('of a footer', () => {
  const row = {
    kind: 1,
    id: new Uint8Array(32),
    offset: 0,
    storedLength: 40,
    codec: 0,
    rawLength: 12,
    hint: 3,
  } as const;
  for (const key of [undefined, new Uint8Array(32).fill(7)]) {
    const footerOf = (count: number) => {
      const bodyBytes = 8 + count * 40;
      return { rows: new Array(count).fill(row), bodyBytes, bodySha256: new Uint8Array(32) };
    };
    const { bodyBytes } = footerOf(ROWS);
    const footer = sealFooter(footerOf(ROWS), PACK, key);
    const sealed = footer.subarray(sha256Padding(bodyBytes).length, -TRAILER_BYTES);
    // Of the 245,764 bytes the hash, or the cipher, is another step; and so are the parts that are joined.
    expect(stepsOf(openedRows(openingFooter(sealed, PACK, bodyBytes + footer.length, key)))).toEqual([ROWS, 12]);
    const [length, steps] = stepsOf(sealingFooter(footerOf(ROWS), PACK, key));
    expect(length).toBe(footer.length);
    expect(steps).toBe(key === undefined ? 17 : 15);
    const [, twice] = stepsOf(sealingFooter(footerOf(4 * ROWS), PACK, key));
    expect(twice).toBeGreaterThan(50);
  }
});

test('of a table of packs', () => {
  const packs = Array.from({ length: ROWS }, (_, n) => ({
    ...PACK,
    session: n + 1,
    size: 9,
    sha256: new Uint8Array(32),
  }));
  expect(stepsOf(decodingPackTable(encodePackTable(packs), ROWS))).toEqual([ROWS, 11]);
  expect(stepsOf(encodingPackTable(packs))).toEqual([ROWS * 60, 11]);
});

test('of a relocation table', () => {
  const rows = Array.from({ length: ROWS }, (_, n) => ({
    offset: 8 + n * 100,
    to: { pack: PACK, offset: 8, storedLength: 99 },
  }));
  expect(stepsOf(decodingRelocationTable(encodeRelocationTable(rows)))).toEqual([ROWS, 11]);
  expect(stepsOf(encodingRelocationTable(rows))).toEqual([ROWS * 36, 11]);
});

test('of a node and of a run chunk that name thousands of packs', () => {
  let pack = 0;
  const next = () => ({ session: 1, random: (pack++).toString(16).padStart(32, '0') });
  const location = () => ({ pack: next(), offset: 8, storedLength: 99, codec: 0, rawLength: 99 }) as const;
  const id = new Uint8Array(32);
  const child = () => ({
    id,
    location: location(),
    usage: Array.from({ length: 63 }, () => ({ pack: next(), bytes: 9 })),
  });
  const counted = (work: Steps<{ readonly raw: Uint8Array }>) => {
    for (let steps = 1; ; steps++) if (work.next().done) return steps;
  };
  // Twice each of the children, and the table of 4,096 packs.
  expect(counted(encodingInnerNode(1, Array.from({ length: 64 }, child)))).toBe(1 + 2 * 64 + 8);
  const columns = new EntryColumns(ROWS);
  for (let slot = 0; slot < ROWS; slot++) columns.set(slot, { id, location: location() });
  expect(counted(encodingRunChunk(new Uint32Array(ROWS), columns, ROWS))).toBe(1 + 10 + 2 * 2); // The table of packs, and the entries twice.
});
