import { describe, expect, test, vi } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import type { BackupRepository } from '../../src/repository/backup-repository.ts';
import { RESERVE_KEY } from '../../src/repository/format/object-keys.ts';
import { CopyOnWriteVolume, type SyncVolumeAccess } from '../../src/volume/copy-on-write-volume.ts';
import { attempt } from '../repository/histories/support/attempt.ts';
import { BLOCK, createIn, openIn } from '../repository/support/repositories.ts';
import { randomBytes, randomForTest, testSeed, times, withinMs } from '../support/randomness.ts';
import { mountedDisk, QuotaDisk, type SmallDisk } from './support/full-disks.ts';

vi.mock('../../src/common/clock.ts', () => import('../repository/histories/support/hasty-clock.ts'));

/**
 * Disks that fill up while backups are made, forgotten and pruned: every operation succeeds or says `NO_SPACE`, every
 * backup that is kept reads back, a full disk can be freed by forgetting and pruning, and then work goes on.
 */

const HISTORIES = times(1);
const STEPS = 40;
const DISK_BYTES = 8 * 2 ** 20;
const BLOCKS = 150;
const PRUNING = { graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0, repackBelow: 0.5, minRepackGainBytes: 0 } as const;

class DiskHistory {
  readonly #disk: SmallDisk;
  readonly #random: ReturnType<typeof randomForTest>;
  readonly #device = new MemoryDevice(BLOCKS * BLOCK);
  readonly #kept = new Map<string, Uint8Array>();
  #volume!: CopyOnWriteVolume & SyncVolumeAccess;
  readonly tally: Map<string, number>;

  constructor(disk: SmallDisk, seed: number, tally: Map<string, number>) {
    this.#disk = disk;
    this.#random = randomForTest(seed);
    this.tally = tally;
  }

  async run(): Promise<void> {
    this.#volume = await CopyOnWriteVolume.open(this.#device, { blockSize: BLOCK });
    await (await createIn(this.#disk.target)).close();
    await this.#with((repository) => repository.prune(PRUNING)); // Makes the reserve.
    for (let step = 0; step < STEPS; step++) {
      await this.#step();
      await this.#check();
    }
    await this.#finish();
    await this.#volume.close();
  }

  async #step(): Promise<void> {
    const { below } = this.#random;
    const choice = below(10);
    if (choice < 1) await this.#disk.free();
    else if (choice < 2) await this.#disk.fill([0, 5_000, 100_000, 600_000][below(4)] as number);
    else if (choice < 6) await this.#backUp(below(3) === 0);
    else if (choice < 8) await this.#forget([...this.#kept.keys()].filter(() => below(2) === 0));
    else await this.#attempt('prune', (repository) => repository.prune(PRUNING));
  }

  /** @param fillsUp - others take what room there is while it is on its way */
  async #backUp(fillsUp: boolean): Promise<void> {
    const { below } = this.#random;
    const first = below(BLOCKS);
    await this.#volume.write(first * BLOCK, randomBytes((1 + below(BLOCKS - first)) * BLOCK));
    const content = this.#device.bytes.slice();
    let id: string | undefined;
    const isDone = await this.#attempt('backup', async (repository) => {
      const job = await repository.startBackup(this.#volume, { volume: 'disk' });
      if (fillsUp) await this.#disk.fill(below(300_000));
      ({ id } = await job.sweep().done);
    });
    if (isDone && id !== undefined) this.#kept.set(id, content);
  }

  async #forget(ids: readonly string[]): Promise<boolean> {
    const isDone = await this.#attempt('forget', (repository) => repository.forget(ids));
    if (isDone) for (const id of ids) this.#kept.delete(id);
    return isDone;
  }

  /** Whether it succeeded; there may be no room for it, and nothing else may be wrong. */
  async #attempt(what: string, work: (repository: BackupRepository) => Promise<unknown>): Promise<boolean> {
    const outcome = await this.#with((repository) => attempt(() => work(repository)));
    const isDone = 'value' in outcome;
    this.#count(isDone ? what : `${what} without room`);
    if (!isDone && String(outcome.error.code) !== 'NO_SPACE') throw new Error(what, { cause: outcome.error });
    return isDone;
  }

  async #with<T>(work: (repository: BackupRepository) => Promise<T>): Promise<T> {
    await using repository = await openIn(this.#disk.target);
    return await work(repository);
  }

  async #check(): Promise<void> {
    await this.#with(async (repository) => {
      const listed: string[] = [];
      for await (const { id } of repository.listBackups()) listed.push(id);
      expect(listed.toSorted()).toEqual([...this.#kept.keys()].toSorted());
      for (const [id, content] of this.#kept) {
        await using image = await repository.openBackup(id);
        const bytes = new Uint8Array(image.size);
        await image.read(0, bytes);
        expect(Buffer.compare(bytes, content), id).toBe(0);
      }
    });
  }

  /** Full to the brim, with a reserve: it can be freed. Then work goes on. */
  async #finish(): Promise<void> {
    await this.#disk.free();
    await this.#forget([...this.#kept.keys()].slice(0, -1));
    await this.#attempt('prune', (repository) => repository.prune(PRUNING));
    await this.#backUp(false);
    await this.#disk.fill(0);
    if ((await this.#disk.target.stat(RESERVE_KEY)) !== undefined) {
      const before = await this.#usedBytes();
      // All of them: what only one has may be nothing.
      expect(await this.#forget([...this.#kept.keys()]), 'forgetting on a full disk').toBe(true);
      await this.#with((repository) => repository.prune(PRUNING));
      expect(await this.#usedBytes()).toBeLessThan(before);
      this.#count('freed a full disk');
    }
    await this.#check();
    await this.#disk.free();
    const done = this.tally.get('backup') ?? 0;
    await this.#backUp(false);
    expect(this.tally.get('backup'), 'work goes on').toBe(done + 1);
    await this.#check();
    const { damaged } = await this.#with((repository) => repository.verify({ depth: 'data' }));
    expect(damaged).toEqual([]);
  }

  async #usedBytes(): Promise<number> {
    let used = 0;
    for await (const { key, size } of this.#disk.target.list('')) if (key.startsWith('packs/')) used += size;
    return used;
  }

  #count(what: string): void {
    this.tally.set(what, (this.tally.get(what) ?? 0) + 1);
  }
}

const DISKS: [string, () => Promise<SmallDisk | undefined>][] = [
  ['store with a quota', async () => new QuotaDisk(DISK_BYTES)],
  ['mounted filesystem', () => mountedDisk(DISK_BYTES)],
];

describe.each(DISKS)('a %s that fills up', (name, open) => {
  test(
    'loses nothing, is freed, and is worked on',
    async (context) => {
      const tally = new Map<string, number>();
      for (let run = 0; run < HISTORIES; run++) {
        const seed = (testSeed() + run) >>> 0;
        await using disk = await open();
        if (disk === undefined) return context.skip('only root mounts filesystems');
        try {
          await new DiskHistory(disk, seed, tally).run();
        } catch (error) {
          throw new Error(`with COW_TEST_SEED=${seed}`, { cause: error });
        }
      }
      console.log(`${HISTORIES} histories on a ${name}`, Object.fromEntries(tally));
      for (const what of ['backup', 'backup without room', 'prune', 'forget', 'freed a full disk']) {
        expect(tally.get(what) ?? 0, what).toBeGreaterThan(0);
      }
    },
    withinMs(120_000),
  );
});
