import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../../src/common/errors.ts';
import { runAtOnce } from '../../../../src/common/yield-to-event-loop.ts';
import type { LogFact } from '../../../../src/repository/format/log-entry.ts';
import { isKnown, type LogState, markedBackups, mayDedup } from '../../../../src/repository/format/log-state.ts';
import { packKey } from '../../../../src/repository/format/object-keys.ts';
import type { PackName } from '../../../../src/repository/format/record.ts';
import { decideForget } from '../../../../src/repository/log/entries/backups.ts';
import { type CollectPlan, decideCollect, findDeletable } from '../../../../src/repository/log/entries/collect.ts';
import { type CommitPlan, decideCommit } from '../../../../src/repository/log/entries/commit.ts';
import type { Decision } from '../../../../src/repository/log/entries/decision.ts';
import { packTables, type TableRows, tableKey } from '../../../../src/repository/log/entries/known-names.ts';
import { decideRepack, type RepackPlan } from '../../../../src/repository/log/entries/repack.ts';
import { decideAbort, decideOpen, type OpenPlan } from '../../../../src/repository/log/entries/sessions.ts';
import { MemoryTarget } from '../../../../src/targets/memory-target.ts';
import { withCode } from '../../../support/with-code.ts';
import {
  after,
  backup,
  collect,
  commit,
  from,
  hexId,
  id32,
  location,
  nameOf,
  open,
  pack,
  relocation,
} from '../support/facts.ts';
import { host } from '../support/hosts.ts';

/** Decisions on states, and by the name of its rule every trace of the protocol that concerns log and sessions. */

const first = backup(pack(1, 'a'));
/** Volume `disk` with one backup, in packs a (its root) and b. */
const once = after(open(), commit(1, [first], [pack(1, 'a'), pack(1, 'b')]));
const disk = (base?: string): OpenPlan => ({ owner: 'host', volumes: new Map([['disk', base]]) });

/** Folds a decision that must be one. */
function then(state: LogState, decision: Decision): LogState {
  if (decision === undefined || BackupError.is(decision)) throw new Error(`refused: ${String(decision)}`);
  return from(state, decision);
}

function plan(session: number, rest: Partial<CommitPlan> = {}): CommitPlan {
  const mine = pack(session, 'a');
  const one = backup(mine, { parent: first.id, base: first.id });
  return { session, backups: [one], packs: [mine], references: [mine], ...rest };
}

/** Of a collector that has marked what the given packs say, and listed what is given. */
function marked(
  state: LogState,
  live: readonly PackName[],
  listed: readonly PackName[],
  rest: Partial<CollectPlan> = {},
): CollectPlan {
  return { markedAt: state.seq, live: new Set(live.map(packKey)), listed, ...rest };
}

/** What a collector decides, without waiting. */
const collecting = (state: LogState, what: CollectPlan) => runAtOnce(decideCollect(state, what));
/** What may be deleted of a listing, without waiting. */
const deletable = (state: LogState, listed: readonly PackName[], tables: TableRows = new Map()) =>
  runAtOnce(findDeletable(state, listed, tables));
/** A refusal that names the pack. */
const condemnedPack = (pack: PackName) =>
  expect.objectContaining({ code: 'PACK_CONDEMNED', message: expect.stringContaining(packKey(pack)) as string });

const condemnedBy = (decision: Decision) => (decision as LogFact & { type: 'collect' }).packs.map(packKey);

