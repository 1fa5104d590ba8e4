import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { property, TIMES, withinMs } from '../../support/randomness.ts';
import { runHistory } from './support/history-run.ts';
import { shape, steps } from './support/steps.ts';
import type { Tally } from './support/world.ts';

// Pages of a few rows, so that these histories have many of them.
vi.mock('../../../src/repository/log/pages/page-limits.ts', () => ({
  PAGE_LIMITS: { rows: 4, weight: 2 ** 20, looseWeight: 8000 },
}));

vi.mock('../../../src/common/clock.ts', () => import('./support/hasty-clock.ts'));

/**
 * Whole histories by chance against a trivially correct model: every retained backup reads back byte for byte, always; a
 * failure leaves all others whole, and what follows it succeeds. `COW_TEST_TIMES` multiplies them; a failure prints the seed and
 * the shrunk history, and `COW_TEST_SEED` replays it.
 */
/** Every fifth is a long one. */
const LENGTHS = fc.oneof({ weight: 4, arbitrary: steps(18) }, { weight: 1, arbitrary: steps(60) });

test(
  'every retained backup reads back, whatever goes wrong',
  async () => {
    const tally: Tally = new Map();
    await fc.assert(
      fc.asyncProperty(shape, LENGTHS, (details, history) => runHistory(details, history, tally)),
      property(40),
    );
    console.log([...tally].map(([what, times]) => `${what} ${times}`).join(', '));
    if (TIMES < 1) return;
    // Or else nothing was tried.
    for (const what of ['tracked', 'compared', 'everything', 'repacked', 'deleted', 'VOLUME_BUSY']) {
      expect(tally.get(what) ?? 0, `${what}: ${JSON.stringify([...tally])}`).toBeGreaterThan(0);
    }
  },
  withinMs(300_000),
);
