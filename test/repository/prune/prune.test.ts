import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { dropSession, holdSession, ownerName, SessionClaim } from '../../../src/repository/backup/session-owner.ts';
import { openMap, type RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { EMPTY_STATE } from '../../../src/repository/format/log-state.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { decideOpen } from '../../../src/repository/log/entries/sessions.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import type { PruneOptions } from '../../../src/repository/prune/prune-options.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import type { CloudTarget, GetOptions, ObjectInfo } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { type Fault, scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { SWEEPS_ALL } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import { objectsOf, targetOf } from '../log/support/hosts.ts';
import { Backups, type Content, freshBlock, openHost, packsOf, secrets, totalOf } from './support/repository.ts';

const DAY_MS = 86_400_000;
const NO_REPACK: PruneOptions = { repackBelow: 0 };
const AT_ONCE: PruneOptions = { graceMs: 0, repackBelow: 0 };

/** A volume of so many blocks, every fifth of zeroes. */
const volume = (blocks: number): Content =>
  Array.from({ length: blocks }, (_, block) => (block % 5 === 4 ? undefined : freshBlock()));

/** Another version of it, in which these blocks are different. */
const changed = (content: Content, blocks: Iterable<number>): Content => {
  const next = [...content];
  for (const block of blocks) next[block] = freshBlock();
  return next;
};

const every = (step: number, blocks: number, from = 0): number[] =>
  Array.from({ length: Math.ceil((blocks - from) / step) }, (_, index) => from + index * step);

/** A clock that stands still until it is moved. */
class Clock {
  at = 1_800_000_000_000;
  readonly now = () => this.at;
}

/** A store that says of some objects that they are locked, and refuses to delete those. */
class LockingTarget extends ForwardingTarget {
  readonly locks = new Map<string, Date>();
  readonly #clock: Clock;
  readonly #listsLocks: boolean;

  constructor(inner: CloudTarget, clock: Clock, listsLocks: boolean) {
    super(inner, 'this LockingTarget');
    this.#clock = clock;
    this.#listsLocks = listsLocks;
  }

  protected override async *forwardList(prefix: string): AsyncGenerator<ObjectInfo> {
    for await (const info of this.inner.list(prefix)) yield this.#listsLocks ? this.#withLock(info) : info;
  }

  protected override async forwardStat(key: string): Promise<ObjectInfo | undefined> {
    const info = await this.inner.stat(key);
    return info && this.#withLock(info);
  }

  protected override async forwardDelete(key: string): Promise<void> {
    const until = this.locks.get(key);
    if (until !== undefined && until.getTime() > this.#clock.at)
      throw new BackupError('PERMISSION_DENIED', `${key} is locked`);
    await this.inner.delete(key);
  }

  protected override async forwardDeleteMany(keys: readonly string[]): Promise<void> {
    for (const key of keys) await this.forwardDelete(key);
  }

  #withLock(info: ObjectInfo): ObjectInfo {
    const retainUntil = this.locks.get(info.key);
    return retainUntil === undefined ? info : { ...info, retainUntil };
  }
}

/** Three backups of a volume, the first two of which are forgotten. */
async function forgottenHistory(context: RepositoryContext, backups: Backups): Promise<Content> {
  const first = volume(60);
  const second = changed(first, every(2, 60));
  const third = changed(second, every(2, 60));
  const ids = [await backups.store(context, first), await backups.store(context, second)];
  await backups.store(context, third);
  await forgetBackups(context, ids);
  return third;
}

describe.each([{ isEncrypted: false }, { isEncrypted: true }])('encrypted: $isEncrypted', ({ isEncrypted }) => {
  test('what no backup needs is condemned by one run and deleted by one after the grace', async () => {
    const clock = new Clock();
    const target = new MemoryTarget({ now: clock.now });
    const context = await openHost(target, secrets(isEncrypted), { now: clock.now });
    const backups = new Backups();
    await forgottenHistory(context, backups);
    const before = await packsOf(target);
    const first = await prune(context, NO_REPACK);
    expect(first).toMatchObject({ freedBytes: 0, deletedObjects: 0, waitingBytes: first.condemnedBytes });
    expect(first.condemnedPacks).toBeGreaterThan(0);
    expect(await packsOf(target)).toEqual(before);
    clock.at += DAY_MS - 1;
    expect(await prune(context, NO_REPACK)).toMatchObject({ freedBytes: 0, condemnedBytes: 0 });
    clock.at += 1;
    const last = await prune(context, NO_REPACK);
    expect(last).toMatchObject({
      freedBytes: first.condemnedBytes,
      deletedObjects: first.condemnedPacks,
      waitingBytes: 0,
    });
    expect(totalOf(before) - totalOf(await packsOf(target))).toBe(first.condemnedBytes);
    await backups.check(context);
    // The log need not remember deleted packs.
    await prune(context, NO_REPACK);
    expect(context.log.state.condemned.size).toBe(0);
    const { seq } = context.log.state;
    await prune(context, NO_REPACK);
    expect(context.log.state.seq).toBe(seq); // Nothing to say, so nothing was said.
  });

  test('without a grace it is one run, and everything that is kept reads back', async () => {
    const target = new MemoryTarget();
    const context = await openHost(target, secrets(isEncrypted));
    const backups = new Backups();
    const content = await forgottenHistory(context, backups);
    const before = totalOf(await packsOf(target));
    const result = await prune(context, AT_ONCE);
    expect(result.freedBytes).toBeGreaterThan(0);
    expect(totalOf(await packsOf(target))).toBe(before - result.freedBytes);
    await backups.check(context);
    await backups.store(context, changed(content, [3])); // The chain goes on.
    await backups.check(context);
  });
});

describe('pruning', () => {
  async function forgotten(options: { clock?: Clock; target?: CloudTarget } = {}) {
    const { clock = new Clock() } = options;
    const { target = new MemoryTarget({ now: clock.now }) } = options;
    const secret = secrets(false);
    const context = await openHost(target, secret, { now: clock.now });
    const backups = new Backups();
    const content = await forgottenHistory(context, backups);
    return { clock, target, secret, context, backups, content };
  }

  test('dry, reports what it would do, and neither writes nor deletes', async () => {
    const { target, secret, backups, clock } = await forgotten();
    const counting = new FaultyTarget(target, scriptedFaults([]));
    const context = await openHost(counting, secret, { now: clock.now });
    const before = await objectsOf(target);
    const options = { repackBelow: 0.9, minRepackGainBytes: 0 };
    const reported = await prune(context, { ...options, dryRun: true });
    expect(await objectsOf(target)).toEqual(before);
    for (const operation of ['put', 'delete', 'deleteMany'] as const) expect(counting.callCount(operation)).toBe(0);
    expect(reported.repackedPacks).toBeGreaterThan(0);
    const done = await prune(context, options);
    expect(done).toMatchObject({
      condemnedBytes: reported.condemnedBytes,
      repackedPacks: reported.repackedPacks,
      freedBytes: 0,
    });
    clock.at += DAY_MS;
    expect((await prune(context, { ...NO_REPACK, dryRun: true })).freedBytes).toBe(done.condemnedBytes);
    expect((await prune(context, NO_REPACK)).freedBytes).toBe(done.condemnedBytes);
    await backups.check(context);
  });

  test.each([{ listsLocks: true }, { listsLocks: false }])(
    'leaves what is locked, lists say so: $listsLocks',
    async ({ listsLocks }) => {
      const clock = new Clock();
      const target = new LockingTarget(new MemoryTarget({ now: clock.now }), clock, listsLocks);
      const { context, backups } = await forgotten({ clock, target });
      for (const key of (await packsOf(target)).keys()) target.locks.set(key, new Date(clock.at + 2 * DAY_MS));
      const before = await packsOf(target);
      const repacking: PruneOptions = { graceMs: 0, repackBelow: 1, minRepackGainBytes: 0, checkLocks: !listsLocks };
      expect(await prune(context, repacking)).toMatchObject({ freedBytes: 0, repackedPacks: 0 });
      clock.at += DAY_MS;
      expect(await prune(context, repacking)).toMatchObject({ freedBytes: 0, repackedPacks: 0 });
      expect(await packsOf(target)).toEqual(before);
      clock.at += DAY_MS;
      expect((await prune(context, AT_ONCE)).freedBytes).toBeGreaterThan(0);
      await backups.check(context);
    },
  );

  test('marks what each record names at its own place, though another has the same id', async () => {
    const target = new MemoryTarget();
    const secret = secrets(false);
    const context = await openHost(target, secret);
    const backups = new Backups();
    const content = volume(60);
    const twins = ['a', 'b', 'c'];
    // Equal maps have equal ids; the blocks of each were stored by themselves.
    for (const each of twins) await backups.store(context, content, { volume: each });
    const known = new Map<string, Uint8Array>();
    const { records } = context;
    const read = records.read.bind(records);
    // A reader may keep records by their ids.
    records.read = async (kind, id, location, options) => {
      const key = `${kind} ${Buffer.from(id).toString('hex')}`;
      const raw = known.get(key) ?? (await read(kind, id, location, options));
      known.set(key, raw);
      return raw;
    };
    await backups.check(context);
    await prune(context, { graceMs: 0, repackBelow: 1, minRepackGainBytes: 0 });
    await backups.check(await openHost(target, secret));
    const ids = [...context.log.state.backups.keys()];
    await forgetBackups(context, ids.slice(0, 2));
    await prune(context, { graceMs: 0, repackBelow: 1, minRepackGainBytes: 0 });
    await backups.check(await openHost(target, secret));
  });

  test('reads what backups share once', async () => {
    const target = new MemoryTarget();
    const secret = secrets(true);
    const writer = await openHost(target, secret);
    const backups = new Backups();
    let content = volume(400);
    await backups.store(writer, content);
    for (let version = 0; version < 30; version++) {
      content = changed(content, [version, 399 - version]);
      await backups.store(writer, content);
    }
    const runs = [...writer.log.state.backups.values()].flatMap(({ descriptor }) => descriptor.runs.flat());
    const different = new Set(runs.map(({ location }) => `${packKey(location.pack)} ${location.offset}`));
    expect(runs.length).toBeGreaterThan(2 * different.size);
    const counting = new FaultyTarget(target, scriptedFaults([]));
    const context = await openHost(counting, secret);
    const opened = counting.callCount();
    await prune(context, { ...NO_REPACK, dryRun: true });
    // The log, two listings, runs, the first tree and what was folded into it.
    expect(counting.callCount() - opened).toBeLessThan(different.size + 60);
  });

  test('does not delete a pack that a live map names, even if it was condemned', async () => {
    const { context, backups, target } = await forgotten();
    const [backup] = [...context.log.state.backups.values()];
    const map = openMap(context, backup!.descriptor);
    const [entry] = (await map.lookup(1, 1)).entries;
    const { pack } = entry!.location;
    const nothing = {
      sessions: [],
      fence: [],
      relocate: [],
      newPacks: [],
      gonePacks: [],
      goneSessions: [],
      redated: [],
    };
    await context.log.append(() => ({ type: 'collect', session: undefined, packs: [pack], ...nothing })); // A collector gone wrong.
    const result = await prune(context, AT_ONCE);
    expect(result.deletedObjects).toBeGreaterThan(0);
    expect(result.waitingBytes).toBe((await packsOf(target)).get(packKey(pack)));
    await backups.check(context);
  });

  test('needs a repository that may be written, unless it is dry', async () => {
    const { context } = await forgotten();
    const readOnly = { ...context, readOnly: true };
    await expect(prune(readOnly)).rejects.toEqual(withCode('READ_ONLY'));
    expect((await prune(readOnly, { dryRun: true })).condemnedBytes).toBeGreaterThan(0);
    await expect(prune(context, { graceMs: -1 })).rejects.toThrow(TypeError);
    await expect(prune(context, { repackBelow: 2 })).rejects.toThrow(TypeError);
  });

  test('two at once condemn and delete as one does', async () => {
    const { target, secret, backups, clock } = await forgotten();
    const hosts = await Promise.all(
      [1, 2].map((host) => openHost(target, secret, { now: clock.now, owner: `host ${host}` })),
    );
    const options = { graceMs: 0, repackBelow: 0.9, minRepackGainBytes: 0 };
    await Promise.all(hosts.map((context) => prune(context, options)));
    for (const context of hosts) await backups.check(context);
    const alone = await openHost(target, secret, { now: clock.now });
    await prune(alone, options);
    expect((await prune(alone, { ...options, dryRun: true })).condemnedBytes).toBe(0);
    await backups.check(alone);
  });

  test('a commit between marking and condemning is marked too', async () => {
    const { target, secret, context: writer, backups, content, clock } = await forgotten();
    let isDone = false;
    const context = await openHost(target, secret, { now: clock.now });
    const log = context.log;
    const append = log.append.bind(log);
    let conflicts = 0;
    log.append = async (...args) => {
      if (!isDone) {
        isDone = true;
        await backups.store(writer, changed(content, [7, 8, 21]));
      }
      try {
        return await append(...args);
      } catch (error) {
        if (BackupError.is(error, 'OBJECT_CONFLICT')) conflicts++;
        throw error;
      }
    };
    await prune(context, AT_ONCE);
    expect(conflicts).toBe(1);
    await backups.check(context);
  });

  test('leaves the packs of a backup under way alone, and takes them once it was given up', async () => {
    const clock = new Clock();
    const target = new MemoryTarget({ now: clock.now });
    const secret = secrets(false);
    const pruner = await openHost(target, secret, { now: clock.now, owner: 'pruner/0/x' });
    const writer = await openHost(target, secret, { now: clock.now, owner: 'writer/0/x' });
    const backups = new Backups();
    const content = volume(30);
    await backups.store(writer, content);
    const settled = totalOf(await packsOf(target));
    const died = new Error('the host died');
    const dying = backups.store(writer, changed(content, every(1, 30)), {
      between: async (step) => {
        if (step === 'opened') return;
        await prune(pruner, AT_ONCE);
        throw died;
      },
    });
    await expect(dying).rejects.toBe(died);
    const orphaned = totalOf(await packsOf(target)) - settled;
    expect(orphaned).toBeGreaterThan(30 * 4096 * 0.9);
    expect(await prune(pruner, AT_ONCE)).toMatchObject({ fencedSessions: 0, condemnedBytes: 0 });
    clock.at += 30 * DAY_MS;
    // P6: fencing is one collection, condemning another, and the host has a day to come back.
    expect(await prune(pruner, AT_ONCE)).toMatchObject({ fencedSessions: 1, condemnedBytes: 0 });
    expect(await prune(pruner, AT_ONCE)).toMatchObject({ fencedSessions: 0, condemnedBytes: 0 });
    clock.at += DAY_MS;
    expect(await prune(pruner, AT_ONCE)).toMatchObject({ condemnedBytes: orphaned, freedBytes: orphaned });
    await backups.check(pruner);
  });

  test('what lands late is deleted by a later run', async () => {
    const { context, target, secret, clock } = await forgotten();
    await prune(context, AT_ONCE);
    const condemned = [...context.log.state.condemned.keys()][0] as string;
    await target.put(condemned, new Uint8Array(100)); // A PUT that was given up on, weeks ago.
    const other = await openHost(target, secret, { now: clock.now });
    expect((await prune(other, AT_ONCE)).deletedObjects).toBe(1);
    expect((await packsOf(target)).has(condemned)).toBe(false);
    await prune(other, AT_ONCE);
    await target.put(condemned, new Uint8Array(100)); // Later still, when nobody remembers the name.
    expect((await prune(other, AT_ONCE)).deletedObjects).toBe(1);
    expect((await packsOf(target)).has(condemned)).toBe(false);
  });

  test('deletes probes that are older than a day, and nothing that it does not know', async () => {
    const { context, target, clock } = await forgotten();
    await target.put('probe/0123', new Uint8Array(3));
    await target.put('packs/readme', new Uint8Array(3));
    await prune(context, AT_ONCE);
    expect(await target.stat('probe/0123')).toBeDefined();
    clock.at += DAY_MS;
    await prune(context, AT_ONCE);
    expect(await target.stat('probe/0123')).toBeUndefined();
    expect(await target.stat('packs/readme')).toBeDefined();
  });

  test('reports its progress, and ends when it is aborted', async () => {
    const { context, backups } = await forgotten();
    const phases: string[] = [];
    const abort = new AbortController();
    const reason = new Error('enough');
    const onProgress = ({ phase }: { phase: string }) => {
      if (phases.at(-1) !== phase) phases.push(phase);
      if (phase === 'condemning') abort.abort(reason);
    };
    await expect(prune(context, { ...AT_ONCE, onProgress, signal: abort.signal })).rejects.toBe(reason);
    expect(phases).toEqual(['listing', 'marking', 'condemning']);
    await prune(context, AT_ONCE);
    await backups.check(context);
  });

  test('leaves bases alone that were forgotten under a backup that builds on them', async () => {
    const { context: pruner, target, secret, content, backups, clock } = await forgotten();
    const writer = await openHost(target, secret, { now: clock.now });
    const [base] = [...writer.log.state.backups.keys()];
    await backups.store(writer, changed(content, [1]), {
      between: async () => {
        if (pruner.log.state.backups.has(base as string)) await forgetBackups(pruner, [base as string]);
        await prune(pruner, AT_ONCE);
      },
    });
    await prune(pruner, AT_ONCE);
    await backups.check(pruner);
  });
});

describe('a session that no process holds', () => {
  const settledOwner = () => {
    const claim = new SessionClaim(ownerName(), new Uint8Array(16));
    const owner = claim.ownerOn(EMPTY_STATE);
    claim.settle();
    return owner;
  };

  test('of this process is aborted; what this process is at goes on, however long it takes', async () => {
    const clock = new Clock();
    const secret = secrets(false);
    const context = await openHost(new MemoryTarget({ now: clock.now }), secret, { now: clock.now });
    const plan = { owner: settledOwner(), volumes: new Map([['disk', undefined]]) };
    const opened = await context.log.append((state) => decideOpen(state, plan));
    holdSession(secret.repositoryId, opened!.entry.seq);
    clock.at += 400 * DAY_MS;
    expect(await prune(context, AT_ONCE)).toMatchObject({ fencedSessions: 0 });
    expect([...context.log.state.sessions.keys()]).toEqual([opened!.entry.seq]);
    dropSession(secret.repositoryId, opened!.entry.seq);
    await prune(context, AT_ONCE);
    expect(context.log.state.sessions.size).toBe(0);
  });

  test('a dead repacker of this process is aborted at once, and what it had stored goes', async () => {
    const target = new MemoryTarget();
    const context = await openHost(target, secrets(false));
    const plan = {
      owner: settledOwner(),
      volumes: new Map<string, string | undefined>(),
    };
    const opened = await context.log.append((state) => decideOpen(state, plan));
    const pack = { session: opened!.entry.seq, random: 'ab'.repeat(16) };
    await target.put(packKey(pack), new Uint8Array(50));
    expect(await prune(context, AT_ONCE)).toMatchObject({ condemnedBytes: 50, freedBytes: 50 });
    expect(context.log.state.sessions.size).toBe(0);
  });
});

describe('what was deleted by others while it was being read', () => {
  test('is marked anew, and nothing that is shared with it is overlooked', async () => {
    const secret = secrets(false);
    const origin = new MemoryTarget();
    const backups = new Backups();
    const writer = await openHost(origin, secret);
    let content = volume(60);
    for (let version = 0; version < 4; version++) {
      await backups.store(writer, content, { packBytes: 6000 }); // A map's parts stand apart.
      content = changed(content, every(10, 60, version));
    }
    await forgetBackups(writer, [...writer.log.state.backups.keys()].slice(0, 1));
    const objects = await objectsOf(origin);
    const plan = { owner: 'host', volumes: new Map<string, string | undefined>() };
    const options: PruneOptions = { graceMs: 0, repackBelow: 0.9, minRepackGainBytes: 0, packBytes: 60_000 };
    for (let nth = 1, isOver = false; !isOver; nth++) {
      const target = await targetOf(objects);
      const other = await openHost(target, secret);
      let gets = 0;
      class Missing extends ForwardingTarget {
        protected override async forwardGet(key: string, get: GetOptions): Promise<Uint8Array> {
          // Twice, because a reader checks once whether the pack was repacked.
          if (key.startsWith('packs/') && (++gets === nth || gets === nth + 1)) {
            await other.log.append((state) => decideOpen(state, plan));
            throw new BackupError('OBJECT_NOT_FOUND', `${key} is gone`);
          }
          return this.inner.get(key, get);
        }
      }
      const context = await openHost(new Missing(target, 'this target'), secret);
      const result = await prune(context, options);
      expect(result.repackError).toBeUndefined();
      isOver = gets < nth;
      await backups.check(other);
    }
  });
});

describe('whatever request fails', () => {
  const KINDS: readonly Fault['kind'][] = ['fail-before', 'fail-after'];

  test.each([{ repackBelow: 0 }, { repackBelow: 0.9 }])(
    'pruning leaves a good repository, repacking below $repackBelow',
    async ({ repackBelow }) => {
      const clock = new Clock();
      const secret = secrets(false);
      const origin = new MemoryTarget({ now: clock.now });
      const backups = new Backups();
      await forgottenHistory(await openHost(origin, secret, { now: clock.now }), backups);
      const objects = await objectsOf(origin);
      const options: PruneOptions = { graceMs: 0, repackBelow, minRepackGainBytes: 0, packBytes: 60_000 };
      let failures = 0;
      // Every request with `COW_TEST_SWEEP=all`, by default every third.
      for (let call = 1, isOver = false; !isOver; call += SWEEPS_ALL ? 1 : 3) {
        for (const kind of KINDS) {
          const target = await targetOf(objects);
          const context = await openHost(target, secret, { now: clock.now });
          let calls = Number.NEGATIVE_INFINITY; // Opening does not count.
          const plan = { next: () => (++calls === call ? ({ kind } as Fault) : undefined) };
          const failing = await openHost(new FaultyTarget(target, plan), secret, { now: clock.now });
          calls = 0;
          await prune(failing, options).catch((error: unknown) => {
            failures++;
            expect(BackupError.is(error), String(error)).toBe(true);
          });
          isOver = calls < call;
          await backups.check(context);
          for (let again = 0; again < 3; again++) await prune(context, options);
          await backups.check(context);
          const fresh = await openHost(target, secret, { now: clock.now });
          expect((await prune(fresh, { ...options, dryRun: true })).condemnedBytes, `call ${call}`).toBe(0);
          await backups.check(fresh);
        }
      }
      expect(failures).toBeGreaterThan(5);
    },
  );
});
