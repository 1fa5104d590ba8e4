import { describe, expect, test } from 'vitest';
import { decodeCheckpoint, encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import type { CommittedPack, LogFact } from '../../../src/repository/format/log-entry.ts';
import { condemnationOf, EMPTY_STATE, isKnown, markedBackups } from '../../../src/repository/format/log-state.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { withCode } from '../../support/with-code.ts';
import {
  after,
  backup,
  collect,
  commit,
  entryAfter,
  everyFact,
  from,
  hexId,
  id32,
  location,
  nameOf,
  open,
  pack,
  relocation,
} from './support/facts.ts';
import { applyEntry } from './support/fold-at-once.ts';

const corrupt = withCode('LOG_CORRUPT');
const first = backup(pack(1, 'a'));
/** One volume with one backup. */
const once = after(open(), commit(1, [first], [pack(1, 'a'), pack(1, 'b')]));

test('the fold of every type of entry', () => {
  const facts = everyFact();
  const state = after(...facts);
  const [, , , second] = facts as [LogFact, LogFact, LogFact, LogFact & { type: 'commit' }];
  const head = second.backups[0]!.id;
  expect(state.seq).toBe(facts.length);
  expect([...state.backups.keys()]).toEqual([]);
  expect([...state.pinned.keys()]).toEqual([head]); // Session 12 has it as its base.
  expect(state.heads).toEqual(new Map([['disk', { id: head, seq: expect.any(Number) }]]));
  expect([...state.sessions.keys()]).toEqual([12]);
  expect([...state.fenced.keys()]).toEqual([13]);
  expect([...state.condemned.values()].map((each) => each.pack)).toEqual([nameOf(pack(1, 'b'))]);
  expect([...state.condemnedSessions.keys()]).toEqual([5]);
  expect([...state.relocations.values()].map((each) => each.pack)).toEqual([nameOf(pack(1, 'b'))]);
  expect([...state.quarantined.values()]).toEqual([nameOf(pack(8, 'm'))]);
  expect(isKnown(state, pack(1, 'a'))).toBe(true);
  expect(isKnown(state, pack(1, 'c'))).toBe(false);
  expect(isKnown(state, pack(3, 'z'))).toBe(true); // Perhaps in its table.
  expect(isKnown(state, pack(5, 'a'))).toBe(false);
});

test('a state is never changed by what follows', () => {
  const before = structuredClone({ ...once });
  from(once, open({ disk: first.id }), { type: 'forget', backups: [first.id] }, collect({ packs: [pack(1, 'b')] }));
  expect({ ...once }).toEqual(before);
});

test('a checkpoint of the state after each entry gives that state again', async () => {
  let state = EMPTY_STATE;
  for (const fact of everyFact()) {
    state = from(state, fact);
    for (const key of [undefined, id32()]) {
      const bytes = (await encodeCheckpoint(key, state))!;
      expect({ ...(await decodeCheckpoint(key, state.seq, bytes)) }).toEqual({ ...state });
      await expect(decodeCheckpoint(key, state.seq + 1, bytes)).rejects.toEqual(corrupt);
    }
  }
});

describe('tables that are out of date', () => {
  const [a, b, c] = [pack(1, 'a'), pack(1, 'b'), pack(1, 'c')];
  const [m, n] = [pack(3, 'm'), pack(5, 'n')];
  const repack = (session: number, into: CommittedPack, from: CommittedPack, moved: readonly CommittedPack[]) =>
    collect({
      session,
      newPacks: [into],
      packs: [nameOf(from)],
      relocate: moved.map((each) => relocation(each, into)),
    });
  /** b was moved into m by entry 4; m, and b with it, into n by entry 6. */
  const twice = after(
    open(),
    commit(1, [first], [a, b, c]),
    open({}),
    repack(3, m, b, [b]),
    open({}),
    repack(5, n, m, [m, b]),
  );
  const packsOfTables = (state: typeof twice) =>
    [...state.formerRelocations].map(([key, tables]) => [
      key,
      tables.map(({ by, location }) => [by.seq, location.pack]),
    ]);

  test('stay until what their collection condemned is gone', () => {
    expect(packsOfTables(twice)).toEqual([[packKey(b), [[6, nameOf(m)]]]]);
    const without = from(twice, collect({ gonePacks: [nameOf(b)] }));
    expect(packsOfTables(without)).toEqual(packsOfTables(twice)); // m is there still.
    expect(from(without, collect({ gonePacks: [nameOf(m)] })).formerRelocations.size).toBe(0);
    expect([...twice.relocations.values()].map(({ location }) => location.pack)).toEqual([nameOf(n), nameOf(n)]);
  });

  test('are kept where a collection condemns the pack that they stand in', async () => {
    const ended = from(twice, collect({ packs: [nameOf(n)] }));
    expect(ended.relocations.size).toBe(0);
    expect(packsOfTables(ended)).toEqual([
      [
        packKey(b),
        [
          [7, nameOf(n)],
          [6, nameOf(m)],
        ],
      ],
      [packKey(m), [[7, nameOf(n)]]],
    ]);
    const dated = from(ended, collect({ redated: [6] })); // What m led to counts from entry 8 on.
    for (const state of [ended, dated]) {
      for (const key of [undefined, id32()]) {
        const bytes = (await encodeCheckpoint(key, state))!;
        expect({ ...(await decodeCheckpoint(key, state.seq, bytes)) }).toEqual({ ...state });
      }
    }
    const left = from(dated, collect({ gonePacks: [nameOf(m), nameOf(n)] }));
    expect(packsOfTables(left)).toEqual([]);
  });
});

describe('an entry that no correct writer makes is refused', () => {
  const opened = from(once, open({ disk: first.id })); // Session 3.
  const mine = [pack(3, 'a')];
  const child = (rest = {}) => backup(pack(3, 'a'), { parent: first.id, base: first.id, ...rest });
  const repacking = from(once, open({})); // Session 3, without volumes.
  const adopted = from(opened, open({ disk: first.id }, { fence: [3], adopt: [3] })); // Session 4.
  test.each<[string, ReturnType<typeof after>, LogFact]>([
    ['a second session of one volume', opened, open({ disk: first.id })],
    ['a base that is not live', once, open({ disk: hexId() })],
    ['a fence of what is not open', once, open({ disk: first.id }, { fence: [1] })],
    ['adopting an open session', opened, open({ other: undefined }, { adopt: [3] })],
    ['adopting a session that committed', once, open({}, { adopt: [1] })],
    ['adopting what the log does not list', from(opened, { type: 'abort', session: 3 }), open({}, { adopt: [3] })],
    ['a commit of no session', once, commit(7, [child()], mine)],
    ['a second commit of a session', from(opened, commit(3, [child()], mine)), commit(3, [child()], mine)],
    ['a commit of a fenced session', from(opened, collect({ fence: [3] })), commit(3, [child()], mine)],
    ['a commit without backups', opened, commit(3, [], mine)],
    ['a commit of another volume', opened, commit(3, [child({ volume: 'other' })], mine)],
    [
      'a part of a group',
      after(open({ a: undefined, b: undefined })),
      commit(1, [backup(pack(1, 'a'), { volume: 'a' })], [pack(1, 'a')]),
    ],
    ['a parent that is not the head', opened, commit(3, [child({ parent: undefined })], mine)],
    ['a base that is not pinned', opened, commit(3, [child({ base: hexId() })], mine)],
    ['the id of another backup', opened, commit(3, [child({ id: first.id })], mine)],
    ['packs of another session', opened, commit(3, [child()], [...mine, pack(1, 'c')])],
    ['a pack listed twice', opened, commit(3, [child()], [...mine, ...mine])],
    ['a root in a pack that is not known', opened, commit(3, [child()], [pack(3, 'b')])],
    [
      'a table in a pack that is not listed',
      opened,
      commit(3, [child()], mine, [{ id: id32(), location: location(pack(3, 'q')), packs: 1 }]),
    ],
    ['a run in a pack that is not known', opened, commit(3, [child({ runs: [pack(2, 'x')] })], mine)],
    ['an abort of what has ended', once, { type: 'abort', session: 1 }],
    ['forgetting twice', from(once, { type: 'forget', backups: [first.id] }), { type: 'forget', backups: [first.id] }],
    ['condemning what is not known', once, collect({ packs: [pack(1, 'z')] })],
    ['condemning twice', from(once, collect({ packs: [pack(1, 'b')] })), collect({ packs: [pack(1, 'b')] })],
    ['condemning what a live backup begins with', once, collect({ packs: [pack(1, 'a')] })],
    ['condemning an open session', opened, collect({ sessions: [3] })],
    ['condemning an adopted session', adopted, collect({ sessions: [3] })],
    ['fencing and condemning at once', opened, collect({ fence: [3], sessions: [3] })],
    ['condemning a session that is yet to come', once, collect({ sessions: [3] })],
    ['missing what nobody condemned', once, collect({ gonePacks: [pack(1, 'b')] })],
    ['missing a session that nobody condemned', once, collect({ goneSessions: [1] })],
    ['new packs without a session', once, collect({ newPacks: [pack(3, 'a')] })],
    ['a collection that ends a writer', opened, collect({ session: 3 })],
    ["a fenced repacker's collection", from(repacking, collect({ fence: [3] })), collect({ session: 3 })],
    [
      'a table that lies nowhere',
      repacking,
      collect({ session: 3, packs: [pack(1, 'b')], relocate: [relocation(pack(1, 'b'), pack(3, 'm'))] }),
    ],
    [
      'relocating what stays',
      repacking,
      collect({ session: 3, newPacks: [pack(3, 'm')], relocate: [relocation(pack(1, 'b'), pack(3, 'm'))] }),
    ],
  ])('%s', (_what, state, fact) => {
    expect(() => from(state, fact)).toThrow(corrupt);
  });

  test('one that leaves a number out, or follows another', () => {
    const next = entryAfter(once, open({ other: undefined }));
    expect(() => applyEntry(once, { ...next, seq: 4 }, id32())).toThrow(corrupt);
    expect(() => applyEntry(once, { ...next, prev: id32() }, id32())).toThrow(corrupt);
    expect(applyEntry(once, next, id32()).seq).toBe(3);
  });
});

test('key slots that were added and not removed; a name that was removed is not used again', () => {
  const [a, b, c] = ['a', 'b', 'c'].map((digit) => digit.repeat(16)) as [string, string, string];
  const keys = (added: string[], removed: string[]): LogFact => ({ type: 'keys', added, removed });
  const state = after(keys([a], []), keys([b, a], []), keys([], [a, c]), keys([c, a], []));
  expect([state.keySlots, state.removedSlots]).toEqual([new Set([b]), new Set([a, c])]);
});

test('a base stays readable for collectors while it is pinned, also once forgotten (P3)', () => {
  const pinned = from(once, open({ disk: first.id }), { type: 'forget', backups: [first.id] });
  expect(markedBackups(pinned).map(({ id }) => id)).toEqual([first.id]);
  expect(() => from(pinned, collect({ packs: [pack(1, 'a')] }))).toThrow(corrupt);
  const ended = from(pinned, { type: 'abort', session: 3 });
  expect(markedBackups(ended)).toEqual([]);
  expect(isKnown(from(ended, collect({ packs: [pack(1, 'a')] })), pack(1, 'a'))).toBe(false);
});

test('a table is forgotten with the pack that it lies in, and what it listed is then unknown', () => {
  const table = { id: id32(), location: location(pack(1, 'a'), 5000), packs: 40 };
  const state = from(
    after(open(), commit(1, [first], [pack(1, 'a'), pack(1, 'b')], [table])),
    collect({ packs: [pack(1, 'x')] }),
  );
  expect([isKnown(state, pack(1, 'x')), isKnown(state, pack(1, 'y'))]).toEqual([false, true]);
  const gone = from(
    state,
    { type: 'forget', backups: [first.id] },
    collect({ packs: [pack(1, 'a')], gonePacks: [pack(1, 'x')] }),
  );
  expect([isKnown(gone, pack(1, 'y')), isKnown(gone, pack(1, 'x')), isKnown(gone, pack(1, 'b'))]).toEqual([
    false,
    false,
    true,
  ]);
  expect(gone.known.get(1)).toEqual({
    packs: new Map([[pack(1, 'b').random, { size: 100_000, sha256: pack(1, 'b').sha256 }]]),
    tables: [],
    dead: new Set(),
  });
});

test('a session of which a known pack was condemned can no longer be adopted', () => {
  const second = backup(pack(3, 'a'), { parent: first.id, base: first.id });
  // Session 4 adopts 3, a group's, and commits its pack; then nobody needs that.
  const state = from(
    once,
    open({ disk: first.id, other: undefined }),
    open({ disk: first.id }, { fence: [3], adopt: [3] }),
    commit(4, [{ ...second }], [pack(3, 'a')]),
  );
  expect(from(state, open({ disk: undefined }, { adopt: [3] })).sessions.get(6)?.adopted).toEqual([3]);
  const condemned = from(state, { type: 'forget', backups: [second.id] }, collect({ packs: [pack(3, 'a')] }));
  expect(() => from(condemned, open({ disk: undefined }, { adopt: [3] }))).toThrow(corrupt);
  const gone = from(condemned, collect({ gonePacks: [pack(3, 'a')] }));
  expect(condemnationOf(gone, pack(3, 'a'))).toBeUndefined(); // No name is carried for ever ...
  expect(() => from(gone, open({ disk: undefined }, { adopt: [3] }))).toThrow(corrupt); // ... and none comes back.
});
