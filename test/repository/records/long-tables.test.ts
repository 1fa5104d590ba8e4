import { expect, test } from 'vitest';
import { openingFooter, sealFooter, TRAILER_BYTES } from '../../../src/repository/pack/pack-footer.ts';
import type { InSteps } from '../../../src/repository/records/event-loop-turns.ts';
import { decodingPackTable, encodePackTable } from '../../../src/repository/records/pack-table-record.ts';
import { decodingRelocationTable, encodeRelocationTable } from '../../../src/repository/records/relocation-table.ts';

/** Footers and tables may have from 70,000 to a million rows: they are read in steps of 512. */

const ROWS = 5120;
const PACK = { session: 7, random: 'ab'.repeat(16) };

function stepsOf(work: InSteps<readonly unknown[]>): [number, number] {
  for (let steps = 1; ; steps++) {
    const step = work.next();
    if (step.done) return [step.value.length, steps];
  }
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
  for (const key of [undefined, new Uint8Array(32)]) {
    const footer = sealFooter(new Array(ROWS).fill(row), PACK, key);
    const sealed = footer.subarray(0, footer.length - TRAILER_BYTES);
    expect(stepsOf(openingFooter(sealed, PACK, 8 + ROWS * 40 + footer.length, key))).toEqual([ROWS, 11]);
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
});

test('of a relocation table', () => {
  const rows = Array.from({ length: ROWS }, (_, n) => ({
    offset: 8 + n * 100,
    to: { pack: PACK, offset: 8, storedLength: 99 },
  }));
  expect(stepsOf(decodingRelocationTable(encodeRelocationTable(rows)))).toEqual([ROWS, 11]);
});
