import { describe, expect, test, vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { pageKeyOf, pageKeys, unsafePages } from '../../../src/repository/format/catalogue-pages.ts';
import { encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { floorSeq, type LogState } from '../../../src/repository/format/log-state.ts';
import {
  CATALOGUE_PREFIX,
  checkpointKey,
  parsePageKey,
  secondCopyOf,
} from '../../../src/repository/format/object-keys.ts';
import { floorCheckpoint } from '../../../src/repository/log/log-source.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { Backups, type Content, freshBlock, openHost, secrets } from './support/repository.ts';

// Pages of a few rows, so that a log of some hundred entries has many of them.
const limits = vi.hoisted(() => ({ rows: 4, weight: 2 ** 20, looseWeight: 0 }));
vi.mock('../../../src/repository/log/pages/page-limits.ts', () => ({ PAGE_LIMITS: limits }));

/** L8, L11: which pages are deleted with the old log, and what a process does that misses one. */

const NOW = { graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0, reserveBytes: 0, repackBelow: 0 } as const;
const VOLUMES = ['a', 'b', 'c', 'd', 'e'];

async function keysOf(target: CloudTarget, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of target.list(prefix)) keys.push(key);
  return keys;
}

async function repository() {
  const target = new MemoryTarget();
  const secret = secrets(true);
  const backups = new Backups();
  const contents = new Map<string, Content>();
  const host = () => openHost(target, secret);
  /** Backs up until the log has some more entries, and forgets some of it. */
  const work = async (context: RepositoryContext, entries: number, volumes = VOLUMES) => {
    const until = context.log.state.seq + entries;
    for (let n = 0; context.log.state.seq < until; n++) {
      const volume = volumes[n % volumes.length] as string;
      const content = (contents.get(volume) ?? [freshBlock(), freshBlock()]).with(n % 2, freshBlock());
      contents.set(volume, content);
      await backups.store(context, content, { volume });
      if (n % 5 === 4 && volumes === VOLUMES) {
        const { backups: all } = await context.log.withPages('all');
        await forgetBackups(context, [...all.keys()].slice(0, 3));
      }
    }
    await context.log.settled();
  };
  const pruned = async (context: RepositoryContext) => {
    for (let run = 0; run < 2; run++) await prune(context, NOW);
    await context.log.settled();
  };
  return { target, backups, host, work, pruned };
}

const ofFloor = async ({ log }: RepositoryContext): Promise<LogState> =>
  (await floorCheckpoint(log.reader.source, log.state.floor!, {})) as LogState;

describe('pages of the catalogue', () => {
  test('are deleted with the old log, but for those of the floor, and each of those is there', async () => {
    const { target, backups, host, work, pruned } = await repository();
    const context = await host();
    let floor = 0;
    let deleted = 0;
    for (let round = 0; round < 2; round++) {
      await work(context, 70);
      const before = await keysOf(target, CATALOGUE_PREFIX);
      await pruned(context);
      expect(floorSeq(context.log.state)).toBeGreaterThan(floor);
      floor = floorSeq(context.log.state);
      const named = pageKeys((await ofFloor(context)).pages);
      const after = await keysOf(target, CATALOGUE_PREFIX);
      for (const key of after) {
        const { seq, page } = parsePageKey(key)!;
        expect(seq >= floor || named.has(page), key).toBe(true);
      }
      for (const key of named) expect(after).toEqual(expect.arrayContaining([key, secondCopyOf(key)]));
      deleted += before.filter((key) => !after.includes(key)).length;
      await backups.check(await host());
    }
    expect(deleted).toBeGreaterThan(10);
  }, 60_000);

  test('that a process still names are missed by it, and it goes on from a newer checkpoint', async () => {
    const { backups, host, work, pruned } = await repository();
    const one = await host();
    await work(one, 70);
    const slow = await host();
    const other = await host();
    for (let round = 0; round < 2; round++) {
      await work(other, 70);
      await pruned(other);
    }
    const old = pageKeys(slow.log.state.pages);
    await backups.check(slow);
    expect([...pageKeys(slow.log.state.pages)].some((key) => old.has(key))).toBe(false);
    // What it writes from now on names only what stays.
    await work(slow, 70);
    await pruned(slow);
    await backups.check(await host());
  }, 60_000);

  test('that a stale checkpoint names are passed over, by those that open and by prune', async () => {
    const { target, backups, host, work, pruned } = await repository();
    await work(await host(), 70);
    const slow = await host();
    const other = await host();
    await work(other, 70);
    // It sleeps between reading the log and writing its checkpoint, while pages that it goes by are deleted.
    const state = await slow.log.catchUp();
    await pruned(other);
    const floor = floorSeq(other.log.state);
    const gone = unsafePages(state.pages, floor, pageKeys((await ofFloor(other)).pages));
    for (const { ref } of gone) expect(await target.stat(pageKeyOf(ref))).toBeUndefined();
    const stale = (await encodeCheckpoint(slow.keys.logKey, state)) as Uint8Array<ArrayBuffer>;
    await target.put(checkpointKey(state.seq), stale);
    for (let seq = state.seq + 1; seq <= other.log.state.seq; seq++) await target.delete(checkpointKey(seq));
    expect(gone.length).toBeGreaterThan(0);
    const opened = await host();
    expect(opened.log.reader.checkpoint).toBe(state.seq);
    await backups.check(opened);
    await work(opened, 70);
    await pruned(opened);
    expect(floorSeq(opened.log.state)).toBeGreaterThan(state.seq);
    await backups.check(await host());
  }, 60_000);

  test('that others may delete make a checkpoint unfit for a floor, although they are still there', async () => {
    const { target, host, work, pruned } = await repository();
    await work(await host(), 70);
    const slow = await host();
    const other = await host();
    await work(other, 70);
    await slow.log.catchUp();
    // What prunes delete of pages, they delete when this test is over.
    const remove = target.deleteMany.bind(target);
    target.deleteMany = (keys, options) =>
      remove(
        keys.filter((key) => !key.startsWith(CATALOGUE_PREFIX)),
        options,
      );
    await pruned(other);
    const floor = floorSeq(other.log.state);
    await work(other, 20);
    const state = await slow.log.catchUp();
    await target.put(checkpointKey(state.seq), (await encodeCheckpoint(slow.keys.logKey, state))!);
    for (let seq = floor + 1; seq <= other.log.state.seq; seq++) {
      if (seq !== state.seq) await target.delete(checkpointKey(seq));
    }
    const opened = await host();
    expect(unsafePages(opened.log.state.pages, floor, pageKeys((await ofFloor(opened)).pages))).not.toEqual([]);
    limits.looseWeight = Number.POSITIVE_INFINITY;
    await work(opened, 70, ['a']).finally(() => {
      limits.looseWeight = 0;
    });
    // What it has written names others only, although it had no rows to move.
    const again = await host();
    expect(again.log.reader.checkpoint).toBeGreaterThan(state.seq);
    expect(unsafePages(again.log.state.pages, floor, pageKeys((await ofFloor(again)).pages))).toEqual([]);
    for (let seq = state.seq + 1; seq < again.log.reader.checkpoint; seq++) await target.delete(checkpointKey(seq));
    await prune(again, NOW);
    expect(floorSeq(again.log.state)).toBe(floor);
  }, 60_000);

  test('that the next floor lets others delete make the second checkpoint unfit', async () => {
    const { target, host, work } = await repository();
    await work(await host(), 40);
    const slow = await host();
    const other = await host();
    await work(other, 30);
    const state = await slow.log.catchUp();
    const { pages } = other.log.state;
    expect(unsafePages(state.pages, 64, pageKeys(pages))).not.toEqual([]);
    await target.put(checkpointKey(state.seq), (await encodeCheckpoint(slow.keys.logKey, state))!);
    await prune(await host(), NOW);
    expect(floorSeq((await host()).log.state)).toBe(0);
  }, 60_000);

  test('of which one copy each can neither be read nor written again keep the floor where it is', async () => {
    const { target, host, work } = await repository();
    await work(await host(), 70);
    const copies = (await keysOf(target, CATALOGUE_PREFIX)).filter((key) => key.endsWith('-2'));
    for (const copy of copies) await target.delete(copy);
    const put = target.put.bind(target);
    target.put = async (key, ...rest) => {
      if (copies.includes(key)) throw new BackupError('PERMISSION_DENIED', 'no');
      return put(key, ...rest);
    };
    await prune(await host(), NOW);
    expect(floorSeq((await host()).log.state)).toBe(0);
    target.put = put;
    await prune(await host(), NOW);
    const { log } = await host();
    expect(floorSeq(log.state)).toBeGreaterThan(0);
    for (const key of pageKeys(log.state.pages)) expect(await target.stat(secondCopyOf(key))).toBeDefined();
  }, 60_000);

  test('stay where another checkpoint has the number of the floor', async () => {
    const { target, host, work, pruned } = await repository();
    const context = await host();
    await work(context, 140);
    await pruned(context);
    const atFloor = await ofFloor(context);
    const named = [...pageKeys(atFloor.pages)];
    const whole = await context.log.reader.pages.takeIn(atFloor, 'all');
    await target.put(checkpointKey(atFloor.seq), (await encodeCheckpoint(context.keys.logKey, whole))!);
    await prune(await host(), NOW);
    expect(await keysOf(target, CATALOGUE_PREFIX)).toEqual(expect.arrayContaining(named));
  }, 60_000);

  test('of which both copies are lost are done without, as long as the entries are there', async () => {
    const { target, backups, host, work } = await repository();
    await work(await host(), 70);
    const { pages } = (await host()).log.state;
    expect(pages.backups.length).toBeGreaterThan(1);
    for (const key of await keysOf(target, CATALOGUE_PREFIX)) await target.delete(key);
    await backups.check(await host());
  }, 60_000);

  test('of which both copies are lost, and the entries too, are damage that is reported', async () => {
    const { target, host, work, pruned } = await repository();
    const context = await host();
    await work(context, 140);
    await pruned(context);
    for (const key of await keysOf(target, CATALOGUE_PREFIX)) await target.delete(key);
    const opened = await host();
    // No other object is named: the checkpoint of the floor is sound.
    const named = { code: 'LOG_CORRUPT', message: expect.stringContaining('page catalogue/') };
    for (let nth = 0; nth < 2; nth++) await expect(opened.log.withPages('all')).rejects.toMatchObject(named);
  }, 60_000);
});
