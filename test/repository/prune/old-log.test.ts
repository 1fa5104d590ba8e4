import { describe, expect, test } from 'vitest';
import { floorSeq, type LogState } from '../../../src/repository/format/log-state.ts';
import { checkpointKey, entryKey, LOG_PREFIX } from '../../../src/repository/format/object-keys.ts';
import { LogReader } from '../../../src/repository/log/log-reader.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { SWEEPS_ALL } from '../../support/randomness.ts';
import { objectsOf, targetOf } from '../log/support/hosts.ts';
import { grow } from '../log/support/pruned-log.ts';
import { verifyLog } from '../log/support/verify-log.ts';
import { openHost, secrets } from './support/repository.ts';

/** L1, L2: prune deletes old entries and checkpoints. */

const NOW = { graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0, reserveBytes: 0 } as const;
const plain = (state: LogState) => ({ ...state });
const sourceOf = (target: CloudTarget) => ({ target, logKey: undefined, mode: 'shared' as const });

async function keysOf(target: CloudTarget): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of target.list(LOG_PREFIX)) keys.push(key);
  return keys;
}

async function longLog(entries = 100) {
  const target = new MemoryTarget();
  const host = secrets(false);
  const context = await openHost(target, host);
  await grow(context.log, entries);
  return { target, host, context };
}

describe('prune', () => {
  test('deletes entries and checkpoints below the floor that it sets, and says how many objects that were', async () => {
    const { target, context } = await longLog();
    const before = await keysOf(target);
    const { deletedObjects, freedBytes } = await prune(context, NOW);
    const floor = floorSeq(context.log.state);
    expect(floor).toBe(88);
    // Those entries, and the checkpoints below.
    expect(deletedObjects).toBe(88 + 10);
    expect(freedBytes).toBeGreaterThan(0);
    const after = await keysOf(target);
    expect(after).toEqual([
      entryKey(101),
      ...before.filter((key) => key < entryKey(floor) || key === checkpointKey(floor)),
    ]);
    expect(plain(await verifyLog(sourceOf(target)))).toEqual(plain(context.log.state));
  });

  test('leaves a short log alone, and a long one that has no new entries', async () => {
    const short = await longLog(20);
    expect((await prune(short.context, NOW)).deletedObjects).toBe(0);
    expect(short.context.log.state.seq).toBe(20);
    const { context } = await longLog();
    await prune(context, NOW);
    expect((await prune(context, NOW)).deletedObjects).toBe(0);
    expect(context.log.state.seq).toBe(101);
  });

  test('deletes what arrives late below the floor, and what an earlier run has left', async () => {
    const { target, context } = await longLog();
    const before = await objectsOf(target);
    await prune(context, NOW);
    for (const key of [entryKey(3), entryKey(88), checkpointKey(32)]) await target.put(key, before.get(key)!);
    expect((await prune(context, NOW)).deletedObjects).toBe(3);
    expect(await keysOf(target)).not.toContain(entryKey(88));
    expect(await keysOf(target)).toContain(checkpointKey(88));
  });

  test('writes a checkpoint where there are too few for a floor', async () => {
    const { target, context } = await longLog(41);
    for (const key of await keysOf(target)) if (key.endsWith('-c')) await target.delete(key);
    const other = await openHost(target, secrets(false));
    await prune(other, NOW);
    expect(await keysOf(target)).toContain(checkpointKey(41));
    await grow(context.log, 2);
    await prune(other, NOW);
    expect(await keysOf(target)).toContain(checkpointKey(43));
    await prune(other, NOW);
    expect(floorSeq(other.log.state)).toBe(41);
    expect(plain(await verifyLog(sourceOf(target)))).toEqual(plain(other.log.state));
  });

  test('with dryRun sets no floor and deletes nothing', async () => {
    const { target, context } = await longLog();
    const before = await keysOf(target);
    await prune(context, { ...NOW, dryRun: true });
    expect(await keysOf(target)).toEqual(before);
    await prune(context, NOW);
    await grow(context.log, 100);
    const later = await keysOf(target);
    await prune(context, { ...NOW, dryRun: true });
    expect(await keysOf(target)).toEqual(later);
  });

  test('leaves alone what an object lock protects', async () => {
    const { target, context } = await longLog();
    const lockedFrom = 20;
    const locked = Object.assign(Object.create(target) as MemoryTarget, {
      stat: async (key: string) => {
        const info = await target.stat(key);
        const isLocked = key <= entryKey(lockedFrom) && key.startsWith(LOG_PREFIX);
        return info && { ...info, retainUntil: isLocked ? new Date(Date.now() + 1e9) : undefined };
      },
      list: target.list.bind(target),
      get: target.get.bind(target),
      put: target.put.bind(target),
      delete: target.delete.bind(target),
      deleteMany: undefined,
      storeTime: undefined,
    });
    Object.defineProperty(locked, 'capabilities', { value: target.capabilities });
    await prune({ ...context, target: locked }, NOW);
    const left = await keysOf(target);
    expect(left).toContain(entryKey(20));
    expect(left).not.toContain(entryKey(19));
    expect(left).toContain(entryKey(64));
  });
});

