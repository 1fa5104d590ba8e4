import { describe, expect, test, vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import type { TargetOperation } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { type FaultKind, seededFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { type RandomSource, seededRandom } from '../../../src/testing/seeded-random.ts';
import { testSeed, times, withinMs } from '../../support/randomness.ts';
import { InterleavingTarget } from '../log/support/interleaving-target.ts';
import { Backups, BLOCK, type Content, freshBlock, openHost, packsOf, secrets, totalOf } from './support/repository.ts';

// Pages of a few rows, so that these histories have many of them.
vi.mock('../../../src/repository/log/pages/page-limits.ts', () => ({
  PAGE_LIMITS: { rows: 4, weight: 2 ** 20, looseWeight: 8000 },
}));

/**
 * Whole histories by chance: hosts back two volumes up, forget, prune and repack at the same time, every request of theirs in
 * an order that the seed gives, some of them failing. Every backup that is not forgotten reads back, always.
 */

const HISTORIES = times(1);
const ROUNDS = 12;
const BLOCKS = 100;
const DAY_MS = 86_400_000;

class History {
  readonly store = new MemoryTarget({ now: () => this.#now });
  readonly backups = new Backups();
  readonly #hasFaults: boolean;
  readonly #secret: ReturnType<typeof secrets>;
  readonly #random: RandomSource;
  readonly #interleaved: CloudTarget;
  readonly #contents = new Map<string, Content>();
  #now = 1_800_000_000_000;
  pruned = 0;
  repacked = 0;
  failures = 0;

  constructor(seed: number, hasFaults: boolean) {
    this.#hasFaults = hasFaults;
    this.#random = seededRandom(seed);
    this.#secret = secrets(seed % 2 === 0);
    this.#interleaved = new InterleavingTarget(this.store, this.#random);
  }

  async run(): Promise<void> {
    for (const volume of ['a', 'b']) await this.#store(await this.#host(this.store), volume);
    for (let round = 0; round < ROUNDS; round++) {
      const work = [
        this.#host().then((host) => this.#store(host, 'a')),
        this.#host().then((host) => this.#store(host, 'b')),
      ];
      if (this.#below(3) > 0) work.push(this.#host().then((host) => this.#prune(host)));
      if (this.#below(2) > 0) work.push(this.#host().then((host) => this.#prune(host)));
      if (this.#below(2) > 0) work.push(this.#host().then((host) => this.#forget(host)));
      for (const outcome of await Promise.allSettled(work)) {
        if (outcome.status === 'fulfilled') continue;
        this.failures++;
        if (!BackupError.is(outcome.reason)) throw outcome.reason;
        if (!this.#hasFaults && !EXPECTED.includes(outcome.reason.code)) throw outcome.reason;
      }
      this.#now += this.#below(3) * DAY_MS;
      await this.backups.check(await this.#host(this.store));
    }
  }

  /** Prunes in peace until there is nothing left to free. */
  async settle(): Promise<{ stored: number; needed: number }> {
    const host = await this.#host(this.store);
    for (let run = 0; run < 6; run++) {
      this.#now += 40 * DAY_MS;
      await prune(host, { graceMs: 0, minRepackGainBytes: 0, packBytes: 50_000 });
    }
    await this.backups.check(host);
    const blocks = new Set(
      [...(await host.log.withPages('all')).backups.keys()].flatMap((id) => this.backups.contents.get(id) ?? []),
    );
    return { stored: totalOf(await packsOf(this.store)), needed: blocks.size * BLOCK };
  }

  async #host(target?: CloudTarget): Promise<RepositoryContext> {
    const rates = Object.fromEntries(
      (['put', 'get', 'list', 'deleteMany', 'stat'] as const).map((each) => [each, this.#hasFaults ? RATES : {}]),
    ) as { [Operation in TargetOperation]?: { [Kind in FaultKind]?: number } };
    const seed = this.#below(2 ** 32);
    const faulty = new FaultyTarget(this.#interleaved, seededFaults({ seed, rates, maxFaults: 2 }));
    const host = this.#below(100);
    for (;;) {
      try {
        return await openHost(target ?? faulty, this.#secret, { now: () => this.#now, owner: `host ${host}` });
      } catch (error) {
        if (!this.#hasFaults) throw error;
      }
    }
  }

  async #store(host: RepositoryContext, volume: string): Promise<void> {
    const before = this.#contents.get(volume) ?? Array.from({ length: BLOCKS }, freshBlock);
    const share = this.#random() ** 2;
    const from = this.#below(BLOCKS);
    const content = before.map((bytes, block) => {
      if (this.#random() >= share || block < from) return bytes;
      return this.#random() < 0.1 ? undefined : freshBlock();
    });
    await this.backups.store(host, content, { volume, packBytes: 20_000 + this.#below(60_000) });
    this.#contents.set(volume, content);
  }

  async #forget(host: RepositoryContext): Promise<void> {
    const ids = [...(await host.log.withPages('all')).backups.keys()].filter(() => this.#random() < 0.5);
    await forgetBackups(host, ids);
  }

  async #prune(host: RepositoryContext): Promise<void> {
    const { repackedPacks } = await prune(host, {
      graceMs: this.#below(3) * DAY_MS,
      fenceAfterMs: 2 * DAY_MS,
      keepFencedMs: this.#below(2) * DAY_MS,
      repackBelow: [0, 0.5, 0.8][this.#below(3)],
      minRepackGainBytes: 0,
      maxRepackBytes: [2 ** 30, 60_000][this.#below(2)],
      packBytes: [50_000, 6000][this.#below(2)],
    });
    this.pruned++;
    this.repacked += repackedPacks;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
}

const RATES = { 'fail-before': 0.005, 'fail-after': 0.005 };
/** Errors that a host may get when others were faster. */
const EXPECTED = ['BACKUP_NOT_FOUND', 'BACKUP_FORGOTTEN', 'OBJECT_CONFLICT', 'SESSION_FENCED'];

describe.each([{ hasFaults: false }, { hasFaults: true }])('histories, with faults: $hasFaults', ({ hasFaults }) => {
  test(
    'keep every backup that is not forgotten, and little else',
    async () => {
      const totals = { pruned: 0, repacked: 0, failures: 0 };
      for (let run = 0; run < HISTORIES; run++) {
        const seed = (testSeed() + run) >>> 0;
        const history = new History(seed, hasFaults);
        try {
          await history.run();
          const { stored, needed } = await history.settle();
          expect(stored).toBeLessThan(2.1 * needed + 200_000);
        } catch (error) {
          throw new Error(`with seed ${seed}`, { cause: error });
        }
        totals.pruned += history.pruned;
        totals.repacked += history.repacked;
        totals.failures += history.failures;
      }
      expect(totals.pruned).toBeGreaterThanOrEqual(HISTORIES);
      // Names of packs are random, so a few histories may have nothing to repack.
      if (HISTORIES >= 10) expect(totals.repacked).toBeGreaterThan(0);
      if (hasFaults) expect(totals.failures).toBeGreaterThan(0);
    },
    withinMs(120_000),
  );
});
