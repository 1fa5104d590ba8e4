import { expect, test, vi } from 'vitest';
import { TIMES, testSeed, times, withinMs } from '../../support/randomness.ts';
import { type Copied, CopiedHistory } from './support/copied-history.ts';
import { examine, goOn } from './support/examined-copy.ts';

// Pages of a few rows, so that these histories have many of them.
vi.mock('../../../src/repository/log/pages/page-limits.ts', () => ({
  PAGE_LIMITS: { rows: 4, weight: 2 ** 20, looseWeight: 8000 },
}));

vi.mock('../../../src/common/clock.ts', () => import('./support/hasty-clock.ts'));

/**
 * L20: a repository is copied while it is written to, in any order of its objects. A copy is refused, or says which backups lack packs, or
 * is whole: its bytes are never wrong, and it has no backup that was never committed. `COW_TEST_TIMES` multiplies the histories; a
 * failure names the seed, and `COW_TEST_SEED` replays it.
 */
const HISTORIES = times(2);
const firstSeed = testSeed();

test(
  'a copy is refused, lacks packs and says so, or is whole',
  async () => {
    const tally = new Map<string, number>();
    const count = (what: string, by = 1) => tally.set(what, (tally.get(what) ?? 0) + by);
    for (let run = 0; run < HISTORIES; run++) {
      const seed = (firstSeed + run) >>> 0;
      const history = new CopiedHistory(seed);
      try {
        await history.run();
        for (const [what, by] of Object.entries(history.tally)) count(what, by);
        count('strays', history.store.strays.size);
        for (const [index, copied] of history.copies.entries()) {
          try {
            await look(history, copied, index, count);
          } catch (error) {
            throw new Error(`copy ${index} by ${JSON.stringify(copied.tool)}`, { cause: error });
          }
        }
      } catch (error) {
        throw new Error(`with COW_TEST_SEED=${seed}`, { cause: error });
      } finally {
        await history.close();
      }
    }
    // Or else nothing was tried.
    const often = TIMES >= 3 ? ['adopted', 'repacked'] : [];
    const rarely = TIMES >= 10 ? ['lacking', 'LOG_TRUNCATED'] : [];
    for (const what of ['whole', 'must be whole', 'floors', 'pages', ...often, ...rarely]) {
      expect(tally.get(what) ?? 0, what).toBeGreaterThan(0);
    }
    console.log(firstSeed, [...tally].map(([what, number]) => `${what} ${number}`).join(', '));
  },
  withinMs(120_000),
);

async function look(
  { isEncrypted, wasCommitted, guests }: CopiedHistory,
  { copy, mustBeWhole }: Copied,
  index: number,
  count: (what: string) => void,
): Promise<void> {
  const examined = await examine(copy, isEncrypted, wasCommitted);
  const { refused, lacking } = examined;
  const isWhole = refused === undefined && lacking.length === 0;
  count(refused ?? (isWhole ? 'whole' : 'lacking'));
  if (mustBeWhole) {
    count('must be whole');
    expect({ refused, lacking }).toEqual({ refused: undefined, lacking: [] });
  }
  // What takes longest: some of them, but in soaks.
  if (refused === undefined && (TIMES > 1 || index % 4 === 0)) await goOn(copy, isEncrypted, guests[0]!, examined);
}
