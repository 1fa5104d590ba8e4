import { describe, expect, test } from 'vitest';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { FEWEST_ENTRIES } from '../../../src/repository/log/checkpoint-due.ts';
import { decideOpen } from '../../../src/repository/log/entries/sessions.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import { type ApplyRetentionOptions, applyRetention } from '../../../src/repository/retention/apply-retention.ts';
import {
  forgetBackups,
  type HoldOptions,
  holdBackups,
  releaseBackups,
} from '../../../src/repository/retention/forget.ts';
import type { RetentionPolicy } from '../../../src/repository/retention/retention-policy.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { objectsOf } from '../log/support/hosts.ts';
import { Backups, type Content, freshBlock, openHost, packsOf, secrets, totalOf } from '../prune/support/repository.ts';

const DAY_MS = 86_400_000;
const ALL = { allVolumes: true } as const;
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
    const { kept, forgotten, freeableBytes } = await applyRetention(context, { keepLast: 2 }, ALL);
    expect(kept.map(({ id }) => id).sort()).toEqual([...ids.values()].flatMap((each) => each.slice(-2)).sort());
    expect(forgotten.length).toBe(6);
    expect(freeableBytes).toBeUndefined();
    expect(context.log.state.seq).toBe(seq + 1);
    expect([...context.log.state.backups.keys()].sort()).toEqual(kept.map(({ id }) => id).sort());
    await applyRetention(context, { keepLast: 2 }, ALL);
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

  test('dry, writes nothing and reports what pruning would free', async () => {
    const { target, context, backups } = await dailyBackups(4, ['a']);
    await prune(context, { graceMs: 0 });
    const before = await objectsOf(target);
    const reported = await applyRetention(context, { keepDaily: 1 }, { ...ALL, dryRun: true });
    expect(await objectsOf(target)).toEqual(before);
    expect(reported.forgotten.length).toBe(3);
    expect(reported.freeableBytes).toBeGreaterThan(20 * 4096);
    const size = totalOf(await packsOf(target));
    await applyRetention(context, { keepDaily: 1 }, ALL);
    const { freedBytes } = await prune(context, { graceMs: 0, repackBelow: 0 });
    expect(freedBytes).toBe(reported.freeableBytes);
    expect(totalOf(await packsOf(target))).toBe(size - freedBytes);
    await backups.check(context);
  });

  test('dry, does not count what a backup under way builds on', async () => {
    const { context } = await dailyBackups(3, ['a']);
    await prune(context, { graceMs: 0 });
    const { freeableBytes } = await applyRetention(context, { keepLast: 1 }, { ...ALL, dryRun: true });
    const [base] = [...context.log.state.backups.keys()];
    const volumes = new Map([['a', base]]);
    await context.log.append((state) => decideOpen(state, { owner: 'host', volumes }));
    const under = await applyRetention(context, { keepLast: 1 }, { ...ALL, dryRun: true });
    expect(under.forgotten.length).toBe(2);
    expect(under.freeableBytes).toBeLessThan(freeableBytes as number);
  });

  test('decides on the newest state: what others forgot or committed meanwhile counts', async () => {
    const { target, secret, context, ids } = await dailyBackups(3, ['a']);
    const other = await openHost(target, secret);
    await forgetBackups(other, [ids.get('a')![0] as string]);
    const backups = new Backups();
    const added = await backups.store(other, [freshBlock()], { volume: 'b', frozenAt: START });
    const { kept, forgotten } = await applyRetention(context, { keepLast: 1 }, ALL);
    expect(forgotten.map(({ id }) => id)).toEqual([ids.get('a')![1]]);
    expect(kept.map(({ id }) => id)).toContain(added);
  });

  test('refuses a policy that keeps nothing, and a repository that is read only', async () => {
    const { context } = await dailyBackups(1, ['a']);
    await expect(applyRetention(context, {}, ALL)).rejects.toThrow(TypeError);
    await expect(applyRetention(context, {}, { ...ALL, dryRun: true })).rejects.toThrow(TypeError);
    const readOnly = { ...context, readOnly: true };
    await expect(applyRetention(readOnly, { keepLast: 1 }, ALL)).rejects.toEqual(withCode('READ_ONLY'));
    await expect(forgetBackups(readOnly, ['00'.repeat(16)])).rejects.toEqual(withCode('READ_ONLY'));
    expect((await applyRetention(readOnly, { keepLast: 1 }, { ...ALL, dryRun: true })).freeableBytes).toBe(0);
  });
});

