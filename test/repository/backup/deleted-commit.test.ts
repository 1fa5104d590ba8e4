import { describe, expect, test, vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { headOf } from '../../../src/repository/format/log-state.ts';
import { parseLogKey } from '../../../src/repository/format/object-keys.ts';
import type { Decide } from '../../../src/repository/log/entries/decision.ts';
import type { LogWriter } from '../../../src/repository/log/log-writer.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { backup, collect, commit, open, pack } from '../log/support/facts.ts';
import { host } from '../log/support/hosts.ts';
import { growAndPrune, keysFact } from '../log/support/pruned-log.ts';
import { createIn, openIn, openVolume } from '../support/repositories.ts';

// Pages of a few rows.
vi.mock('../../../src/repository/log/pages/page-limits.ts', () => ({
  PAGE_LIMITS: { rows: 4, weight: 2 ** 20, looseWeight: 8000 },
}));

/** L2: what a backup learns of its commit whose entry was deleted before the answer came. */

/** Runs something once at the put of an entry, and then gives no answer. */
class SleepyTarget extends ForwardingTarget {
  beforePut: ((seq: number) => Promise<void>) | undefined;
  afterPut: ((seq: number) => Promise<'answers' | 'is silent'>) | undefined;

  constructor(inner: CloudTarget) {
    super(inner, 'this sleepy target');
  }

  protected override async forwardPut(...args: Parameters<CloudTarget['put']>) {
    const parsed = parseLogKey(args[0]);
    if (parsed?.kind !== 'entry') return await this.inner.put(...args);
    await this.beforePut?.(parsed.seq);
    const result = await this.inner.put(...args);
    if ((await this.afterPut?.(parsed.seq)) !== 'is silent') return result;
    throw new BackupError('TARGET_TIMEOUT', 'no answer', { retryable: true });
  }
}

interface World {
  readonly store: MemoryTarget;
  readonly target: SleepyTarget;
  readonly repository: BackupRepository;
  readonly other: LogWriter;
  readonly isInLog: () => Promise<boolean>;
}

async function sleepy(): Promise<World> {
  const store = new MemoryTarget();
  const target = new SleepyTarget(store);
  await (await createIn(store)).close();
  const repository = await openIn(target);
  const other = await host(store);
  return { store, target, repository, other, isInLog: async () => (await other.catchUp()).backups.size > 0 };
}

/** Calls `work` once, when the second entry of a backup, its commit, was put. */
function atCommit({ target }: World, work: (seq: number) => Promise<void>): void {
  let puts = 0;
  target.afterPut = async (seq) => {
    if (++puts !== 2) return 'answers';
    target.afterPut = undefined;
    await work(seq);
    return 'is silent';
  };
}

/** Another backup of a volume, of which the log has nothing else. */
async function commitNewer(log: LogWriter, volume: string): Promise<void> {
  await log.append(() => open({ [volume]: undefined }));
  const stored = pack(log.state.seq, 'a');
  const needs = { newest: [{ volume, count: 1 }] };
  const decide: Decide = (state) =>
    commit(stored.session, [backup(stored, { volume, parent: headOf(state, volume)?.id })], [stored]);
  await log.append(decide, { needs });
}

async function backUp({ repository }: World): Promise<unknown> {
  const { volume } = await openVolume(3);
  try {
    return await repository.backup(volume, { volume: 'disk', outageMs: 60_000 });
  } catch (error) {
    return error;
  }
}

describe('a commit whose entry was deleted before its writer heard of it', () => {
  test('is a success if the log has the backup', async () => {
    const world = await sleepy();
    atCommit(world, async () => void (await growAndPrune(world.store, world.other)));
    expect(await backUp(world)).toMatchObject({ intact: true });
    expect(await world.isInLog()).toBe(true);
  });

  test('is a success if newer backups have moved it into an older page', async () => {
    const world = await sleepy();
    atCommit(world, async () => {
      for (let n = 0; n < 30; n++) await commitNewer(world.other, 'disk');
      await growAndPrune(world.store, world.other);
    });
    expect(await backUp(world)).toMatchObject({ intact: true });
    expect(await Array.fromAsync(world.repository.listBackups())).toHaveLength(31);
  });

  test('is unknown if the log has neither its session nor the backup', async () => {
    const world = await sleepy();
    atCommit(world, async () => {
      const { backups } = await world.other.catchUp();
      await world.other.append(() => ({ type: 'forget', backups: [...backups.keys()] }));
      await growAndPrune(world.store, world.other);
    });
    expect(await backUp(world)).toEqual(withCode('COMMIT_UNKNOWN'));
  });

  test('is a success although a stray at its number says that the session was fenced', async () => {
    const world = await sleepy();
    const sleeper = await host(world.store);
    atCommit(world, async (seq) => {
      await growAndPrune(world.store, world.other);
      // It has read the log up to the entry before, and follows from that.
      await sleeper.append(() => collect({ fence: [seq - 1] }), { lookFirst: false, confirm: false });
      expect(sleeper.state.seq).toBe(seq);
    });
    let puts = 0;
    world.target.beforePut = async () => {
      if (++puts === 2) await sleeper.catchUp();
    };
    expect(await backUp(world)).toMatchObject({ intact: true });
    expect(await world.isInLog()).toBe(true);
  });
});

describe('a backup whose session was opened at a number that was deleted', () => {
  test.each([
    ['its commit was created at one, too', () => false, 'COMMIT_UNKNOWN'],
    ['no commit of it was ever there', (seq: number) => seq % 2 === 0, 'SESSION_ENDED'],
  ])('fails, and leaves nothing in the log; the next one succeeds: %s', async (_how, leave, code) => {
    const world = await sleepy();
    await growAndPrune(world.store, world.other, 100, leave);
    expect(await backUp(world)).toEqual(withCode(code));
    expect(await world.isInLog()).toBe(false);
    expect(await backUp(world)).toMatchObject({ intact: true });
    expect(await world.isInLog()).toBe(true);
  });

  test('L6: does not commit in the session of another, which has its number', async () => {
    const world = await sleepy();
    const { seq } = world.other.state;
    await world.other.append(() => open());
    await growAndPrune(world.store, world.other);
    expect(world.other.state.sessions.has(seq + 1)).toBe(true);
    expect(await backUp(world)).toEqual(withCode('COMMIT_UNKNOWN'));
    await world.other.catchUp();
    expect(world.other.state.sessions.has(seq + 1)).toBe(true);
    expect(await world.isInLog()).toBe(false);
  });

  test('does not happen to a process that knows of others and was idle for long: it looks first', async () => {
    const world = await sleepy();
    await world.other.append(() => keysFact(7_000_000));
    await Array.fromAsync(world.repository.listBackups());
    await growAndPrune(world.store, world.other);
    vi.useFakeTimers({ now: Date.now() + 3_600_000, toFake: ['Date'] });
    try {
      expect(await backUp(world)).toMatchObject({ intact: true });
    } finally {
      vi.useRealTimers();
    }
  });
});

test('a sleeping collector deletes nothing because of an entry that is not in the log', async () => {
  const world = await sleepy();
  expect(await backUp(world)).toMatchObject({ intact: true });
  const state = await world.other.catchUp();
  const sleeper = await host(world.store);
  await growAndPrune(world.store, world.other);
  let asked = 0;
  // As `prune` does: only on the state that was marked.
  const appended = sleeper.append(
    (now) => {
      asked++;
      return now.seq === state.seq
        ? collect({ sessions: [], fence: [] })
        : new BackupError('OBJECT_CONFLICT', 'gone on');
    },
    { lookFirst: false },
  );
  await expect(appended).rejects.toEqual(withCode('OBJECT_CONFLICT'));
  expect(asked).toBe(2);
  await world.other.append(() => keysFact(6_000_000));
});