describe('opening (P1, P2, P3)', () => {
  test('one open session a volume', () => {
    const opened = then(once, decideOpen(once, disk(first.id)));
    expect([...opened.sessions.keys()]).toEqual([3]);
    expect(decideOpen(opened, disk(first.id))).toEqual(withCode('VOLUME_BUSY'));
    expect(
      decideOpen(opened, {
        ...disk(),
        volumes: new Map([
          ['a', undefined],
          ['disk', undefined],
        ]),
      }),
    ).toEqual(withCode('VOLUME_BUSY'));
    expect(decideOpen(opened, { ...disk(), volumes: new Map([['other', undefined]]) })).toMatchObject({ type: 'open' });
  });

  test('a takeover fences in the same entry, and only whom it means', () => {
    const opened = from(once, open({ disk: first.id }));
    const taken = decideOpen(opened, { ...disk(first.id), takeOver: [3] });
    expect(taken).toMatchObject({ fence: [3], adopt: [3] });
    expect(decideOpen(opened, { ...disk(first.id), takeOver: [2] })).toEqual(withCode('VOLUME_BUSY'));
    // A session in the way that is not in the way any more is left alone.
    expect(decideOpen(once, { ...disk(first.id), takeOver: [3] })).toMatchObject({ fence: [] });
  });

  test('a takeover fences and adopts in one entry, with what the old session had adopted', () => {
    const twice = from(once, open({ disk: first.id }), open({ disk: first.id }, { fence: [3], adopt: [3] }));
    expect(decideOpen(twice, { ...disk(first.id), takeOver: [4] })).toMatchObject({ fence: [4], adopt: [4, 3] });
    const resumed = then(twice, decideOpen(twice, { ...disk(first.id), takeOver: [4] }));
    expect([...resumed.fenced.keys()].toSorted()).toEqual([3, 4]);
  });

  test('every fenced session of a volume is adopted, and none of another volume', () => {
    const dead = from(
      once,
      open({ disk: first.id }),
      collect({ fence: [3] }),
      open({ other: undefined }),
      open({ disk: first.id }),
      collect({ fence: [5, 6] }),
    );
    expect(decideOpen(dead, disk(first.id))).toMatchObject({ fence: [], adopt: [3, 6] });
    const both = new Map([...disk(first.id).volumes, ['other', undefined] as const]);
    expect(decideOpen(dead, { ...disk(), volumes: both })).toMatchObject({ adopt: [3, 5, 6] });
    expect(decideOpen(dead, { ...disk(), volumes: new Map() })).toMatchObject({ adopt: [] });
  });

  test('what a session had adopted is not adopted any more if it was condemned', () => {
    const fenced = from(
      once,
      open({ disk: first.id }),
      open({ disk: first.id }, { fence: [3], adopt: [3] }),
      collect({ fence: [4] }),
      collect({ sessions: [3] }),
    );
    expect(decideOpen(fenced, disk(first.id))).toMatchObject({ fence: [], adopt: [4] });
  });

  test('a base is live; a forgotten one says so', () => {
    expect(decideOpen(once, disk(hexId()))).toEqual(withCode('BACKUP_NOT_FOUND'));
    const forgotten = from(once, { type: 'forget', backups: [first.id] });
    expect(decideOpen(forgotten, disk(first.id))).toEqual(withCode('BACKUP_FORGOTTEN'));
  });
});

describe('ending', () => {
  test('aborting what has ended says nothing', () => {
    const opened = from(once, open({}));
    expect(decideAbort(opened, 3)).toEqual({ type: 'abort', session: 3 });
    expect(decideAbort(then(opened, decideAbort(opened, 3)), 3)).toBeUndefined();
  });

  test('forgetting names each once, and only what is there', () => {
    expect(runAtOnce(decideForget(once, [first.id, first.id]))).toEqual({ type: 'forget', backups: [first.id] });
    expect(runAtOnce(decideForget(once, []))).toBeUndefined();
    expect(runAtOnce(decideForget(once, [hexId()]))).toEqual(withCode('BACKUP_NOT_FOUND'));
    expect(runAtOnce(decideForget(once, [first.id.slice(0, 8)]))).toMatchObject({
      code: 'BACKUP_NOT_FOUND',
      message: expect.stringContaining('findBackup'),
    });
    const forgotten = from(once, { type: 'forget', backups: [first.id] });
    expect(runAtOnce(decideForget(forgotten, [first.id]))).toEqual(withCode('BACKUP_FORGOTTEN'));
  });

  test('a session that is over says why', () => {
    const opened = from(once, open({ disk: first.id }));
    expect(decideCommit(then(opened, decideCommit(opened, plan(3))), plan(3))).toEqual(withCode('SESSION_ENDED'));
    expect(decideCommit(from(opened, { type: 'abort', session: 3 }), plan(3))).toEqual(withCode('SESSION_ENDED'));
    const fenced = from(opened, collect({ fence: [3] }));
    expect(decideCommit(fenced, plan(3))).toEqual(withCode('SESSION_FENCED'));
    expect(decideCommit(from(fenced, collect({ sessions: [3] })), plan(3))).toEqual(withCode('SESSION_FENCED'));
  });
});

