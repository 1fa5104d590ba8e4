import { describe, expect, test, vi } from 'vitest';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import type { LogState } from '../../../src/repository/format/log-state.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { openRepository } from '../../../src/repository/open/open-repository.ts';
import { checkTuning } from '../../../src/repository/open/repository-options.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { withCode } from '../../support/with-code.ts';
import { collect } from '../log/support/facts.ts';
import { objectsOf, sourceOf, targetOf } from '../log/support/hosts.ts';
import { verifyLog } from '../log/support/verify-log.ts';
import { BLOCK, createIn, notedTarget, openIn, SMALL } from '../support/repositories.ts';
import { attempt } from './support/attempt.ts';
import { GarblingTarget } from './support/garbling-target.ts';
import { GatedTarget } from './support/gated-target.ts';
import { Guest } from './support/guest.ts';
import { createSmall } from './support/host.ts';
import { Ledger } from './support/ledger.ts';

vi.mock('../../../src/common/clock.ts', () => import('./support/hasty-clock.ts'));

/**
 * What goes wrong without each rule of the repository protocol, tried on real repositories. The traces that need dedup across
 * the repository or adoption are tried on the decisions themselves, in `../log/entries/decisions.test.ts`.
 */

/** Everything goes at once: no grace for readers or fenced sessions. Living sessions of this process are left alone. */
const PRUNE = { graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0, minRepackGainBytes: 0, packBytes: 100_000 } as const;

/** A repository with a backup of one volume, a slow host, and another one beside it. */
async function scene(blocks = 40) {
  const store = new MemoryTarget();
  await createSmall(store, false);
  const slow = new GatedTarget(store);
  const [first, second] = [await openIn(slow), await openIn(store)];
  const ledger = new Ledger();
  const guest = await Guest.open('disk', blocks * BLOCK - 1000, 1);
  for (let at = 0; at < 1; at += 0.125) await guest.write({ at, bytes: 10_000, content: 'fresh' });
  const backUp = async (repository = first, of = guest, options: { base?: string; takeOver?: boolean } = {}) => {
    const content = of.copy();
    const result = await repository.backup(of.volume, { volume: of.name, ...options });
    ledger.commit({ id: result.id, volume: of.name, content });
    return result;
  };
  /** Starts a backup whose commit is held back. Everything that it stores is there. */
  const backUpSlowly = async () => {
    const content = guest.copy();
    for await (const _ of first.listBackups()); // It looks, so that the session opens at the first number that it tries.
    const commit = slow.hold('log/', 1); // After the entry that opens the session.
    const done = backUpBegun(content);
    done.catch(() => {});
    await commit.reached;
    return { done, release: commit.release };
  };
  const backUpBegun = async (content: Uint8Array) => {
    const result = await first.backup(guest.volume, { volume: guest.name });
    ledger.commit({ id: result.id, volume: guest.name, content });
    return result;
  };
  const forget = async (id: string) => {
    await second.forget([id]);
    ledger.forget(id);
  };
  /** Whoever comes now finds what there must be, and all of it reads back. */
  const check = async () => {
    const fresh = await openIn(store);
    await ledger.compare(fresh);
    await ledger.read(fresh);
    await fresh.close();
    return stateOf(store);
  };
  const full = await backUp();
  await guest.write({ at: 0.5, bytes: 20_000, content: 'fresh' });
  return { store, slow, first, second, ledger, guest, full, backUp, backUpSlowly, forget, check };
}

const stateOf = (store: CloudTarget): Promise<LogState> => verifyLog(sourceOf(store));

/** Says something in the log, as another host would. */
async function say(store: CloudTarget, fact: LogFact): Promise<void> {
  const { log } = await openRepository(store, {}, checkTuning(SMALL));
  await log.append(() => fact);
}

const openSession = async (store: CloudTarget): Promise<number> =>
  [...(await stateOf(store)).sessions.keys()].at(-1) as number;

