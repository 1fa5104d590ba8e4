import { expect, test, vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { BackupRepository } from '../../../src/repository/backup-repository.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import type { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import { testSeed, times, withinMs } from '../../support/randomness.ts';
import { expectSame } from '../../volume/support/bytes.ts';
import { cutOff } from '../backup/support/interrupted.ts';
import { InterleavingTarget } from '../log/support/interleaving-target.ts';
import { contentOfBackup, createIn, openIn, openVolume, writeBlock } from '../support/repositories.ts';
import { attempt } from './support/attempt.ts';

// Pages of a few rows, so that these histories have many of them.
vi.mock('../../../src/repository/log/pages/page-limits.ts', () => ({
  PAGE_LIMITS: { rows: 4, weight: 2 ** 20, looseWeight: 8000 },
}));

vi.mock('../../../src/common/clock.ts', () => import('./support/hasty-clock.ts'));

/**
 * L12 with others at work: backups die one after the other, each of which adopts those before it, while a pruner fences and
 * condemns whatever it may; then two adopters come at once. Every request and every answer comes in an order that a seed gives.
 */
const RACES = times(6);
const firstSeed = testSeed();
/** Nothing is kept for anybody, so that what is adopted is adopted in time or not at all. */
const AT_ONCE = { graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0, repackBelow: 1, minRepackGainBytes: 0 } as const;
/** What one of two writers of a volume may be told. */
const REFUSED = ['VOLUME_BUSY', 'SESSION_FENCED', 'SESSION_ENDED', 'PARENT_CHANGED'];

async function pruneUntil(target: CloudTarget, over: Promise<unknown>): Promise<void> {
  const repository = await openIn(target);
  let isOver = false;
  void over.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    const outcome = await attempt(() => repository.prune(AT_ONCE));
    if ('error' in outcome && !BackupError.is(outcome.error, 'OBJECT_CONFLICT')) throw outcome.error;
  }
  await repository.close();
}

async function expectSound(repository: BackupRepository): Promise<void> {
  expect(await repository.verify({ depth: 'data' })).toMatchObject({ ok: true, damaged: [] });
}

/** @param isQuiet - one backup dies, and nobody prunes: the next one adopts */
async function race(seed: number, isQuiet: boolean): Promise<{ adopted: number; committed: number }> {
  const random = seededRandom(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const store = new MemoryTarget();
  await (await createIn(store)).close();
  const target = new InterleavingTarget(store, random);
  const { device, volume } = await openVolume(60);
  const other = await openVolume(20);
  for (let died = isQuiet ? 2 : 0; died < 3; died++) {
    const volumes: Record<string, CopyOnWriteVolume> = { disk: volume };
    if (below(2) === 0) volumes.other = other.volume;
    const dying = cutOff(target, volumes, isQuiet ? 2 : 1 + below(3));
    await (isQuiet || below(3) === 0 ? dying : pruneUntil(target, dying));
    await dying;
    await writeBlock(volume, below(60));
  }
  const repositories = await Promise.all([openIn(target), openIn(target)]);
  const backingUp = Promise.all(
    repositories.map((repository, index) =>
      attempt(() => repository.backup(volume, { volume: 'disk', takeOver: index === 1 })),
    ),
  );
  await (isQuiet || below(2) === 0 ? backingUp : pruneUntil(target, backingUp));
  const outcomes = await backingUp;
  let [adopted, committed] = [0, 0];
  const [repository] = repositories;
  for (const outcome of outcomes) {
    if ('error' in outcome) {
      expect(REFUSED).toContain((outcome.error as BackupError).code);
      continue;
    }
    committed++;
    adopted += Number(outcome.value.adoptedBytes > 0);
    expectSame(await contentOfBackup(repository, outcome.value.id), device.bytes);
  }
  expect(committed).toBeGreaterThan(0);
  await expectSound(repository);
  await repository.forget((await Array.fromAsync(repository.listBackups())).map(({ id }) => id));
  for (let run = 0; run < 3; run++) await repository.prune(AT_ONCE);
  expect(await Array.fromAsync(store.list('packs/'))).toEqual([]);
  return { adopted, committed };
}

test(
  'what dead backups have uploaded is adopted or pruned, and never both',
  async () => {
    const totals = { adopted: 0, committed: 0 };
    for (let run = 0; run < RACES; run++) {
      const seed = (firstSeed + run) >>> 0;
      try {
        const { adopted, committed } = await race(seed, run === 0);
        totals.adopted += adopted;
        totals.committed += committed;
      } catch (error) {
        throw new Error(`with COW_TEST_SEED=${seed}`, { cause: error });
      }
    }
    console.log(firstSeed, totals);
    // Or else nothing was tried.
    expect(totals.adopted).toBeGreaterThan(0);
  },
  withinMs(60_000),
);