describe('the traces of docs/PROTOCOL.md:', () => {
  test('P1: a pack uploaded, condemned as an orphan, then committed by its slow or resumed writer', () => {
    const slow = from(once, open({ disk: first.id }));
    const live = [pack(1, 'a'), pack(1, 'b')];
    const uploaded = [...live, pack(3, 'a')];
    // While the session is open its packs are no orphans, however long it takes.
    expect(collecting(slow, marked(slow, live, uploaded))).toBeUndefined();
    // To give it up takes one collection to fence and another one to condemn.
    const fencing = collecting(slow, marked(slow, live, uploaded, { fence: [3] }));
    expect(fencing).toMatchObject({ fence: [3], sessions: [] });
    const fenced = then(slow, fencing);
    expect(decideCommit(fenced, plan(3))).toEqual(withCode('SESSION_FENCED'));
    const condemned = then(fenced, collecting(fenced, marked(fenced, live, uploaded)));
    expect(deletable(condemned, uploaded).map((each) => each.pack)).toEqual([pack(3, 'a')]);
    // Its writer comes back before: adopts, and the pack is left alone. After: it can't adopt.
    const back = then(fenced, decideOpen(fenced, disk(first.id)));
    expect(collecting(back, marked(back, live, uploaded))).toBeUndefined();
    const late = decideOpen(condemned, disk(first.id));
    expect(late).toMatchObject({ adopt: [] });
    const adopted = pack(3, 'a');
    const resumed = then(condemned, late);
    const stale = { ...plan(resumed.seq), references: [adopted] };
    expect(decideCommit(resumed, stale)).toEqual(condemnedPack(adopted));
    const mine = pack(resumed.seq, 'a');
    expect(decideCommit(resumed, { ...plan(resumed.seq), packs: [mine, adopted] })).toEqual(condemnedPack(adopted));
  });

  test('P2: two children of one parent', () => {
    const opened = from(once, open({ disk: first.id }));
    const taken = from(opened, open({ disk: first.id }, { fence: [3] }));
    expect(decideCommit(taken, plan(3))).toEqual(withCode('SESSION_FENCED'));
    const child = then(taken, decideCommit(taken, plan(4)));
    const next = from(child, open({ disk: first.id }));
    expect(decideCommit(next, plan(6))).toEqual(withCode('PARENT_CHANGED'));
  });

  test('P3: forget the base, condemn its data but not a metadata pack that a sister uses', () => {
    const forgotten = from(once, open({ disk: first.id }), { type: 'forget', backups: [first.id] });
    // What is to be marked still holds the base: all of its packs are live.
    expect(markedBackups(forgotten).map(({ id }) => id)).toEqual([first.id]);
    const committed = then(forgotten, decideCommit(forgotten, plan(3)));
    expect(markedBackups(committed).map(({ id }) => id)).not.toContain(first.id);
  });

  test('P3: a repacker moves the base under a running writer', () => {
    const running = from(once, open({ disk: first.id }), open({}));
    const moved = pack(4, 'm');
    const moving: RepackPlan = {
      markedAt: 4,
      session: 4,
      newPacks: [moved],
      packs: [nameOf(pack(1, 'b'))],
      relocate: [relocation(pack(1, 'b'), moved)],
    };
    const repacked = then(running, decideRepack(running, moving));
    // What is reached through the base needs no check; a reference of its own to the old place does.
    expect(decideCommit(repacked, plan(3))).toMatchObject({ type: 'commit' });
    expect(decideCommit(repacked, plan(3, { references: [pack(1, 'b')] }))).toEqual(withCode('PACK_CONDEMNED'));
  });

  test('P4: "not condemned" instead of "known": packs deleted long ago', () => {
    const forgotten = from(once, { type: 'forget', backups: [first.id] });
    const old = [pack(1, 'a'), pack(1, 'b')];
    const condemned = then(forgotten, collecting(forgotten, marked(forgotten, [], old)));
    const deleted = then(condemned, collecting(condemned, marked(condemned, [], [])));
    expect(deleted.condemned.size).toBe(0); // Nothing remembers their names ...
    const opened = from(deleted, open({ disk: undefined }));
    const stale = {
      ...plan(opened.seq),
      backups: [backup(pack(opened.seq, 'a'), { parent: first.id })],
      references: old,
    };
    // ... and yet none of them can be referred to.
    expect(decideCommit(opened, stale)).toEqual(condemnedPack(old[0]!));
    for (const each of old) expect(decideCommit(opened, { ...stale, references: [each] })).toEqual(condemnedPack(each));
    expect(decideCommit(opened, { ...stale, references: [pack(opened.seq, 'a')] })).toMatchObject({ type: 'commit' });
  });

  test('P4: retrying without deciding again, by a writer', async () => {
    const target = new MemoryTarget();
    const [writer, collector] = [await host(target), await host(target)];
    const facts = [open(), commit(1, [first], [pack(1, 'a'), pack(1, 'b')]), open({ disk: first.id })];
    for (const fact of facts) await writer.append(() => fact);
    // It refers to b by dedup. Before its commit reaches the log, b is condemned.
    await collector.append(() => collect({ packs: [nameOf(pack(1, 'b'))] }));
    const dedup = plan(3, { references: [pack(3, 'a'), pack(1, 'b')] });
    const seen: number[] = [];
    const append = writer.append(
      (state) => {
        seen.push(state.seq);
        return decideCommit(state, dedup);
      },
      { lookFirst: false },
    );
    await expect(append).rejects.toEqual(withCode('PACK_CONDEMNED'));
    expect(seen[0]).toBe(3);
    expect(writer.state.seq).toBe(4);
    // Stored again under a new pack it passes.
    const again = await writer.append((state) => decideCommit(state, plan(3)), { lookFirst: false });
    expect(again?.entry.seq).toBe(5);
  });

  test('P4: retrying without deciding again, by a collector (P7)', async () => {
    const target = new MemoryTarget();
    const [writer, collector] = [await host(target), await host(target)];
    for (const fact of [open(), commit(1, [first], [pack(1, 'a'), pack(1, 'b')]), open({ disk: first.id })]) {
      await writer.append(() => fact);
    }
    await collector.catchUp();
    const marking = marked(collector.state, [pack(1, 'a')], [pack(1, 'a'), pack(1, 'b')]);
    expect(condemnedBy(collecting(collector.state, marking))).toEqual([packKey(pack(1, 'b'))]);
    // A writer commits a reference to b meanwhile.
    await writer.append((state) => decideCommit(state, plan(3, { references: [pack(3, 'a'), pack(1, 'b')] })));
    const append = collector.append((state) => collecting(state, marking), { lookFirst: false });
    await expect(append).rejects.toMatchObject({ code: 'OBJECT_CONFLICT', retryable: true });
    expect(isKnown(collector.state, pack(1, 'b'))).toBe(true);
  });

  test('P6: a fence is for ever', () => {
    let state = from(once, open({ disk: first.id }), collect({ fence: [3] }));
    for (let day = 0; day < 7; day++) {
      expect(decideCommit(state, plan(3))).toEqual(withCode('SESSION_FENCED'));
      state = from(state, { type: 'keys', added: [], removed: [] });
    }
    expect(decideOpen(state, disk(first.id))).toMatchObject({ fence: [], adopt: [3] });
  });

  test('P12: a group commits whole', () => {
    const group = from(once, open({ disk: first.id, other: undefined }));
    const mine = pack(3, 'a');
    const both = [backup(mine, { parent: first.id, base: first.id }), backup(mine, { volume: 'other' })];
    expect(then(group, decideCommit(group, plan(3, { backups: both }))).heads.size).toBe(2);
    const stale = [both[0]!, { ...both[1]!, parent: hexId() }];
    expect(decideCommit(group, plan(3, { backups: stale }))).toEqual(withCode('PARENT_CHANGED'));
    expect(() => then(group, decideCommit(group, plan(3)))).toThrow(withCode('LOG_CORRUPT'));
  });
});