async function packsOf(store: CloudTarget): Promise<string[]> {
  return [...(await objectsOf(store)).keys()].filter((key) => key.startsWith('packs/'));
}

describe('names of packs', () => {
  test('a rolled-back host overwrites no packs: what it does twice has other names', async () => {
    const { store, guest } = await scene();
    const before = await objectsOf(store);
    const puts: string[][] = [];
    for (let time = 0; time < 2; time++) {
      const { target, calls } = notedTarget();
      for (const [key, body] of before) await target.put(key, body);
      calls.length = 0;
      const repository = await openIn(target);
      await repository.backup(guest.volume, { volume: guest.name, base: 'none' });
      await repository.close();
      puts.push(calls.filter((call) => call.startsWith('put packs/')));
    }
    expect(puts[0]?.length).toBeGreaterThan(0);
    expect(new Set(puts.flat()).size).toBe(puts.flat().length);
    // Of the same session, since the log was rolled back too: only chance tells them apart.
    expect(new Set(puts.flat().map((call) => call.split('/')[1])).size).toBe(1);
  });
});

describe('P1: a pack uploaded, condemned as an orphan, then committed by its slow writer', () => {
  test('while its session is open it is no orphan, however long it takes', async () => {
    const { second, backUpSlowly, check } = await scene();
    const slow = await backUpSlowly();
    for (let run = 0; run < 3; run++) await second.prune(PRUNE);
    slow.release();
    await slow.done;
    expect((await check()).backups.size).toBe(2);
  });

  test('once it is condemned its writer does not commit, and begins anew', async () => {
    const { store, second, backUp, backUpSlowly, check } = await scene();
    const slow = await backUpSlowly();
    const session = await openSession(store);
    await say(store, collect({ fence: [session] }));
    const { deletedObjects } = await second.prune(PRUNE);
    expect(deletedObjects).toBeGreaterThan(0);
    slow.release();
    await expect(slow.done).rejects.toEqual(withCode('SESSION_FENCED'));
    expect((await check()).backups.size).toBe(1);
    await backUp();
    expect((await check()).backups.size).toBe(2);
  });
});

describe('P2: two children of one parent', () => {
  test('a second writer of a volume is refused, or takes it over and the first one is out', async () => {
    const { second, full, backUp, backUpSlowly, check } = await scene();
    const slow = await backUpSlowly();
    await expect(backUp(second)).rejects.toEqual(withCode('VOLUME_BUSY'));
    const { id } = await backUp(second, undefined, { takeOver: true });
    slow.release();
    await expect(slow.done).rejects.toEqual(withCode('SESSION_FENCED'));
    const { backups, heads } = await check();
    expect([...backups.values()].map(({ parent }) => parent)).toEqual([undefined, full.id]);
    expect(heads.get('disk')?.id).toBe(id);
  });
});

