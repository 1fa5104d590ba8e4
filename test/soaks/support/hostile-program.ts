import { writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { BackupError } from '../../../src/common/errors.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import { type Attack, attackOn } from './hostile-attacks.ts';
import type { HostilePlan, HostileWord } from './hostile-words.ts';
import {
  filled,
  makeWorld,
  openOptions,
  readingOf,
  readingOfBytes,
  restoredReading,
  WatchedTarget,
  type World,
} from './hostile-world.ts';

/** The program that `hostile.test.ts` runs: attacks a repository, uses it, undoes the attack, and looks at what is left. */

const plan = JSON.parse(process.argv[2] as string) as HostilePlan;
/** Written when this returns, whatever becomes of the process. */
const say = (word: HostileWord) => void writeSync(1, `${JSON.stringify(word)}\n`);
const collectGarbage = globalThis.gc as () => void;

/** After so long an operation is aborted: a volume may be 16 TiB. Then it has to settle. */
const ABORT_AFTER_MS = 5_000;
const SETTLE_WITHIN_MS = 20_000;
const PRUNING = { graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0, repackBelow: 0.9, minRepackGainBytes: 0 } as const;

let unhandled: unknown;
process.on('unhandledRejection', (error) => {
  unhandled = error;
});
process.on('warning', () => {});

class Trial {
  readonly faults: string[] = [];
  readonly outcomes = new Map<string, string>();
  requests = 0;
  mostBytes = 0;
  readonly #world: World;
  readonly #attack: Attack;
  readonly #forgotten = new Set<string>();
  /** Readings of the backups that are made during the attack. */
  readonly #made = new Map<string, string>();

  constructor(attacked: World, attack: Attack) {
    this.#world = attacked;
    this.#attack = attack;
  }

  async run(): Promise<void> {
    await using inner = await filled(this.#world.objects);
    for (const [key, bytes] of this.#attack.edits) {
      if (bytes === undefined) await inner.delete(key);
      else await inner.put(key, bytes);
    }
    const target = new WatchedTarget(inner, this.#attack.lies);
    await this.#read(target);
    await this.#write(target);
    this.requests = target.requests;
    for (const key of this.#attack.edits.keys()) {
      const original = this.#world.objects.get(key);
      if (original === undefined) await inner.delete(key);
      else await inner.put(key, original);
    }
    if (this.#attack.shows) await this.#checkUndone(new WatchedTarget(inner, new Map()));
  }

  async #read(target: WatchedTarget): Promise<void> {
    const options = { ...openOptions(this.#world.flavour), readOnly: true };
    await this.#with('open read-only', target, options, async (repository) => {
      await this.#readAll('read-only', repository);
      for (const depth of ['structure', 'checksums', 'data'] as const) {
        await this.#do(`verify ${depth}`, (signal) => repository.verify({ depth, signal }));
      }
      await this.#do('verify a part', (signal) => repository.verify({ depth: 'data', fraction: 0.3, signal }));
    });
  }

  async #write(target: WatchedTarget): Promise<void> {
    await this.#with('open', target, openOptions(this.#world.flavour), async (repository) => {
      await this.#do('list sessions', () => Array.fromAsync(repository.listSessions()));
      await this.#do('list volumes', () => Array.fromAsync(repository.listVolumes()));
      await this.#do('stats', (signal) => repository.stats({ signal }));
      await this.#do('list keys', () => repository.keys.list());
      await this.#do('dry prune', (signal) => repository.prune({ ...PRUNING, dryRun: true, signal }));
      await this.#do('estimate prune', (signal) => repository.estimate({ prune: true }, { signal }));
      const policy = { keepLast: 1, keepDaily: 2, keepYearly: 1, keepWithin: 259_200_000 };
      const retention = { allVolumes: true, dryRun: true } as const;
      await this.#do('dry retention', (signal) => repository.applyRetention(policy, { ...retention, signal }));
      for (const volume of ['disk', 'new']) {
        const device = new MemoryDevice(20 * 4096);
        device.bytes.fill(3);
        await using live = await CopyOnWriteVolume.open(device, { blockSize: 4096 });
        const made = await this.#do(`back up ${volume}`, (signal) => repository.backup(live, { volume, signal }));
        if (made !== undefined) this.#made.set(made.id, readingOfBytes(device.bytes));
      }
      await this.#do('verify', (signal) => repository.verify({ depth: 'data', signal }));
      await this.#do('prune', (signal) => repository.prune({ ...PRUNING, signal }));
      const [id] = small;
      await this.#do('forget', async () => {
        this.#forgotten.add(id as string); // Also where its outcome is not known.
        await repository.forget([id as string]);
      });
      await this.#do('prune again', (signal) => repository.prune({ ...PRUNING, signal }));
      await this.#readAll('afterwards', repository);
    });
  }

  async #readAll(when: string, repository: BackupRepository): Promise<void> {
    const listed = await this.#do(`list ${when}`, () => Array.fromAsync(repository.listBackups()));
    const ids = (listed ?? []).map(({ id }) => id);
    for (const [index, id] of ids.slice(0, 12).entries()) {
      const reading = await this.#do(`read ${when}`, () => readingOf(repository, id));
      this.#compare(id, reading, this.#world.readings.get(id));
      const size = listed?.[index]?.size ?? 0;
      await this.#do(`extents ${when}`, (signal) => this.#someExtents(repository, id, signal));
      await this.#do(`estimate ${when}`, (signal) => repository.estimate({ restore: id }, { signal }));
      if (index > 0)
        await this.#do(`diff ${when}`, (signal) => this.#someDiff(repository, [ids[index - 1] as string, id], signal));
      if (size > 2 ** 20) continue;
      const content = await this.#do(`restore ${when}`, () => restoredReading(repository, id, size));
      this.#compare(id, content, restoredReadings.get(id));
    }
  }

  async #someExtents(repository: BackupRepository, id: string, signal: AbortSignal): Promise<void> {
    await using image = await repository.openBackup(id);
    let left = 50;
    for await (const _ of image.extents?.(0, image.size, { signal }) ?? []) if (--left === 0) return;
  }

  async #someDiff(repository: BackupRepository, [from, to]: [string, string], signal: AbortSignal): Promise<void> {
    let left = 50;
    for await (const _ of repository.diff(from, to, { signal })) if (--left === 0) return;
  }

  #compare(id: string, found: string | undefined, known: string | undefined): void {
    const expected = known ?? this.#made.get(id);
    if (found === undefined || found === expected || !this.#attack.shows) return;
    this.faults.push(expected === undefined ? `backup ${id} was never made` : `backup ${id} is read wrong`);
  }

  /** What was there is there again, and is right. */
  async #checkUndone(target: WatchedTarget): Promise<void> {
    const { flavour, readings } = this.#world;
    try {
      await using repository = await BackupRepository.open(target, openOptions(flavour));
      for (const [id, expected] of [...readings, ...this.#made]) {
        if (this.#forgotten.has(id)) continue;
        const found = await readingOf(repository, id).catch((error: unknown) => String((error as BackupError).code));
        if (found !== expected) this.faults.push(`undone: backup ${id} is ${found} instead of ${expected}`);
      }
      const { ok, damaged, damagedObjects } = await repository.verify({ depth: 'data' });
      const errors = [...damaged, ...damagedObjects].map(({ error }) => error.message);
      if (!ok) this.faults.push(`undone: it does not verify: ${errors}`);
    } catch (error) {
      this.faults.push(`undone: ${(error as Error).stack}`);
    }
  }

  async #with(
    name: string,
    target: WatchedTarget,
    options: Parameters<typeof BackupRepository.open>[1],
    work: (repository: BackupRepository) => Promise<void>,
  ): Promise<void> {
    const repository = await this.#do(name, (signal) => BackupRepository.open(target, { ...options, signal }));
    if (repository === undefined) return;
    await work(repository);
    await this.#do('close', () => repository.close());
  }

  /** It settles, with a result or an error that has a code. */
  async #do<T>(name: string, work: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
    const end = new AbortController();
    const timer = setTimeout(() => end.abort(), ABORT_AFTER_MS);
    const hang = delay(ABORT_AFTER_MS + SETTLE_WITHIN_MS, 'hangs' as const, { ref: false });
    let value: T | undefined;
    let outcome = 'ok';
    try {
      const settled = await Promise.race([work(end.signal).then((result) => ({ result })), hang]);
      if (settled === 'hangs') this.faults.push(`${name} does not settle`);
      else value = settled.result;
    } catch (error) {
      outcome = BackupError.is(error)
        ? error.code
        : end.signal.aborted && error === end.signal.reason
          ? 'aborted'
          : 'bad';
      if (outcome === 'bad') this.faults.push(`${name}: ${(error as Error)?.stack ?? error}`);
    } finally {
      clearTimeout(timer);
    }
    if (unhandled !== undefined)
      this.faults.push(`${name} left unhandled: ${(unhandled as Error)?.stack ?? unhandled}`);
    unhandled = undefined;
    this.outcomes.set(name, this.outcomes.get(name) === 'aborted' ? 'aborted' : outcome);
    this.mostBytes = Math.max(this.mostBytes, process.memoryUsage.rss());
    return value;
  }
}

const world = await makeWorld(plan.flavour, plan.seed);
const restoredReadings = new Map<string, string>();
await using whole = await filled(world.objects);
await using pristine = await BackupRepository.open(whole, { ...openOptions(plan.flavour), readOnly: true });
const small = [...world.sizes].filter(([, size]) => size < 2 ** 20).map(([id]) => id);
for (const id of small) restoredReadings.set(id, await restoredReading(pristine, id, world.sizes.get(id) as number));

for (let number = plan.from; number < plan.from + plan.count; number++) {
  const random = seededRandom((plan.seed + number * 7919) >>> 0);
  const attack = attackOn(world, (limit) => Math.floor(random() * limit));
  say({ begins: number, name: attack.name });
  collectGarbage();
  const before = process.memoryUsage.rss();
  const started = performance.now();
  const trial = new Trial(world, attack);
  await trial.run();
  const grownBytes = Math.max(0, trial.mostBytes - before);
  const { faults, requests } = trial;
  const ms = Math.round(performance.now() - started);
  say({ ends: number, faults, outcomes: Object.fromEntries(trial.outcomes), requests, grownBytes, ms });
}
process.exit(0); // Nothing that an operation has left behind keeps it.