describe('each request of a prune that sets a floor', () => {
  const outcomes = { 'fail-before': 0, 'fail-after': 0 };

  test.each(['fail-before', 'fail-after'] as const)(
    '%s: the log stays whole, and the next prune goes on',
    async (kind) => {
      const { target, host } = await longLog(70);
      const objects = await objectsOf(target);
      for (let nth = 0; ; nth += SWEEPS_ALL ? 1 : 3) {
        const store = await targetOf(objects);
        let left = Number.POSITIVE_INFINITY;
        const failing = new FaultyTarget(store, { next: () => (left-- === 0 ? { kind } : undefined) });
        const pruner = await openHost(failing, host);
        const opened = failing.calls.length;
        left = nth;
        const error = await prune(pruner, NOW).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        const isOver = failing.calls.length <= nth + opened;
        const fresh = await openHost(store, host);
        expect(fresh.log.state.keySlots.size, `request ${nth}: ${String(error)}`).toBe(70);
        expect(plain(await verifyLog(sourceOf(store)))).toEqual(plain(fresh.log.state));
        await prune(fresh, NOW);
        expect(floorSeq(fresh.log.state)).toBe(56);
        expect((await keysOf(store)).at(-1)).toBe(checkpointKey(56));
        outcomes[kind]++;
        if (isOver) break;
      }
      expect(outcomes[kind]).toBeGreaterThan(10);
    },
  );
});

test('each request of a process that jumps over deleted entries may fail', async () => {
  const { target, host, context } = await longLog(40);
  const asleep = await objectsOf(target);
  await grow(context.log, 80);
  await prune(context, NOW);
  const now = await objectsOf(target);
  for (let nth = 0; ; nth++) {
    const store = await targetOf(asleep);
    let isFailing = -1;
    const faulty = new FaultyTarget(store, { next: () => (isFailing-- === 0 ? { kind: 'fail-before' } : undefined) });
    const reader = await LogReader.open(sourceOf(faulty));
    for (const key of await keysOf(store)) if (!now.has(key)) await store.delete(key);
    for (const [key, body] of now) if ((await store.stat(key)) === undefined) await store.put(key, body);
    const before = faulty.calls.length;
    isFailing = nth;
    const error = await reader.catchUp().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    const calls = faulty.calls.length - before;
    isFailing = -1;
    if (error !== undefined) expect(reader.state.seq).toBe(40);
    expect(plain(await reader.catchUp())).toEqual(plain(context.log.state));
    if (calls <= nth) break;
  }
  expect((await openHost(target, host)).log.state.seq).toBe(context.log.state.seq);
});