describe('P3: pins', () => {
  test('forget the base, condemn its data but not a metadata pack that a sister uses', async () => {
    const { store, second, guest, full, backUp, backUpSlowly, forget, check } = await scene();
    // A sister of most of the same content, which shares subtrees with the base.
    const sister = await Guest.open('sister', guest.size, 9);
    sister.device.bytes.set(guest.copy());
    await backUp(second, sister, { base: full.id });
    const slow = await backUpSlowly();
    await forget(full.id);
    for (let run = 0; run < 2; run++) await second.prune({ ...PRUNE, repackBelow: 0 });
    expect(await check()).toBeDefined();
    slow.release();
    const { changeSource } = await slow.done;
    expect(changeSource).toBe('tracked');
    await second.prune(PRUNE);
    expect((await check()).backups.size).toBe(2);
    expect((await stateOf(store)).sessions.size).toBe(0);
  });

  test('who was taken over, and finds the base gone that was pinned, is told why', async () => {
    const { store, second, guest, full, backUp, forget, check } = await scene();
    await guest.reopen(); // Contents are compared, so the base is read, by a host that has nothing of it in memory.
    const job = await (await openIn(store)).startBackup(guest.volume, { volume: guest.name });
    await forget(full.id);
    await backUp(second, guest, { base: 'none', takeOver: true });
    expect((await second.prune(PRUNE)).deletedObjects).toBeGreaterThan(0);
    await expect(job.sweep().done).rejects.toMatchObject({ code: 'SESSION_FENCED', cause: { code: 'PACK_MISSING' } });
    expect((await check()).backups.size).toBe(1);
  });

  test('a repacker moves the base under a running writer', async () => {
    const { second, guest, full, backUp, backUpSlowly, forget, check } = await scene();
    // The first backup's packs become sparse, and its successor is the base.
    await guest.write({ at: 0, bytes: 90_000, content: 'fresh' });
    await backUp();
    await forget(full.id);
    await guest.write({ at: 0.9, bytes: 5000, content: 'fresh' });
    const slow = await backUpSlowly();
    const { repackedPacks, deletedObjects } = await second.prune({ ...PRUNE, repackBelow: 1 });
    expect(Math.min(repackedPacks, deletedObjects)).toBeGreaterThan(0);
    slow.release();
    await slow.done;
    expect((await check()).backups.size).toBe(2);
  });
});

describe('P4: commits', () => {
  test('packs deleted long ago pass for not condemned: they are not known', async () => {
    const { store, second, backUpSlowly, check } = await scene();
    const slow = await backUpSlowly();
    await say(store, collect({ fence: [await openSession(store)] }));
    for (let run = 0; run < 3; run++) await second.prune(PRUNE);
    const state = await stateOf(store);
    expect([state.condemned.size, state.condemnedSessions.size, state.fenced.size]).toEqual([0, 0, 0]); // No trace is left.
    slow.release();
    await expect(slow.done).rejects.toMatchObject({ code: expect.stringMatching(/SESSION_FENCED|SESSION_ENDED/) });
    expect((await check()).backups.size).toBe(1);
  });

  test('retrying without deciding again, by a writer: the number that it loses may have fenced it', async () => {
    const { store, slow, backUpSlowly, check } = await scene();
    const late = await backUpSlowly();
    const { seq } = await stateOf(store);
    await say(store, collect({ fence: [await openSession(store)] })); // Takes the very number.
    late.release();
    await expect(late.done).rejects.toEqual(withCode('SESSION_FENCED'));
    expect((await stateOf(store)).seq).toBe(seq + 1);
    await slow.close();
    expect((await check()).backups.size).toBe(1);
  });

  test('retrying without deciding again, by a collector (P7): what was committed meanwhile is marked', async () => {
    const { store, slow, first, second, ledger, guest, full, backUp, forget, check } = await scene();
    await backUp(second, guest, { base: 'none' });
    await forget(full.id); // Nothing of it is needed any more.
    const collecting = slow.hold('log/');
    const pruning = first.prune({ ...PRUNE, repackBelow: 0 });
    await collecting.reached;
    await guest.write({ at: 0.3, bytes: 9000, content: 'fresh' });
    await backUp(second);
    await backUp(second, guest, { base: 'none' });
    collecting.release();
    expect((await pruning).deletedObjects).toBeGreaterThan(0);
    expect((await check()).backups.size).toBe(ledger.kept.size);
    expect((await packsOf(store)).length).toBeGreaterThan(0);
  });
});

