import { describe, expect, test, vi } from 'vitest';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { SWEEPS_ALL, testSeed, withinMs } from '../../support/randomness.ts';
import { ReferenceHistory, type SweptKind } from './support/reference-history.ts';

// Pages of a few rows, so that these histories have many of them.
vi.mock('../../../src/repository/log/pages/page-limits.ts', () => ({
  PAGE_LIMITS: { rows: 4, weight: 2 ** 20, looseWeight: 8000 },
}));

vi.mock('../../../src/common/clock.ts', () => import('./support/hasty-clock.ts'));

/**
 * Each call of a reference history fails before it takes effect, fails after it did, is never answered, is answered in part
 * or wrongly: the outcome is success or one documented error, everything retained reads back, and the next backup and the
 * next pruning succeed. A seeded sample of the calls; all of them with `COW_TEST_SWEEP=all`.
 */
const SAMPLE = 2;
const seed = testSeed();
const KINDS: readonly SweptKind[] = ['fail-before', 'fail-after', 'never-answer', 'abort', 'truncate', 'corrupt'];

describe.each([{ isEncrypted: false }, { isEncrypted: true }])('encrypted: $isEncrypted', ({ isEncrypted }) => {
  test.each(KINDS)(
    '%s',
    async (kind) => {
      const clean = new ReferenceHistory(kind, Number.POSITIVE_INFINITY, isEncrypted);
      expect(await clean.run()).toBeUndefined();
      expect(clean.repackedPacks).toBeGreaterThan(0);
      const { calls } = clean;
      expect(calls).toBeGreaterThan(kind === 'corrupt' ? 10 : 30);
      const indexes = Array.from({ length: calls }, (_, index) => index);
      const outcomes = new Map<string, number>();
      for (const index of SWEEPS_ALL ? indexes : sampleOf(indexes)) {
        const history = new ReferenceHistory(kind, index, isEncrypted);
        try {
          const failed = await history.run();
          expect(history.mishaps.struck).toBe(1);
          const outcome = failed === undefined ? 'success' : String((failed.error as { code?: unknown }).code);
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        } catch (error) {
          throw new Error(`call ${index} of ${calls}: ${history.mishaps.last}; seed ${seed}`, { cause: error });
        }
      }
      console.log(kind, calls, [...outcomes].map(([what, times]) => `${what} ${times}`).join(', '));
      expect(outcomes.size).toBeGreaterThan(0);
    },
    withinMs(600_000),
  );
});

function sampleOf(indexes: readonly number[]): number[] {
  const random = seededRandom(seed);
  return indexes
    .map((index) => ({ index, key: random() }))
    .sort((a, b) => a.key - b.key)
    .slice(0, SAMPLE)
    .map(({ index }) => index);
}