describe('adoption (decision 020)', () => {
  const died = from(once, open({ disk: first.id }));

  test('adopted packs are committed under their own names', () => {
    const back = then(died, decideOpen(died, { ...disk(first.id), takeOver: [3] }));
    const old = pack(3, 'a');
    const one = backup(old, { parent: first.id, base: first.id });
    const committed = then(back, decideCommit(back, { session: 4, backups: [one], packs: [old], references: [old] }));
    expect(isKnown(committed, old)).toBe(true);
    expect(isKnown(committed, pack(4, 'a'))).toBe(false);
  });

  test('what was adopted is not adopted again after the commit, and what is left of it is an orphan', () => {
    const back = then(died, decideOpen(died, { ...disk(first.id), takeOver: [3] }));
    expect([...back.fenced.keys()]).toEqual([3]);
    const committed = then(back, decideCommit(back, plan(4)));
    expect(committed.fenced.get(3)?.volumes.size).toBe(0);
    const head = [...committed.heads.values()][0]?.id;
    expect(decideOpen(committed, disk(head))).toMatchObject({ fence: [], adopt: [] });
    const listed = [pack(1, 'a'), pack(1, 'b'), pack(3, 'a'), pack(4, 'a')];
    const live = listed.filter(({ session }) => session !== 3);
    expect(collecting(committed, marked(committed, live, listed))).toMatchObject({ sessions: [3], packs: [] });
  });

  test('a group that died is not adopted again for a volume that is committed, but for the others', () => {
    const group = from(once, open({ disk: first.id, other: undefined }));
    const one = then(group, decideOpen(group, { ...disk(first.id), takeOver: [3] }));
    const committed = then(one, decideCommit(one, plan(4)));
    expect([...(committed.fenced.get(3)?.volumes.keys() ?? [])]).toEqual(['other']);
    expect(decideOpen(committed, disk([...committed.heads.values()][0]?.id))).toMatchObject({ adopt: [] });
    const other = { ...disk(), volumes: new Map([['other', undefined]]) };
    expect(decideOpen(committed, other)).toMatchObject({ fence: [], adopt: [3] });
    const next = then(committed, decideOpen(committed, other));
    const second = plan(6, { backups: [backup(pack(6, 'a'), { volume: 'other' })] });
    expect(then(next, decideCommit(next, second)).fenced.get(3)?.volumes.size).toBe(0);
  });

  test('what was adopted but not listed can not be referred to', () => {
    const back = then(died, decideOpen(died, { ...disk(first.id), takeOver: [3] }));
    expect(decideCommit(back, plan(4, { references: [pack(3, 'z')] }))).toEqual(withCode('PACK_CONDEMNED'));
  });

  test('a session condemned long ago is not adopted', () => {
    const condemned = from(died, collect({ fence: [3] }), collect({ sessions: [3] }));
    const gone = then(
      condemned,
      collecting(condemned, marked(condemned, [pack(1, 'a'), pack(1, 'b')], [pack(1, 'a'), pack(1, 'b')])),
    );
    for (const state of [condemned, gone])
      expect(decideOpen(state, { ...disk(first.id), takeOver: [3] })).toMatchObject({ adopt: [] });
    expect(gone.condemnedSessions.size).toBe(0);
  });
});