describe('P5: whose entry?', () => {
  test('of a commit whose answers are all lost nobody is told, and it is not made twice', async () => {
    const { store, guest, ledger } = await scene();
    const commits = Array.from({ length: 8 }, (_, index) => ({
      operation: 'put' as const,
      subject: /^log/,
      nth: index + 2,
      fault: { kind: 'fail-after' as const },
    }));
    const lost = { operation: 'get' as const, subject: /^log/, fault: { kind: 'fail-before' as const } };
    const faulty = new FaultyTarget(store, scriptedFaults([...commits, lost]));
    const repository = await openIn(store);
    await repository.close();
    const hurt = await openIn(new FaultyTarget(store, scriptedFaults([])));
    await hurt.close();
    const content = guest.copy();
    const opened = await BackupRepository.open(faulty, SMALL).catch((error: unknown) => error);
    expect(opened).toEqual(withCode('TARGET_UNAVAILABLE')); // It reads the log, too.
    const half = new FaultyTarget(store, scriptedFaults(commits));
    const host = await openIn(half);
    const job = await host.startBackup(guest.volume, { volume: guest.name });
    const done = await job.sweep().done.then(
      () => 'committed',
      (error: { code: string }) => error.code,
    );
    if (done === 'COMMIT_UNKNOWN') ledger.doubt({ id: job.id, volume: guest.name, content });
    else ledger.commit({ id: job.id, volume: guest.name, content });
    const again = await host.backup(guest.volume, { volume: guest.name });
    ledger.commit({ id: again.id, volume: guest.name, content });
    const fresh = await openIn(store);
    await ledger.compare(fresh);
    await ledger.read(fresh);
    const { backups } = await stateOf(store);
    expect(backups.get(again.id)?.parent).toBe(job.id);
    expect(backups.size).toBe(3);
  });
});

describe('P6: a fence is for ever', () => {
  test('also when the log has gone on for long and its checkpoints know nothing of it', async () => {
    const { store, second, backUpSlowly, check } = await scene();
    const late = await backUpSlowly();
    await say(store, collect({ fence: [await openSession(store)] }));
    for (let run = 0; run < 2; run++) await second.prune(PRUNE);
    for (let day = 0; day < 70; day++) await say(store, { type: 'keys', added: [], removed: [] });
    late.release();
    await expect(late.done).rejects.toMatchObject({ code: expect.stringMatching(/SESSION_FENCED|SESSION_ENDED/) });
    expect((await check()).backups.size).toBe(1);
  });
});

describe('P7, P8: collecting and reading', () => {
  test('nothing is condemned that a live map may need which can not be read in full', async () => {
    const { store, second, guest, full, backUp, forget } = await scene();
    const { id } = await backUp();
    await forget(full.id);
    const { root, runs } = (await stateOf(store)).backups.get(id)!.descriptor;
    const key = packKey((runs[0]?.[0] ?? root)!.location.pack);
    const body = await store.get(key);
    await store.delete(key);
    const { seq } = await stateOf(store);
    const packs = await packsOf(store);
    const { damagedBackups } = await second.prune({ ...PRUNE, reserveBytes: 0 });
    expect(damagedBackups).toMatchObject([{ id, error: { code: 'PACK_MISSING' } }]);
    expect((await stateOf(store)).seq).toBe(seq);
    expect(await packsOf(store)).toEqual(packs);
    await store.put(key, Uint8Array.from(body));
    expect((await second.prune(PRUNE)).damagedBackups).toEqual([]);
    await using image = await second.openBackup(id);
    const bytes = new Uint8Array(guest.size);
    await image.read(0, bytes);
    expect(Buffer.compare(bytes, guest.copy())).toBe(0);
  });

  test('a reader that misses a pack: forgotten, moved, or missing', async () => {
    const { store, first, second, guest, full, backUp, forget } = await scene();
    await guest.write({ at: 0, bytes: 90_000, content: 'fresh' });
    const content = guest.copy();
    const { id } = await backUp();
    await using forgotten = await first.openBackup(full.id, { cacheBytes: 0 });
    await using moved = await first.openBackup(id, { cacheBytes: 0 });
    await forget(full.id);
    const { repackedPacks } = await second.prune({ ...PRUNE, repackBelow: 1 });
    expect(repackedPacks).toBeGreaterThan(0);
    const bytes = new Uint8Array(content.length);
    await expect(forgotten.read(0, bytes)).rejects.toEqual(withCode('BACKUP_FORGOTTEN'));
    await moved.read(0, bytes);
    expect(Buffer.compare(bytes, content)).toBe(0);
    for (const key of await packsOf(store)) await store.delete(key);
    await using missing = await first.openBackup(id, { cacheBytes: 0 }).catch(() => moved);
    await expect(missing.read(0, bytes)).rejects.toEqual(withCode('PACK_MISSING'));
  });
});

