import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { openMap, type RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { packKey, RESERVE_KEY } from '../../../src/repository/format/object-keys.ts';
import { decideOpen } from '../../../src/repository/log/entries/sessions.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import type { PruneOptions } from '../../../src/repository/prune/prune-options.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { RESERVED } from '../../../src/targets/file/object-path.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { QuotaTarget } from '../../support/quota-target.ts';
import { withCode } from '../../support/with-code.ts';
import { packUsage } from '../map/support/map-nodes.ts';
import { createIn, openIn, openVolume } from '../support/repositories.ts';
import { Backups, type Content, freshBlock, openHost, packsOf, secrets } from './support/repository.ts';

/** What stores, clocks and other programs do to a prune at the worst moment. */

const DAY_MS = 86_400_000;
const AT_ONCE: PruneOptions = { graceMs: 0, repackBelow: 0 };
const MERGE: PruneOptions = { graceMs: 0, repackBelow: 0.9, minRepackGainBytes: 0, packBytes: 40_000 };

const changed = (content: Content, isChanged: (block: number) => boolean): Content =>
  content.map((bytes, block) => (isChanged(block) ? freshBlock() : bytes));

describe('the clock of a store', () => {
  /** A session under way, something condemned an hour ago, and the store's clock that `shown` changes. */
  async function world() {
    const store = { at: 1_800_000_000_000, aheadMs: 0, answers: [] as number[] };
    const target = new MemoryTarget({ now: () => store.at + store.aheadMs });
    const storeTime = target.storeTime.bind(target);
    target.storeTime = async (options) => {
      const time = await storeTime(options);
      return new Date(time.getTime() + (store.answers.shift() ?? 0));
    };
    const secret = secrets(false);
    const backups = new Backups();
    const writer = await openHost(target, secret, { now: () => store.at, owner: 'writer/1/x' });
    const pruner = () => openHost(target, secret, { now: () => store.at, owner: 'pruner/1/y' });
    const id = await backups.store(writer, Array.from({ length: 20 }, freshBlock));
    await forgetBackups(writer, [id]);
    expect((await prune(await pruner(), { repackBelow: 0 })).condemnedPacks).toBeGreaterThan(0);
    const volumes = new Map([['other', undefined]]);
    const opened = await writer.log.append((state) => decideOpen(state, { owner: writer.owner, volumes }));
    store.at += 3_600_000;
    return { store, target, pruner, writer, session: opened!.entry.seq };
  }

  test('of one server that is ahead fences nobody and frees nothing early, whichever answer it gives', async () => {
    for (const answers of [[10 * 365 * DAY_MS], [0, 10 * 365 * DAY_MS], [0, 0, 10 * 365 * DAY_MS]]) {
      const { store, pruner } = await world();
      store.answers.push(...answers);
      expect(await prune(await pruner(), { repackBelow: 0 })).toMatchObject({ fencedSessions: 0, freedBytes: 0 });
    }
  });

  test('that is ahead for one night costs a host at work its session, and no backup', async () => {
    const { store, target, pruner, writer, session } = await world();
    const backups = new Backups();
    const kept = await backups.store(await pruner(), Array.from({ length: 20 }, freshBlock), { volume: 'kept' });
    store.aheadMs = 10 * 365 * DAY_MS;
    await prune(await pruner(), { repackBelow: 0 });
    store.aheadMs = 0;
    expect((await writer.log.catchUp()).sessions.has(session)).toBe(false);
    for (let night = 0; night < 3; night++) {
      await prune(await pruner(), { repackBelow: 0 });
      store.at += DAY_MS;
    }
    expect((await writer.log.catchUp()).backups.has(kept)).toBe(true);
    await backups.check(writer);
    expect((await packsOf(target)).size).toBeGreaterThan(0);
  });

  test('that gives packs times ahead of now, others every night, keeps a dead session for its time and no longer', async () => {
    const { store, target, pruner, writer, session } = await world();
    const list = target.list.bind(target);
    let night = 0;
    await target.put(packKey({ session, random: 'ab'.repeat(16) }), new Uint8Array(50));
    target.list = async function* (prefix, options) {
      for await (const info of list(prefix, options)) {
        const aheadMs = info.key.startsWith('packs/') ? (night + 1) * 40 * DAY_MS : 0;
        yield { ...info, modifiedAt: new Date(store.at + aheadMs) };
      }
    };
    const fenced: number[] = [];
    for (; night <= 31; night++) {
      fenced.push((await prune(await pruner(), { repackBelow: 0 })).fencedSessions);
      store.at += DAY_MS;
    }
    expect(fenced.indexOf(1)).toBe(30);
    expect((await writer.log.catchUp()).sessions.size).toBe(0);
  });
});

test('another writer fills the place of the reserve before the entry: nothing is half done, and a little room is enough', async () => {
  class Greedy extends QuotaTarget {
    isGreedy = true;
    #count = 0;

    async fill(): Promise<void> {
      for (let bytes = this.quotaBytes - this.usedBytes; bytes > 0; bytes = this.quotaBytes - this.usedBytes) {
        await super.forwardPut(`filler/${this.#count++}`, new Uint8Array(bytes), {});
      }
    }

    protected override async forwardDelete(key: string): Promise<void> {
      await super.forwardDelete(key);
      if (this.isGreedy && key === RESERVE_KEY) await this.fill();
    }
  }
  const target = new Greedy(new MemoryTarget(), 3 * 2 ** 20);
  await using repository = await createIn(target);
  const { volume } = await openVolume(30);
  const { id } = await repository.backup(volume, { volume: 'a' });
  const { id: other } = await repository.backup(volume, { volume: 'b' });
  await repository.prune();
  await target.fill();
  for (let turn = 0; turn < 2; turn++) {
    await expect(repository.forget([id])).rejects.toEqual(withCode('NO_SPACE'));
    expect((await Array.fromAsync(repository.listBackups())).map((each) => each.id)).toEqual([other, id]);
  }
  target.quotaBytes += 64 * 1024;
  target.isGreedy = false;
  await repository.forget([id, other]);
  expect((await repository.prune({ ...AT_ONCE })).freedBytes).toBeGreaterThan(0);
});

describe('repacking', () => {
  async function moved({ repackEach = false } = {}) {
    const target = new MemoryTarget();
    const secret = secrets(true);
    const context = await openHost(target, secret);
    const backups = new Backups();
    const ids: string[] = [];
    for (const volume of ['a', 'b']) {
      const full = Array.from({ length: 60 }, freshBlock);
      const first = await backups.store(context, full, { volume });
      ids.push(
        await backups.store(
          context,
          changed(full, (block) => block % 3 > 0),
          { volume },
        ),
      );
      await forgetBackups(context, [first]);
      if (repackEach) expect((await prune(context, MERGE)).repackedPacks).toBeGreaterThan(1);
    }
    return { target, secret, context, backups, ids };
  }

  test('and then two tables of two volumes are lost: nothing goes that either needs, and both are named', async () => {
    const { target, secret, context, backups, ids } = await moved({ repackEach: true });
    const ofVolume: string[] = [];
    for (const id of ids) {
      const map = openMap(context, context.log.state.backups.get(id)!.descriptor);
      const [moved] = [...(await packUsage(map)).keys()].filter((key) => context.log.state.relocations.has(key));
      ofVolume.push(packKey(context.log.state.relocations.get(moved!)!.location.pack));
    }
    expect(new Set(ofVolume).size).toBe(2);
    const kept = new Map<string, Uint8Array>();
    for (const key of ofVolume) {
      kept.set(key, Uint8Array.from(await target.get(key)));
      await target.delete(key);
    }
    const before = await packsOf(target);
    const result = await prune(await openHost(target, secret), AT_ONCE);
    expect(result.damagedBackups.map(({ id }) => id).sort()).toEqual([...ids].sort());
    expect(await packsOf(target)).toEqual(before);
    for (const [key, bytes] of kept) await target.put(key, Uint8Array.from(bytes));
    const healed = await openHost(target, secret);
    expect((await prune(healed, AT_ONCE)).damagedBackups).toEqual([]);
    await backups.check(healed);
  });

  test('dies after each of its requests, answered or not, and another host prunes: all backups read back, and nothing is left', async () => {
    /** From its `calls`th request on nothing is sent any more; that one is done, and not answered, or not even sent. */
    class Dying extends ForwardingTarget {
      left: number;
      readonly #isSent: boolean;

      constructor(inner: MemoryTarget, calls: number, isSent: boolean) {
        super(inner, 'this target');
        this.left = calls;
        this.#isSent = isSent;
      }

      protected override async around<T>(_call: unknown, invoke: () => Promise<T>): Promise<T> {
        const left = this.left--;
        if (left <= 0) throw new BackupError('CLOSED', 'the process is dead');
        const answer = await invoke();
        if (left === 1 && this.#isSent) throw new BackupError('CLOSED', 'the process is dead');
        return answer;
      }
    }
    let hasEnded = false;
    let rounds = 0;
    for (let calls = 1; !hasEnded; calls += 7) {
      const { target, secret, backups } = await moved();
      const context: RepositoryContext = await openHost(new Dying(target, Number.MAX_SAFE_INTEGER, false), secret);
      const dying = new Dying(target, calls, calls % 2 === 0);
      const doomed: RepositoryContext = await openHost(dying, secret, { owner: `dead/${2 ** 30}/x` }).catch(
        () => context,
      );
      hasEnded = await prune(doomed === context ? context : doomed, MERGE).then(
        () => dying.left > 0,
        () => false,
      );
      const next = await openHost(target, secret);
      const settle = { ...MERGE, fenceAfterMs: 0, keepFencedMs: 0 };
      await prune(next, settle);
      await backups.check(next);
      for (let run = 0; run < 3; run++) await prune(next, { ...settle, repackBelow: 0 });
      await backups.check(next);
      const { known, sessions, condemned, condemnedSessions } = next.log.state;
      expect({ sessions: sessions.size, condemned: condemned.size, orphans: condemnedSessions.size }).toEqual({
        sessions: 0,
        condemned: 0,
        orphans: 0,
      });
      const names = [...known].flatMap(([session, { packs }]) =>
        [...packs.keys()].map((random) => packKey({ session, random })),
      );
      expect([...(await packsOf(target)).keys()].toSorted()).toEqual(names.toSorted());
      rounds++;
    }
    expect(rounds).toBeGreaterThan(4);
  });
});

test.skipIf(process.platform !== 'linux').each([false, true])(
  'frees and counts what a killed writer had half written into a folder, after a backup: %s',
  async (isBackupFirst) => {
    const folder = mkdtempSync(path.join(tmpdir(), 'cow-killed-'));
    try {
      const reserved = path.join(folder, RESERVED);
      {
        await using target = new FileTarget(folder);
        await using _ = await createIn(target);
      }
      mkdirSync(reserved, { recursive: true });
      const unfinished = () => readdirSync(reserved).filter((name) => name.startsWith('put-'));
      for (let round = 0; unfinished().length === 0 && round < 20; round++) {
        const program = path.join(import.meta.dirname, '../../targets/file/support/put-forever.ts');
        const writer = fork(program, [folder, String(round)], {
          silent: true,
          execArgv: ['--experimental-strip-types', '--no-warnings'],
        });
        const exited = once(writer, 'exit');
        await once(writer, 'message');
        for (let look = 0; look < 10_000 && unfinished().length === 0; look++);
        writer.kill('SIGKILL');
        await exited;
      }
      const bytes = unfinished().reduce((sum, name) => sum + statSync(path.join(reserved, name)).size, 0);
      await using target = new FileTarget(folder);
      await using repository = await openIn(target);
      const reported = { leftoverCount: unfinished().length, leftoverBytes: bytes };
      expect(reported.leftoverCount).toBeGreaterThan(0);
      expect(await repository.prune({ dryRun: true })).toMatchObject(reported);
      expect(unfinished()).toHaveLength(reported.leftoverCount); // A dry run removes nothing.
      const { volume } = await openVolume(4);
      if (isBackupFirst) await repository.backup(volume, { volume: 'a' }); // The first put of this process removes them by itself.
      expect(await repository.prune()).toMatchObject({ ...reported, freedBytes: bytes });
      expect(unfinished()).toEqual([]);
      expect(await repository.prune()).toMatchObject({ leftoverCount: 0, leftoverBytes: 0 });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