describe('collecting (P7, P8)', () => {
  const everything = [pack(1, 'a'), pack(1, 'b')];
  test('condemns what is known and not marked, and nothing where there is nothing', () => {
    expect(collecting(once, marked(once, everything, everything))).toBeUndefined();
    expect(condemnedBy(collecting(once, marked(once, [pack(1, 'a')], everything)))).toEqual([packKey(pack(1, 'b'))]);
    // A known pack that is not listed is condemned too: its PUT or its deletion may yet land.
    expect(condemnedBy(collecting(once, marked(once, [pack(1, 'a')], [])))).toEqual([packKey(pack(1, 'b'))]);
    expect(
      collecting(once, marked(once, [pack(1, 'a')], everything, { spare: new Set([packKey(pack(1, 'b'))]) })),
    ).toBeUndefined();
  });

  test('orphans are named by their sessions: of aborted and committed ones, not of those opened after it read', () => {
    const state = from(once, open({ disk: first.id }), { type: 'abort', session: 3 });
    const listed = [...everything, pack(1, 'q'), pack(3, 'a'), pack(9, 'a')];
    expect(collecting(state, marked(state, everything, listed))).toMatchObject({ packs: [], sessions: [1, 3] });
    const condemned = then(state, collecting(state, marked(state, everything, listed)));
    expect(deletable(condemned, listed).map((each) => each.pack)).toEqual([pack(1, 'q'), pack(3, 'a')]);
    expect(deletable(condemned, listed).every(({ by }) => by.seq === 5)).toBe(true);
    // Nothing new to say until they are gone; then the fold no longer carries them.
    expect(collecting(condemned, marked(condemned, everything, listed))).toBeUndefined();
    expect(collecting(condemned, marked(condemned, everything, everything))).toMatchObject({ goneSessions: [1, 3] });
  });

  test('a pack that lands late, after its deletion was seen, is an orphan like any other', () => {
    const state = from(
      once,
      open({ disk: first.id }),
      collect({ fence: [3] }),
      collect({ sessions: [3] }),
      collect({ goneSessions: [3] }),
    );
    const late = [...everything, pack(3, 'a')];
    expect(deletable(state, late)).toEqual([]);
    const again = collecting(state, marked(state, everything, late));
    expect(again).toMatchObject({ sessions: [3] });
    expect(deletable(then(state, again), late).map((each) => each.pack)).toEqual([pack(3, 'a')]);
  });

  test('fenced sessions may be kept for their hosts', () => {
    const fenced = from(once, open({ disk: first.id }), collect({ fence: [3] }));
    const listed = [...everything, pack(3, 'a')];
    expect(collecting(fenced, marked(fenced, everything, listed, { keepFenced: new Set([3]) }))).toBeUndefined();
    // Without any object it is named as well, so that the fold forgets it.
    expect(collecting(fenced, marked(fenced, everything, everything))).toMatchObject({ sessions: [3] });
  });

  describe('with packs in a table', () => {
    const table = { id: id32(), location: location(pack(1, 'a'), 7000), packs: 2 };
    const state = after(open(), commit(1, [first], [pack(1, 'a')], [table]));
    const rows = [nameOf(pack(1, 'x')), nameOf(pack(1, 'y'))];
    const tables = new Map([[tableKey(table), rows]]);
    const listed = [pack(1, 'a'), ...rows, pack(1, 'q')];

    test('what a table lists is known; without the table its session is left alone', () => {
      expect(packTables(state)).toEqual([table]);
      expect(collecting(state, marked(state, [pack(1, 'a')], listed))).toBeUndefined();
      const found = collecting(state, marked(state, [pack(1, 'a'), pack(1, 'x')], listed, { tables }));
      expect(condemnedBy(found)).toEqual([packKey(pack(1, 'y'))]);
      expect(found).toMatchObject({ sessions: [1] }); // Its orphan q.
      const condemned = then(state, found);
      expect(deletable(condemned, listed, tables).map((each) => each.pack.random)).toEqual([
        pack(1, 'y').random,
        pack(1, 'q').random,
      ]);
      expect(deletable(condemned, listed).map((each) => each.pack.random)).toEqual([pack(1, 'y').random]);
    });

    test('the pack of a table stays as long as something that it lists does', () => {
      const forgotten = from(state, { type: 'forget', backups: [first.id] });
      const dedup = collecting(forgotten, marked(forgotten, [pack(1, 'x')], listed, { tables }));
      expect(condemnedBy(dedup)).toEqual([packKey(pack(1, 'y'))]);
      const none = collecting(forgotten, marked(forgotten, [], listed, { tables }));
      expect(condemnedBy(none)).toHaveLength(3);
      expect(then(forgotten, none).known.size).toBe(0);
    });
  });
});