describe('P9: repacking', () => {
  test('a fenced repacker does not name tables that are gone', async () => {
    const { store, slow, first, second, ledger, guest, full, backUp, forget, check } = await scene();
    await guest.write({ at: 0, bytes: 90_000, content: 'fresh' });
    await backUp();
    await forget(full.id);
    await second.prune({ ...PRUNE, repackBelow: 0 });
    const moving = slow.hold('log/', 1); // After the entry that opens its session.
    const pruning = first.prune({ ...PRUNE, repackBelow: 1 });
    await moving.reached;
    await say(store, collect({ fence: [await openSession(store)] }));
    for (let run = 0; run < 2; run++) await second.prune({ ...PRUNE, repackBelow: 0 });
    moving.release();
    expect((await pruning).repackedPacks).toBe(0);
    const { relocations } = await check();
    expect(relocations.size).toBe(0);
    // The next one moves in peace.
    expect((await second.prune({ ...PRUNE, repackBelow: 1 })).repackedPacks).toBeGreaterThan(0);
    expect((await check()).backups.size).toBe(ledger.kept.size);
  });

  test('what an answer garbled is not moved: the good copy would be deleted', async () => {
    const { store, second, guest, full, backUp, forget, ledger } = await scene();
    await guest.write({ at: 0, bytes: 60_000, content: 'fresh' });
    await backUp(second);
    await forget(full.id);
    const objects = await objectsOf(store);
    let repacked = 0;
    for (let nth = 1; nth <= 24; nth++) {
      const copy = await targetOf(objects);
      // Close to the end of an answer: of records of maps, what their ids do not cover.
      const garbled = new GarblingTarget(copy, nth, 12 + 5 * (nth % 3));
      const host = await openIn(garbled);
      const outcome = await attempt(() => host.prune({ ...PRUNE, repackBelow: 1 }));
      if ('value' in outcome) repacked += outcome.value.repackedPacks;
      await host.close();
      const fresh = await openIn(copy);
      await ledger.read(fresh);
      await fresh.close();
    }
    expect(repacked).toBeGreaterThan(0);
  });

  test('two looks: what is moved twice is found with one, also by who has heard of neither', async () => {
    const { first, second, guest, full, backUp, forget, check, ledger } = await scene(60);
    const ids = [full.id];
    for (const at of [0, 0.25, 0.5]) {
      await guest.write({ at, bytes: 50_000, content: 'fresh' });
      ids.push((await backUp(second)).id);
    }
    let repacked = 0;
    for (const id of ids.slice(0, -1)) {
      await forget(id);
      repacked += (await second.prune({ ...PRUNE, repackBelow: 1 })).repackedPacks;
      await ledger.read(first);
    }
    expect(repacked).toBeGreaterThan(2);
    expect((await check()).backups.size).toBe(1);
  });
});