describe('order and worth', () => {
  /** Backups of one volume, frozen at these days by the clocks of their hosts, in the order of their commits. */
  async function committedAs(...days: number[]) {
    const target = new MemoryTarget();
    const context = await openHost(target, secrets(false), { now: () => START + 100 * DAY_MS });
    const backups = new Backups();
    const content: Content = Array.from({ length: 20 }, freshBlock);
    const ids: string[] = [];
    for (const [index, day] of days.entries()) {
      const next = content.map((bytes, block) => (block === index ? freshBlock() : bytes));
      ids.push(await backups.store(context, next, { volume: 'a', frozenAt: START + day * DAY_MS }));
    }
    const keptBy = async (policy: RetentionPolicy) => {
      const { kept } = await applyRetention(context, policy, { ...ALL, dryRun: true });
      return kept.map(({ id }) => ids.indexOf(id)).sort((a, b) => a - b);
    };
    return { target, context, backups, ids, keptBy };
  }

  test('the newest backup is kept after the clock was set back', async () => {
    const { keptBy } = await committedAs(1, 2, 3, -4000);
    expect(await keptBy({ keepLast: 1 })).toEqual([3]);
    expect(await keptBy({ keepLast: 2 })).toEqual([2, 3]);
    for (const policy of [{ keepDaily: 1 }, { keepYearly: 1 }, { keepWithin: 1 }])
      expect(await keptBy(policy)).toContain(3);
  });

  test('one from the future pushes no others out', async () => {
    const { keptBy } = await committedAs(1, 2, 3650, 3, 4);
    expect(await keptBy({ keepLast: 1 })).toEqual([4]);
    expect(await keptBy({ keepDaily: 3 })).toEqual([1, 3, 4]);
    expect(await keptBy({ keepWithin: 2 * DAY_MS })).toEqual([1, 2, 3, 4]);
  });

  test('a clock that is ten years ahead for the newest one does not put all others out of keepWithin', async () => {
    const { keptBy } = await committedAs(97, 98, 99, 3650);
    expect(await keptBy({ keepWithin: 3 * DAY_MS })).toEqual([0, 1, 2, 3]);
  });

  test('a clock that was put right for good makes no single period of what came before', async () => {
    const { keptBy } = await committedAs(365, 366, 367, 368, 1, 2, 3);
    expect(await keptBy({ keepDaily: 5 })).toEqual([2, 3, 4, 5, 6]);
  });

  test('of equal times the newest stays', async () => {
    const { keptBy } = await committedAs(5, 5, 5);
    expect(await keptBy({ keepLast: 1 })).toEqual([2]);
    expect(await keptBy({ keepDaily: 3 })).toEqual([2]);
  });

  test('a backup that needs a quarantined pack meets no rule, and stays until a whole newer one is there', async () => {
    const { context, backups, ids, keptBy } = await committedAs(1, 2);
    const newest = context.log.state.backups.get(ids[1]!)!;
    const older = context.log.state.backups.get(ids[0]!)!;
    const own = newest.session;
    expect(older.session).not.toBe(own);
    const pack = [...context.log.state.known.get(own)!.packs.keys()].map((random) => ({ session: own, random }));
    await context.log.append(() => ({ type: 'config', quarantine: pack, release: [] }));
    expect(await keptBy({ keepLast: 1 })).toEqual([0, 1]);
    await backups.store(context, Array.from({ length: 20 }, freshBlock), { volume: 'a', frozenAt: START + 3 * DAY_MS });
    const { kept } = await applyRetention(context, { keepLast: 1 }, ALL);
    expect(kept.length).toBe(1);
    expect(ids).not.toContain(kept[0]!.id);
  });

  test('a backup whose map is in a pack that is gone meets no rule, and holds nobody up', async () => {
    const { target, context, ids } = await committedAs(1, 2);
    const newest = context.log.state.backups.get(ids[1]!)!;
    const packs = [...context.log.state.known.get(newest.session)!.packs.keys()].map((random) => {
      return { session: newest.session, random };
    });
    for (const pack of packs) await target.delete(packKey(pack));
    await context.log.append(() => ({ type: 'config', quarantine: packs, release: [] }));
    const { kept } = await applyRetention(context, { keepLast: 1 }, ALL);
    expect(kept.map(({ id }) => id).sort()).toEqual(ids.toSorted());
  });

  test('is chosen anew when another host has appended to the log meanwhile', async () => {
    const { target, context, ids } = await committedAs(1, 2, 3);
    const other = await openHost(target, secrets(false));
    const { log } = context;
    let appended = 0;
    const racing = Object.create(log, {
      state: { get: () => log.state },
      append: {
        value: async (...parameters: Parameters<typeof log.append>) => {
          if (appended++ === 0) await forgetBackups(other, [ids[0]!]);
          return log.append(...parameters);
        },
      },
      catchUp: { value: (options: object) => log.catchUp(options) },
    });
    const { kept, forgotten } = await applyRetention({ ...context, log: racing }, { keepLast: 1 }, ALL);
    expect([kept, forgotten].map((each) => each.map(({ id }) => id))).toEqual([[ids[2]], [ids[1]]]);
    expect(appended).toBe(2);
  });

  test('the only whole backup stays although many broken ones are newer', async () => {
    const { context, ids } = await committedAs(1, 2, 3, 4);
    const { state } = context.log;
    const broken = new Map([...state.backups].map(([id, backup]) => [id, { ...backup, intact: id === ids[0] }]));
    const lossy = {
      ...context,
      log: Object.create(context.log, { catchUp: { value: async () => ({ ...state, backups: broken }) } }),
    };
    const { kept } = await applyRetention(lossy, { keepLast: 1 }, { volume: 'a', dryRun: true });
    expect(kept.map(({ id }) => id)).toEqual([...ids].reverse());
  });

  test('a mistyped name, or no word on whose backups are meant, forgets nothing', async () => {
    const { context, keptBy } = await committedAs(1, 2, 3);
    const call = (policy: unknown, options: unknown) =>
      applyRetention(context, policy as RetentionPolicy, options as ApplyRetentionOptions);
    const { seq } = context.log.state;
    await expect(call({ keepLast: 1 }, { ...ALL, dryrun: true })).rejects.toThrow('did you mean dryRun?');
    await expect(call({ keepLats: 1, keepDaily: 1 }, ALL)).rejects.toThrow('did you mean keepLast?');
    for (const options of [undefined, {}, { allVolumes: false }, { volume: 'a', allVolumes: true }, { volume: '' }]) {
      await expect(call({ keepLast: 1 }, options)).rejects.toThrow(TypeError);
    }
    for (const options of [
      { ...ALL, dryRun: 1 },
      { ...ALL, signal: {} },
      { allVolumes: 'yes' },
      new Map([['volume', 'a']]),
    ]) {
      await expect(call({ keepLast: 1 }, options)).rejects.toThrow(TypeError);
    }
    expect((await context.log.catchUp()).seq).toBe(seq);
    expect(await keptBy({ keepLast: 3 })).toEqual([0, 1, 2]);
  });
});

