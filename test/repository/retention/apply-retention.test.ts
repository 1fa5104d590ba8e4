import { describe, expect, test } from 'vitest';
import { decideOpen } from '../../../src/repository/log/sessions.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import { applyRetention } from '../../../src/repository/retention/apply-retention.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import { MemoryTarget } from '../../../src/target/memory-target.ts';
import { objectsOf, withCode } from '../log/support/hosts.ts';
import { Backups, type Content, freshBlock, openHost, packsOf, secrets, totalOf } from '../prune/support/repository.ts';

const DAY_MS = 86_400_000;
const START = Date.UTC(2026, 0, 1, 12);

/** So many daily backups of each volume, each with half of its blocks new. */
async function dailyBackups(days: number, volumes = ['a', 'b']) {
  const target = new MemoryTarget();
  const secret = secrets(true);
  const context = await openHost(target, secret);
  const backups = new Backups();
  const ids = new Map<string, string[]>();
  for (const volume of volumes) {
    let content: Content = Array.from({ length: 40 }, freshBlock);
    ids.set(volume, []);
    for (let day = 0; day < days; day++) {
      content = content.map((bytes, block) => (block % 2 === day % 2 ? freshBlock() : bytes));
      ids.get(volume)!.push(await backups.store(context, content, { volume, frozenAt: START + day * DAY_MS }));
    }
  }
  return { target, secret, context, backups, ids };
}

describe('applying a retention policy', () => {
  test('forgets what no rule keeps, each volume by itself, in one entry', async () => {
    const { context, backups, ids } = await dailyBackups(5);
    const { seq } = context.log.state;
    const { kept, forgotten, freeableBytes } = await applyRetention(context, { keepLast: 2 });
    expect(kept.map(({ id }) => id).sort()).toEqual([...ids.values()].flatMap((each) => each.slice(-2)).sort());
    expect(forgotten.length).toBe(6);
    expect(freeableBytes).toBeUndefined();
    expect(context.log.state.seq).toBe(seq + 1);
    expect([...context.log.state.backups.keys()].sort()).toEqual(kept.map(({ id }) => id).sort());
    await applyRetention(context, { keepLast: 2 });
    expect(context.log.state.seq).toBe(seq + 1); // Nothing to forget, nothing said.
    await prune(context, { graceMs: 0 });
    await backups.check(context);
  });

  test('of one volume leaves the others alone', async () => {
    const { context, ids } = await dailyBackups(3);
    const { kept, forgotten } = await applyRetention(context, { keepLast: 1 }, { volume: 'a' });
    expect(kept.map(({ id }) => id)).toEqual(ids.get('a')!.slice(-1));
    expect(forgotten.map(({ id }) => id).sort()).toEqual(ids.get('a')!.slice(0, 2).sort());
    expect([...context.log.state.backups.values()].filter(({ volume }) => volume === 'b').length).toBe(3);
  });

  test('dry, writes nothing and tells what pruning would free', async () => {
    const { target, context, backups } = await dailyBackups(4, ['a']);
    await prune(context, { graceMs: 0 });
    const before = await objectsOf(target);
    const told = await applyRetention(context, { keepDaily: 1 }, { dryRun: true });
    expect(await objectsOf(target)).toEqual(before);
    expect(told.forgotten.length).toBe(3);
    expect(told.freeableBytes).toBeGreaterThan(20 * 4096);
    const size = totalOf(await packsOf(target));
    await applyRetention(context, { keepDaily: 1 });
    const { freedBytes } = await prune(context, { graceMs: 0, repackBelow: 0 });
    expect(freedBytes).toBe(told.freeableBytes);
    expect(totalOf(await packsOf(target))).toBe(size - freedBytes);
    await backups.check(context);
  });

  test('dry, does not count what a backup under way builds on', async () => {
    const { context } = await dailyBackups(3, ['a']);
    await prune(context, { graceMs: 0 });
    const { freeableBytes } = await applyRetention(context, { keepLast: 1 }, { dryRun: true });
    const [base] = [...context.log.state.backups.keys()];
    const volumes = new Map([['a', base]]);
    await context.log.append((state) => decideOpen(state, { owner: 'host', volumes }));
    const under = await applyRetention(context, { keepLast: 1 }, { dryRun: true });
    expect(under.forgotten.length).toBe(2);
    expect(under.freeableBytes).toBeLessThan(freeableBytes as number);
  });

  test('decides on the newest state: what others forgot or committed meanwhile counts', async () => {
    const { target, secret, context, ids } = await dailyBackups(3, ['a']);
    const other = await openHost(target, secret);
    await forgetBackups(other, [ids.get('a')![0] as string]);
    const backups = new Backups();
    const added = await backups.store(other, [freshBlock()], { volume: 'b', frozenAt: START });
    const { kept, forgotten } = await applyRetention(context, { keepLast: 1 });
    expect(forgotten.map(({ id }) => id)).toEqual([ids.get('a')![1]]);
    expect(kept.map(({ id }) => id)).toContain(added);
  });

  test('refuses a policy that keeps nothing, and a repository that is read only', async () => {
    const { context } = await dailyBackups(1, ['a']);
    await expect(applyRetention(context, {})).rejects.toThrow(TypeError);
    await expect(applyRetention(context, {}, { dryRun: true })).rejects.toThrow(TypeError);
    const readOnly = { ...context, readOnly: true };
    await expect(applyRetention(readOnly, { keepLast: 1 })).rejects.toEqual(withCode('READ_ONLY'));
    await expect(forgetBackups(readOnly, ['00'.repeat(16)])).rejects.toEqual(withCode('READ_ONLY'));
    expect((await applyRetention(readOnly, { keepLast: 1 }, { dryRun: true })).freeableBytes).toBe(0);
  });
});

describe('forgetting', () => {
  test('takes all of the backups or none', async () => {
    const { context, ids } = await dailyBackups(2, ['a']);
    const [first] = ids.get('a') as [string, string];
    await expect(forgetBackups(context, [first, '11'.repeat(16)])).rejects.toEqual(withCode('BACKUP_NOT_FOUND'));
    expect(context.log.state.backups.size).toBe(2);
    const { seq } = context.log.state;
    await forgetBackups(context, []);
    expect(context.log.state.seq).toBe(seq);
    await forgetBackups(context, [first, first]);
    expect(context.log.state.backups.size).toBe(1);
  });
});
