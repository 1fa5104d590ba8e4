import fc from 'fast-check';
import { describe, test } from 'vitest';
import { property, withinMs } from '../support/randomness.ts';
import { history, runHistory, shapeDetails } from './support/model-history.ts';

/**
 * Random histories against the trivially correct model. `COW_TEST_TIMES` multiplies them for each shape (`npm run soak:volume`
 * runs 10,000 in all); a failure prints the seed and the shrunk history, and `COW_TEST_SEED` replays it.
 */

const SHAPES = [
  { name: '4 KiB blocks', blockSize: 4096, size: 6 * 4096 },
  { name: '64 KiB blocks', blockSize: 65536, size: 3 * 65536 },
  { name: '4 KiB blocks, the last one short', blockSize: 4096, size: 4 * 4096 + 1234 },
];

describe('every snapshot reads as its instant, whatever the order of things', () => {
  test.each(SHAPES)(
    '$name',
    async ({ blockSize, size }) => {
      await fc.assert(
        fc.asyncProperty(shapeDetails, history, async (details, steps) => {
          await runHistory({ blockSize, size, ...details }, steps);
        }),
        property(150),
      );
    },
    withinMs(300_000),
  );
});
