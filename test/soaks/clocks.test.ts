import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { BackupError, CloudTarget, RetentionPolicy } from '../../src/index.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { randomForTest, testSeed, times, withinMs } from '../support/randomness.ts';
import {
  ClockHost,
  DAY_MS,
  type Library,
  libraryOfAnotherProcess,
  SECOND_MS,
  TrueTime,
} from './support/clock-world.ts';

/**
 * Histories of several hosts whose clocks jump by seconds to decades, both ways. Every backup reads back until it is
 * forgotten; retention never forgets a volume's newest; a living host is not fenced before its time; what a host has open
 * stays for the grace; what nobody needs is freed in the end, by pruners that are new processes each night.
 */

const HISTORIES = times(1);
const STEPS = 60;
const HOSTS = 3;
const FENCE_AFTER_MS = 30 * DAY_MS;

interface Kept {
  readonly volume: string;
  readonly content: Uint8Array;
}

interface Store {
  readonly name: string;
  readonly hasClock: boolean;
}

const libraries: Library[] = [];

beforeEach(async () => {
  if (libraries.length === 0) {
    for (let host = 0; host < HOSTS; host++) libraries.push(await libraryOfAnotherProcess());
  }
  vi.useFakeTimers({ toFake: ['Date'] });
});
afterEach(() => vi.useRealTimers());

class ClockHistory {
  readonly #time = new TrueTime();
  readonly #random: ReturnType<typeof randomForTest>;
  readonly #hasClock: boolean;
  readonly #repackBelow: number;
  readonly #hosts: ClockHost[] = [];
  #prunes = 0;
  /** In the order of the log. */
  readonly #kept = new Map<string, Kept>();
  readonly tally: Map<string, number>;

  constructor(seed: number, hasClock: boolean, tally: Map<string, number>) {
    this.#random = randomForTest(seed);
    this.#hasClock = hasClock;
    this.#repackBelow = this.#random.below(2);
    this.tally = tally;
  }