describe('holding', () => {
  test('keeps a backup from every policy and from forget, across a reopening, until it is released', async () => {
    const { target, secret, context, ids } = await dailyBackups(3, ['a']);
    const [first, second] = ids.get('a') as [string, string];
    await holdBackups(context, [first, first], { reason: 'audit' });
    const { seq } = context.log.state;
    await holdBackups(context, [first], { reason: 'audit' }); // It says so already.
    expect(context.log.state.seq).toBe(seq);
    const other = await openHost(target, secret);
    expect(other.log.state.backups.get(first)!.hold).toMatchObject({ reason: 'audit' });
    await expect(forgetBackups(other, [second, first])).rejects.toEqual(withCode('BACKUP_HELD'));
    await expect(forgetBackups(other, [first])).rejects.toThrow('audit');
    const { kept } = await applyRetention(other, { keepLast: 1 }, ALL);
    expect(kept.map(({ id }) => id)).toEqual([ids.get('a')![2], first]);
    await releaseBackups(other, [first]);
    await releaseBackups(other, [first]);
    await forgetBackups(other, [first]);
    expect(other.log.state.backups.size).toBe(1);
  });

  test('a checkpoint knows of it', async () => {
    const { target, secret, context, ids } = await dailyBackups(2, ['a']);
    const [first] = ids.get('a') as [string];
    await holdBackups(context, [first]);
    for (let n = 0; n < FEWEST_ENTRIES; n++) {
      await context.log.append(() => ({ type: 'keys', added: ['0123456789abcdef'], removed: [] }));
    }
    const other = await openHost(target, secret);
    expect(other.log.reader.checkpoint).toBeGreaterThan(0);
    expect(other.log.state.backups.get(first)!.hold).toEqual(context.log.state.backups.get(first)!.hold);
  });

  test('is not done to a backup that is not there, and not with a reason that is none', async () => {
    const { context, ids } = await dailyBackups(2, ['a']);
    const [first] = ids.get('a') as [string];
    await expect(holdBackups(context, [first, '11'.repeat(16)])).rejects.toEqual(withCode('BACKUP_NOT_FOUND'));
    expect(context.log.state.backups.get(first)!.hold).toBeUndefined();
    await expect(releaseBackups(context, ['11'.repeat(16)])).rejects.toEqual(withCode('BACKUP_NOT_FOUND'));
    for (const reason of ['', 7, 'x'.repeat(1025), '\ud800']) {
      await expect(holdBackups(context, [first], { reason } as HoldOptions)).rejects.toThrow(TypeError);
    }
    await expect(holdBackups(context, first as unknown as string[])).rejects.toThrow(TypeError);
    await expect(releaseBackups(context, [''])).rejects.toThrow(TypeError);
    await expect(forgetBackups(context, [first], { Signal: 1 } as object)).rejects.toThrow(TypeError);
    await expect(holdBackups({ ...context, readOnly: true }, [first])).rejects.toEqual(withCode('READ_ONLY'));
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