describe('dedup (P10)', () => {
  test('refers to known packs that are not quarantined, and to nothing that only a listing showed', () => {
    expect(mayDedup(once, pack(1, 'b'))).toBe(true);
    expect(mayDedup(once, pack(1, 'q'))).toBe(false);
    const quarantined = from(once, { type: 'config', quarantine: [nameOf(pack(1, 'b'))], release: [] });
    expect(mayDedup(quarantined, pack(1, 'b'))).toBe(false);
    expect(
      mayDedup(from(quarantined, { type: 'config', quarantine: [], release: [nameOf(pack(1, 'b'))] }), pack(1, 'b')),
    ).toBe(true);
  });
});

describe('repacking (P9, decision 021)', () => {
  const state = from(once, open({}));
  const to = pack(3, 'm');
  const moving: RepackPlan = {
    markedAt: 3,
    session: 3,
    newPacks: [to],
    packs: [nameOf(pack(1, 'b'))],
    relocate: [relocation(pack(1, 'b'), to)],
  };

  test("a fenced repacker's collection", () => {
    expect(decideRepack(from(state, collect({ fence: [3] })), moving)).toEqual(withCode('SESSION_FENCED'));
    expect(decideRepack(from(state, { type: 'keys', added: [], removed: [] }), moving)).toEqual(
      withCode('OBJECT_CONFLICT'),
    );
    const done = then(state, decideRepack(state, moving));
    expect([done.sessions.size, isKnown(done, to), isKnown(done, pack(1, 'b'))]).toEqual([0, true, false]);
    expect(decideRepack(done, moving)).toEqual(withCode('SESSION_ENDED'));
  });

  test('a place that was left behind: a moved pack is not known as a whole', () => {
    const writing = from(then(state, decideRepack(state, moving)), open({ disk: first.id }));
    const old = pack(1, 'b');
    const { id } = writing.relocations.get(packKey(old))!;
    const refer = (relocated?: CommitPlan['relocated']) =>
      decideCommit(writing, plan(5, { references: [old], relocated }));
    expect(refer()).toEqual(withCode('PACK_CONDEMNED'));
    expect(refer(new Map([[packKey(old), { table: id, into: [to] }]]))).toMatchObject({ type: 'commit' });
    expect(refer(new Map([[packKey(old), { table: id32(), into: [to] }]]))).toEqual(withCode('PACK_CONDEMNED'));
    expect(refer(new Map([[packKey(old), { table: id, into: [pack(3, 'z')] }]]))).toEqual(withCode('PACK_CONDEMNED'));
  });

  test('two looks: a pack moved again gets a table straight to its newest place', () => {
    const again = from(then(state, decideRepack(state, moving)), open({}));
    const newest = pack(5, 'n');
    const step: RepackPlan = {
      markedAt: 5,
      session: 5,
      newPacks: [newest],
      packs: [nameOf(to)],
      relocate: [relocation(to, newest)],
    };
    expect(decideRepack(again, step)).toEqual(withCode('PACK_CONDEMNED'));
    const straight = { ...step, relocate: [...step.relocate, relocation(pack(1, 'b'), newest)] };
    const moved = then(again, decideRepack(again, straight));
    expect([...moved.relocations.keys()].toSorted()).toEqual([packKey(pack(1, 'b')), packKey(to)]);
    expect([...moved.relocations.values()].every((each) => each.location.pack.random === newest.random)).toBe(true);
  });

  test('packs of open sessions, unknown ones and those with a table are left alone', () => {
    expect(decideRepack(state, { ...moving, packs: [pack(1, 'q')] })).toEqual(withCode('PACK_CONDEMNED'));
    const table = { id: id32(), location: location(pack(1, 'b'), 7000), packs: 2 };
    const tabled = from(after(open(), commit(1, [first], [pack(1, 'a'), pack(1, 'b')], [table])), open({}));
    expect(decideRepack(tabled, moving)).toEqual(withCode('PACK_CONDEMNED'));
  });

  test('a relocation goes when its table is condemned', () => {
    const moved = then(state, decideRepack(state, moving));
    const gone = from(moved, { type: 'forget', backups: [first.id] }, collect({ packs: [nameOf(to)] }));
    expect(gone.relocations.size).toBe(0);
  });
});