describe('P11: the log is not deleted', () => {
  test('who remembers sees that the newest entries are gone', async () => {
    const { store, first } = await scene();
    const remembered = first.position;
    const log = [...(await objectsOf(store)).keys()].filter((key) => key.startsWith('log/')).sort();
    await store.delete(log[0] as string);
    await expect(BackupRepository.open(store, { ...SMALL, remembered })).rejects.toEqual(
      withCode('REPOSITORY_ROLLED_BACK'),
    );
    // Who remembers nothing can't know.
    await (await openIn(store)).close();
  });

  test('a checkpoint ahead of the newest entry is LOG_TRUNCATED', async () => {
    const { store } = await scene();
    for (let entry = 0; entry < 40; entry++) await say(store, { type: 'keys', added: [], removed: [] });
    const log = [...(await objectsOf(store)).keys()].filter((key) => key.startsWith('log/')).sort();
    const checkpoint = log.findIndex((key) => key.endsWith('-c'));
    expect(checkpoint).toBeGreaterThan(0);
    for (const key of log.slice(0, checkpoint)) await store.delete(key); // Also the entry that it is of.
    await expect(openIn(store)).rejects.toEqual(withCode('LOG_TRUNCATED'));
  });

  test('another history under the same name is refused', async () => {
    const { store, guest, first } = await scene();
    const objects = await objectsOf(store);
    const fork = await targetOf(objects);
    const elsewhere = await openIn(fork);
    await elsewhere.backup(guest.volume, { volume: guest.name });
    await first.backup(guest.volume, { volume: guest.name });
    await expect(BackupRepository.open(fork, { ...SMALL, remembered: first.position })).rejects.toEqual(
      withCode('REPOSITORY_ROLLED_BACK'),
    );
  });
});

describe('P12: groups', () => {
  test('one volume that is taken over fails all', async () => {
    const { slow, first, second, guest, backUp, check } = await scene();
    const other = await Guest.open('other', 8 * BLOCK, 5);
    const commit = slow.hold('log/', 1);
    const { done, jobs } = await first.startGroup(
      [guest, other].map(({ volume, name }) => ({ source: volume, volume: name })),
    );
    for (const job of jobs) job.sweep();
    await commit.reached;
    await backUp(second, other, { takeOver: true });
    commit.release();
    await expect(done).rejects.toEqual(withCode('SESSION_FENCED'));
    expect((await check()).backups.size).toBe(2);
  });
});

describe('P13: without create-only', () => {
  const single = { encryption: 'none', singleWriter: true, ...SMALL } as const;

  test('it has to be asked for by name', async () => {
    const store = new MemoryTarget({ createOnly: false });
    await expect(createIn(store)).rejects.toEqual(withCode('SINGLE_WRITER_REQUIRED'));
    await (await BackupRepository.create(store, single)).close();
    await expect(openIn(store)).rejects.toEqual(withCode('SINGLE_WRITER_REQUIRED'));
  });

  test('two writers at one number show: at most one is told of a success, and what was there before can be read', async () => {
    const store = new MemoryTarget({ createOnly: false });
    const repository = await BackupRepository.create(store, single);
    const guest = await Guest.open('disk', 10 * BLOCK, 1);
    const content = guest.copy();
    const { id } = await repository.backup(guest.volume, { volume: guest.name });
    const gates = [new GatedTarget(store), new GatedTarget(store)];
    const held = gates.map((gate) => gate.hold('log/'));
    const writers = await Promise.all(
      gates.map((gate) => BackupRepository.open(gate, { ...SMALL, singleWriter: true })),
    );
    const forgetting = writers.map((writer) =>
      writer.forget([id]).then(
        () => 'told',
        (error: { code: string }) => error.code,
      ),
    );
    await Promise.all(held.map(({ reached }) => reached));
    for (const { release } of held) release();
    const told = await Promise.all(forgetting);
    expect(told.filter((each) => each === 'told').length).toBeLessThan(2);
    expect(told).toContain('LOG_FORKED');
    await expect(BackupRepository.open(store, { ...SMALL, singleWriter: true })).rejects.toEqual(
      withCode('LOG_FORKED'),
    );
    const reader = await BackupRepository.open(store, { ...SMALL, readOnly: true });
    const ledger = new Ledger();
    ledger.commit({ id, volume: guest.name, content });
    await ledger.compare(reader);
    await ledger.read(reader);
  });
});
