import { describe, expect, test, vi } from 'vitest';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { S3Target } from '../../../src/targets/s3/s3-target.ts';
import { seededFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { testSeed, times, withinMs } from '../../support/randomness.ts';
import { freshBucket, s3, s3Client } from '../../support/s3.ts';
import { InterleavingTarget } from '../log/support/interleaving-target.ts';
import { createIn, openIn } from '../support/repositories.ts';
import { fight } from './support/fight.ts';
import { createSmall } from './support/host.ts';
import { Race } from './support/race.ts';

// Pages of a few rows, so that these histories have many of them.
vi.mock('../../../src/repository/log/pages/page-limits.ts', () => ({
  PAGE_LIMITS: { rows: 4, weight: 2 ** 20, looseWeight: 8000 },
}));

vi.mock('../../../src/common/clock.ts', () => import('./support/hasty-clock.ts'));

/**
 * Many hosts at one repository: writers, pruners that repack, readers. In memory every request and every answer comes in an
 * order that a seed gives. `COW_TEST_TIMES` multiplies them; a failure names the seed, and `COW_TEST_SEED` replays it.
 */
const RACES = times(2);
const firstSeed = testSeed();

/** Runs `race` with one seed after the other. */
async function withSeeds(race: (seed: number) => Promise<void>): Promise<void> {
  for (let run = 0; run < RACES; run++) {
    const seed = (firstSeed + run) >>> 0;
    try {
      await race(seed);
    } catch (error) {
      throw new Error(`with COW_TEST_SEED=${seed}`, { cause: error });
    }
  }
}

/** Somebody who comes when all is over, and looks; then everything is forgotten, and nothing is left. */
async function lookAfter(store: CloudTarget, race: Race, isEncrypted: boolean): Promise<void> {
  const repository = await openIn(store, isEncrypted);
  await race.ledger.compare(repository);
  await race.ledger.read(repository);
  const { repackError } = await repository.prune({ graceMs: 0, repackBelow: 1, minRepackGainBytes: 0 });
  if (repackError !== undefined) throw repackError;
  await race.ledger.read(repository);
  await repository.forget([...race.ledger.kept.keys()]);
  for (let run = 0; run < 3; run++) await repository.prune({ graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0 });
  for await (const { key } of store.list('packs/')) throw new Error(`nobody needs ${key}, and it is still there`);
  await repository.close();
}

describe.each([{ hasFaults: false }, { hasFaults: true }])('in memory, with faults: $hasFaults', ({ hasFaults }) => {
  test(
    'every retained backup reads back, during and after',
    async () => {
      const totals = { backups: 0, read: 0, repacked: 0, deleted: 0, failures: 0, adopted: 0 };
      await withSeeds(async (seed) => {
        const random = seededRandom(seed);
        const isEncrypted = seed % 2 === 0;
        const store = new MemoryTarget();
        await createSmall(store, isEncrypted);
        const interleaved = new InterleavingTarget(store, random);
        const some = { 'fail-before': 0.01, 'fail-after': 0.01 };
        const rates = hasFaults ? { put: some, get: some, list: some, stat: some, deleteMany: some } : {};
        // Each host has one, so that its luck changes when it tries again.
        const targets = Array.from({ length: 7 }, (_, host) => {
          return new FaultyTarget(interleaved, seededFaults({ seed: (seed + host) >>> 0, rates }));
        });
        const target = (host: number) => targets[host] as CloudTarget;
        const race = new Race({
          random,
          target,
          isEncrypted,
          hasFaults,
          writers: 4,
          backups: 6,
          pruners: 2,
          readers: 1,
        });
        await race.run();
        await lookAfter(store, race, isEncrypted);
        for (const what of Object.keys(totals) as (keyof typeof totals)[]) totals[what] += race.tally[what];
      });
      console.log(firstSeed, totals);
      // Or else nothing was tried. One fault is enough to end a repacking, so with them there are few.
      const often = RACES >= 10 ? (['deleted'] as const) : [];
      for (const what of ['backups', 'read', ...often] as const) expect(totals[what], what).toBeGreaterThan(0);
      if (!hasFaults && RACES >= 10) expect(totals.repacked).toBeGreaterThan(0);
      if (hasFaults) expect(totals.failures).toBeGreaterThan(0);
    },
    withinMs(600_000),
  );

  test(
    'two writers that fight for one volume: exactly one child per parent',
    async () => {
      const totals = { committed: 0, refused: 0 };
      await withSeeds(async (seed) => {
        const store = new MemoryTarget();
        await (await createIn(store)).close();
        const { committed, refused } = await fight(store, seed, hasFaults);
        totals.committed += committed;
        totals.refused += refused;
      });
      console.log(firstSeed, totals);
      expect(totals.committed).toBeGreaterThan(RACES);
      expect(totals.refused).toBeGreaterThan(RACES);
    },
    withinMs(600_000),
  );
});

describe.skipIf(s3 === null)('on a real gateway', () => {
  test('every retained backup reads back, during and after', async () => {
    const bucket = await freshBucket(s3Client());
    const target = () => new S3Target({ client: s3Client(), bucket, prefix: 'races' });
    await createSmall(target(), true);
    const random = seededRandom(firstSeed);
    const options = { random, target, isEncrypted: true, hasFaults: false };
    const race = new Race({ ...options, writers: 3, backups: 4, pruners: 1, readers: 1 });
    await race.run();
    await lookAfter(target(), race, true);
    expect(race.tally.backups).toBe(12);
    expect(race.tally.deleted).toBeGreaterThan(0);
  }, 300_000);
});