  async run(): Promise<void> {
    const target: CloudTarget = new MemoryTarget({ now: () => this.#time.now });
    if (!this.#hasClock) Object.defineProperty(target, 'storeTime', { value: undefined });
    const [library] = libraries as [Library];
    vi.setSystemTime(this.#time.now);
    await (await library.BackupRepository.create(target, { encryption: 'none' })).close();
    for (const [index, each] of libraries.entries()) {
      const host = new ClockHost(`volume-${index}`, each, target, this.#time, this.#random);
      await host.setUp();
      this.#hosts.push(host);
    }
    for (let step = 0; step < STEPS; step++) await this.#step();
    await this.#finish(target);
    for (const host of this.#hosts) await host.close();
  }

  async #step(): Promise<void> {
    const { below } = this.#random;
    this.#time.pass(Math.floor(SECOND_MS * (3 * 86_400) ** this.#random()));
    const host = this.#hosts[below(HOSTS)] as ClockHost;
    if (below(3) === 0) host.jump();
    const choice = below(12);
    if (choice < 2) await this.#write(host);
    else if (choice < 5) await this.#backUp(host);
    else if (choice < 6) await this.#begin(host);
    else if (choice < 8) await this.#retain(host);
    else if (choice < 9) await this.#forget(host);
    else if (choice < 11) await this.#prune(host);
    else await host.reopen();
    await this.#check();
  }

  async #write(host: ClockHost): Promise<void> {
    await host.write();
    // A backup with nothing left to sweep commits itself: that is waited for, so that the order of commits is known.
    if (host.begun?.job.states.counts.pending === 0) await this.#end(host);
  }

  async #begin(host: ClockHost): Promise<void> {
    if (host.begun !== undefined) return;
    await host.write(); // Or else there is nothing to sweep.
    await host.begin(this.#prunes);
  }

  async #backUp(host: ClockHost): Promise<void> {
    await this.#write(host);
    await this.#begin(host);
    if (host.begun !== undefined) await this.#end(host);
  }

  async #end(host: ClockHost): Promise<void> {
    const begun = host.begun as NonNullable<typeof host.begun>;
    const error = await host.finish(begun);
    if (error === undefined) {
      this.#count('committed');
      this.#kept.set(begun.job.id, { volume: host.name, content: begun.content });
      return;
    }
    // A pack that it found its content in, of a backup that was forgotten, may go before it commits. It can be made again.
    if (error.code === 'PACK_CONDEMNED' && this.#prunes > begun.prunes) {
      expect(error.retryable).toBe(true);
      this.#count('condemned before the commit');
      return;
    }
    // Without a clock of the store, a pruner whose own clock jumps can't know how long another host has been silent.
    const mayBeFenced = !this.#hasClock || this.#time.now - begun.at >= FENCE_AFTER_MS;
    if (!mayBeFenced || !['SESSION_FENCED', 'SESSION_ENDED'].includes(error.code)) throw error;
    this.#count('fenced');
  }

  async #retain(host: ClockHost): Promise<void> {
    const { below } = this.#random;
    const policies: RetentionPolicy[] = [
      { keepLast: 1 + below(3) },
      { keepDaily: 1 + below(3) },
      { keepWeekly: 1, keepYearly: 1 },
      { keepWithin: 1 + below(100 * 86_400_000) },
    ];
    const scope = below(2) === 0 ? { allVolumes: true } : { volume: host.name };
    const policy = policies[below(policies.length)] as RetentionPolicy;
    const newest = this.#newest();
    const { forgotten } = await host.at(() => host.repository.applyRetention(policy, scope));
    for (const { id } of forgotten) {
      expect(newest.has(id), `${JSON.stringify(policy)} forgot the newest backup ${id}`).toBe(false);
      this.#kept.delete(id);
      this.#count('forgotten by retention');
    }
  }

  #newest(): Set<string> {
    return new Set(new Map([...this.#kept].map(([id, { volume }]) => [volume, id])).values());
  }

  async #forget(host: ClockHost): Promise<void> {
    const ids = [...this.#kept.keys()].filter(() => this.#random.below(4) === 0);
    await host.at(() => host.repository.forget(ids));
    for (const id of ids) this.#kept.delete(id);
  }

  /** While somebody has a backup open, which is perhaps forgotten meanwhile. */
  async #prune(host: ClockHost): Promise<void> {
    const { below } = this.#random;
    const reader = this.#hosts[below(HOSTS)] as ClockHost;
    const [id, kept] = [...this.#kept][below(this.#kept.size)] ?? [];
    const image = id === undefined ? undefined : await reader.at(() => reader.repository.openBackup(id));
    if (id !== undefined && below(2) === 0) {
      await host.at(() => host.repository.forget([id]));
      this.#kept.delete(id);
    }
    for (let run = below(3); run >= 0; run--) {
      this.#prunes++;
      const { deletedObjects } = await host.at(() =>
        host.repository.prune({ repackBelow: this.#repackBelow, minRepackGainBytes: 0 }),
      );
      this.#count('deleted', deletedObjects);
      this.#time.pass(below(7 * 3_600_000)); // Less than a day in all.
    }
    if (image === undefined || id === undefined || kept === undefined) return;
    const bytes = new Uint8Array(image.size);
    const error = await reader.at(() =>
      image.read(0, bytes).then(
        () => undefined,
        (each: BackupError) => each,
      ),
    );
    await image.close();
    if (error === undefined) {
      expect(Buffer.compare(bytes, kept.content), `an opened backup ${id}`).toBe(0);
      this.#count('read within the grace');
      return;
    }
    // Without a clock of the store, a pruner whose own clock jumps can't know how long a grace has lasted.
    if (this.#hasClock || this.#kept.has(id) || error.code !== 'BACKUP_FORGOTTEN') throw error;
  }

  /** What is not forgotten is there, and reads back. */
  async #check(): Promise<void> {
    const host = this.#hosts[this.#random.below(HOSTS)] as ClockHost;
    const listed: string[] = [];
    await host.at(async () => {
      for await (const { id } of host.repository.listBackups()) listed.unshift(id);
    });
    expect(listed.toSorted()).toEqual([...this.#kept.keys()].toSorted());
    const [id, kept] = [...this.#kept][this.#random.below(this.#kept.size)] ?? [];
    if (id === undefined || kept === undefined) return;
    await host.at(async () => {
      const image = await host.repository.openBackup(id);
      const bytes = new Uint8Array(image.size);
      await image.read(0, bytes);
      expect(Buffer.compare(bytes, kept.content), id).toBe(0);
      await image.close();
    });
  }

  /** All is forgotten and every session left: pruned each night by a new process, nothing is left after three months. */
  async #finish(target: CloudTarget): Promise<void> {
    for (const host of this.#hosts) await host.reopen();
    await this.#forgetAll();
    const pruner = this.#random.below(HOSTS);
    for (let night = 0; night < 90; night++) {
      this.#time.pass(DAY_MS);
      // Without a clock of the store, time is what one pruner's clock shows.
      const host = this.#hosts[this.#hasClock ? this.#random.below(HOSTS) : pruner] as ClockHost;
      if (this.#hasClock) host.jump();
      await host.reopen();
      await host.at(() => host.repository.prune());
    }
    for await (const { key } of target.list('packs/')) throw new Error(`nobody needs ${key}, and it is still there`);
  }

  async #forgetAll(): Promise<void> {
    const [host] = this.#hosts as [ClockHost];
    await host.at(() => host.repository.forget([...this.#kept.keys()]));
    this.#kept.clear();
  }

  #count(what: string, by = 1): void {
    this.tally.set(what, (this.tally.get(what) ?? 0) + by);
  }
}

const STORES: readonly Store[] = [
  { name: 'has a clock', hasClock: true },
  { name: 'has no clock', hasClock: false },
];

describe.each(STORES)('a store that $name', ({ name, hasClock }) => {
  test(
    'loses nothing and keeps nothing when the clocks of hosts jump',
    async () => {
      const tally = new Map<string, number>();
      for (let run = 0; run < HISTORIES; run++) {
        const seed = (testSeed() + run) >>> 0;
        try {
          await new ClockHistory(seed, hasClock, tally).run();
        } catch (error) {
          throw new Error(`with COW_TEST_SEED=${seed}`, { cause: error });
        }
      }
      console.log(`${HISTORIES} histories on a store that ${name}`, Object.fromEntries(tally));
      for (const what of ['committed', 'forgotten by retention', 'deleted']) {
        expect(tally.get(what) ?? 0, what).toBeGreaterThan(0);
      }
    },
    withinMs(120_000),
  );
});
