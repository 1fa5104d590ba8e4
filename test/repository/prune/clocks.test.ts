import { describe, expect, test } from 'vitest';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import type { RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { decideAbort, decideOpen } from '../../../src/repository/log/entries/sessions.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import type { PruneOptions } from '../../../src/repository/prune/prune-options.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import type { ObjectInfo } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { openVolume } from '../support/repositories.ts';
import { Backups, freshBlock, openHost, packsOf, secrets } from './support/repository.ts';

const DAY_MS = 86_400_000;
const YEAR_MS = 365 * DAY_MS;
const NO_REPACK: PruneOptions = { repackBelow: 0 };

/** A store that says nothing of time. */
class ClocklessTarget extends ForwardingTarget {
  protected override async *forwardList(prefix: string): AsyncGenerator<ObjectInfo> {
    for await (const { key, size } of this.inner.list(prefix)) yield { key, size };
  }

  protected override async forwardStat(key: string): Promise<ObjectInfo | undefined> {
    const info = await this.inner.stat(key);
    return info && { key, size: info.size };
  }

  protected override async forwardStoreTime(): Promise<undefined> {}
}

/** A store, its clock, and hosts whose clocks differ from it by so much. */
function world({ isClockless = false } = {}) {
  const store = { at: 1_800_000_000_000 };
  const memory = new MemoryTarget({ now: () => store.at });
  const target = isClockless ? new ClocklessTarget(memory, 'this ClocklessTarget') : memory;
  const secret = secrets(false);
  const host = (name: string, aheadMs = 0): Promise<RepositoryContext> =>
    openHost(target, secret, { now: () => store.at + aheadMs, owner: `${name}/1/x` });
  return { store, target, host };
}

async function openSession(context: RepositoryContext, volume = 'disk', takeOver: number[] = []): Promise<number> {
  const plan = { owner: context.owner, volumes: new Map([[volume, undefined]]), takeOver };
  return (await context.log.append((state) => decideOpen(state, plan)))!.entry.seq;
}

/** Stores a pack of a session without committing it. */
async function storePack({ target }: RepositoryContext, session: number, random = 'ab'.repeat(16)): Promise<string> {
  const key = packKey({ session, random });
  await target.put(key, new Uint8Array(50));
  return key;
}

async function forgetOne(context: RepositoryContext): Promise<void> {
  const id = await new Backups().store(context, Array.from({ length: 20 }, freshBlock));
  await forgetBackups(context, [id]);
}

describe.each([{ isClockless: false }, { isClockless: true }])('clockless: $isClockless', ({ isClockless }) => {
  test.each([-400, -1, 0, 60, 3650])('a host whose clock is off by %i days is not fenced', async (days) => {
    const { store, host } = world({ isClockless });
    const writer = await host('writer', days * DAY_MS);
    const session = await openSession(writer);
    for (let night = 0; night < 3; night++) {
      expect(await prune(await host('pruner'), NO_REPACK)).toMatchObject({ fencedSessions: 0 });
      store.at += DAY_MS;
    }
    expect((await writer.log.catchUp()).sessions.has(session)).toBe(true);
  });

  test('a pruner whose clock is 60 days ahead fences nobody', async () => {
    const { host } = world({ isClockless });
    await openSession(await host('writer'));
    expect(await prune(await host('pruner', 60 * DAY_MS), NO_REPACK)).toMatchObject({ fencedSessions: 0 });
  });

  test('a host that died, whatever its clock said, is fenced after the time, though every night another process prunes', async () => {
    for (const aheadMs of [-YEAR_MS, 10 * YEAR_MS]) {
      const { store, host } = world({ isClockless });
      await openSession(await host('writer', aheadMs));
      const fenced: number[] = [];
      for (let night = 0; night <= 31; night++) {
        fenced.push((await prune(await host('pruner'), NO_REPACK)).fencedSessions);
        store.at += DAY_MS;
      }
      expect(fenced.indexOf(1)).toBe(30);
    }
  });

  test('what a clock ten years ahead condemned is freed after the grace, and at once with a grace of 0', async () => {
    const { store, target, host } = world({ isClockless });
    const ahead = await host('ahead', 10 * YEAR_MS);
    await forgetOne(ahead);
    expect((await prune(ahead, NO_REPACK)).condemnedPacks).toBeGreaterThan(0);
    const { freedBytes, waitingBytes } = await prune(await host('pruner'), NO_REPACK);
    expect({ freedBytes, isWaiting: waitingBytes > 0 }).toEqual({ freedBytes: 0, isWaiting: true });
    store.at += DAY_MS;
    expect((await prune(await host('pruner'), NO_REPACK)).freedBytes).toBe(waitingBytes);
    expect((await packsOf(target)).size).toBe(0);
    await forgetOne(ahead);
    await prune(ahead, NO_REPACK);
    expect((await prune(await host('pruner'), { ...NO_REPACK, graceMs: 0 })).freedBytes).toBeGreaterThan(0);
    expect((await packsOf(target)).size).toBe(0);
  });

  test('0 means 0, for sessions too', async () => {
    const { host, target } = world({ isClockless });
    const writer = await host('writer', 10 * YEAR_MS);
    await storePack(writer, await openSession(writer));
    const pruner = await host('pruner');
    const atOnce = { ...NO_REPACK, graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0 };
    expect(await prune(pruner, atOnce)).toMatchObject({ fencedSessions: 1 });
    expect(await prune(pruner, atOnce)).toMatchObject({ freedBytes: 50 }); // P6: fencing and condemning are two collections.
    expect((await packsOf(target)).size).toBe(0);
  });

  test('what was fenced is kept for a while, whoever ended it, unless a commit has made use of it', async () => {
    const { store, host, target } = world({ isClockless });
    const first = await host('first');
    const [ended, used] = [await openSession(first, 'ended'), await openSession(first)];
    const [endedPack, usedPack] = [await storePack(first, ended), await storePack(first, used)];
    const taker = await openSession(await host('first'), 'ended', [ended]);
    await first.log.append((state) => decideAbort(state, taker));
    const options = { ...NO_REPACK, graceMs: 0 };
    await prune(await host('pruner'), { ...options, fenceAfterMs: 0 });
    await first.log.catchUp();
    expect([...first.log.state.fenced.keys()]).toEqual([ended, used]);
    await new Backups().store(await host('second', -YEAR_MS), Array.from({ length: 20 }, freshBlock));
    await prune(await host('pruner'), options);
    expect(await target.stat(usedPack)).toBeUndefined();
    expect(await target.stat(endedPack)).toBeDefined();
    store.at += DAY_MS;
    await prune(await host('pruner'), options);
    expect(await target.stat(endedPack)).toBeUndefined();
  });
});

describe('the clock of the store', () => {
  test('shows a session alive by its newest pack, however long ago it was opened', async () => {
    const { store, host } = world();
    const writer = await host('writer');
    const session = await openSession(writer);
    store.at += 40 * DAY_MS;
    await storePack(writer, session);
    store.at += 29 * DAY_MS;
    expect(await prune(await host('pruner'), NO_REPACK)).toMatchObject({ fencedSessions: 0 });
    store.at += DAY_MS;
    expect(await prune(await host('pruner'), NO_REPACK)).toMatchObject({ fencedSessions: 1 });
  });

  test('was ahead once: what it dated then counts from the first prune that sees it', async () => {
    const { store, host, target } = world();
    const right = store.at;
    store.at += 10 * YEAR_MS;
    const writer = await host('writer');
    await forgetOne(writer); // Before: it takes over what is open.
    await storePack(writer, await openSession(writer));
    await prune(await host('pruner'), NO_REPACK);
    store.at = right;
    const pruner = await host('pruner');
    const reported = await prune(pruner, NO_REPACK);
    expect(reported).toMatchObject({ fencedSessions: 0, freedBytes: 0 });
    const { seq } = pruner.log.state;
    await prune(pruner, NO_REPACK);
    expect(pruner.log.state.seq).toBe(seq); // Noted once, and then nothing is said every night.
    store.at += DAY_MS;
    expect((await prune(await host('pruner'), NO_REPACK)).freedBytes).toBeGreaterThan(0);
    store.at += 29 * DAY_MS;
    expect(await prune(await host('pruner'), NO_REPACK)).toMatchObject({ fencedSessions: 1 });
    store.at += DAY_MS;
    await prune(await host('pruner'), NO_REPACK);
    store.at += DAY_MS;
    await prune(await host('pruner'), NO_REPACK);
    expect((await packsOf(target)).size).toBe(0);
  });

  test('is not asked for the age of what has no wait, nor of a session with a recent pack', async () => {
    const { host, target } = world();
    const writer = await host('writer');
    await forgetOne(writer); // Before: it takes over what is open.
    await storePack(writer, await openSession(writer));
    const stats: string[] = [];
    const stat = target.stat.bind(target);
    target.stat = (key, options) => {
      stats.push(key);
      return stat(key, options);
    };
    await prune(await host('pruner'), { ...NO_REPACK, graceMs: 0, checkLocks: false, dryRun: true });
    expect(stats).toEqual([]);
  });
});

test('the age of a collection is found in single-writer mode too, where keys of entries have random ends', async () => {
  const store = { at: 1_800_000_000_000 };
  const target = new MemoryTarget({ createOnly: false, now: () => store.at });
  const options = { encryption: 'none', singleWriter: true, threads: 0, packBytes: 65_536 } as const;
  await using repository = await BackupRepository.create(target, options);
  const { volume } = await openVolume(8);
  const { id } = await repository.backup(volume, { volume: 'a' });
  await repository.forget([id]);
  expect((await repository.prune()).freedBytes).toBe(0);
  store.at += DAY_MS - 1;
  expect((await repository.prune()).freedBytes).toBe(0);
  store.at += 1;
  expect((await repository.prune()).freedBytes).toBeGreaterThan(0);
});

test('a collection that dates what is not there is damage', async () => {
  const { host } = world();
  const context = await host('writer');
  const session = await openSession(context);
  const nothing = { session: undefined, newPacks: [], packs: [], sessions: [], fence: [], relocate: [] };
  const redating = (redated: number[]): LogFact => ({
    type: 'collect',
    ...nothing,
    gonePacks: [],
    goneSessions: [],
    redated,
  });
  await expect(context.log.append(() => redating([session, 99]))).rejects.toThrow('dates anew what is neither');
  await context.log.append(() => redating([session]));
  expect(context.log.state.sessions.get(session)!.dated).toEqual({ seq: 2, at: expect.any(Number) });
});
