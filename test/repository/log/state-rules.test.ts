import { describe, expect, test } from 'vitest';
import { decodeCheckpoint, encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { isKnown } from '../../../src/repository/format/log-state.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { withCode } from '../../support/with-code.ts';
import {
  backup,
  backupId,
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
  after as stateAfter,
} from './support/facts.ts';

/** What `docs/FORMAT.md`, section 8, says of the state, where a reader might have guessed otherwise. */

const corrupt = withCode('LOG_CORRUPT');
const first = backup(pack(1, 'a'));
const once = stateAfter(open(), commit(1, [first], [pack(1, 'a'), pack(1, 'b')]));
const numbers = (sessions: ReadonlyMap<number, unknown>) => [...sessions.keys()];

describe('a session', () => {
  test('that commits, aborts or collects is over: it is neither open nor fenced', () => {
    const ends: [ReturnType<typeof stateAfter>, LogFact][] = [
      [stateAfter(open()), commit(1, [first], [pack(1, 'a')])],
      [stateAfter(open()), { type: 'abort', session: 1 }],
      [stateAfter(open({})), collect({ session: 1, newPacks: [pack(1, 'm')] })],
    ];
    for (const [state, end] of ends) {
      const { sessions, fenced } = from(state, end);
      expect([numbers(sessions), numbers(fenced)]).toEqual([[], []]);
    }
  });

  test('that was adopted stays fenced, also when its adopter has ended; a commit leaves it without its volume', () => {
    const adopting = stateAfter(open(), open({ disk: undefined }, { fence: [1], adopt: [1] }));
    expect(numbers(adopting.fenced)).toEqual([1]);
    const committed = from(adopting, commit(2, [first], [pack(1, 'a')]));
    expect([numbers(committed.sessions), numbers(committed.fenced)]).toEqual([[], [1]]);
    expect(committed.fenced.get(1)?.volumes.size).toBe(0);
    expect(from(committed, open({ other: undefined }, { adopt: [1] })).sessions.get(4)?.adopted).toEqual([1]);
    const aborted = from(adopting, { type: 'abort', session: 2 });
    expect([...(aborted.fenced.get(1)?.volumes.keys() ?? [])]).toEqual(['disk']);
  });

  test('of a group that was adopted stays fenced for the volumes that its adopter has not committed', () => {
    const adopting = stateAfter(
      open({ disk: undefined, other: undefined }),
      open({ disk: undefined }, { fence: [1], adopt: [1] }),
    );
    const committed = from(adopting, commit(2, [first], [pack(1, 'a')]));
    expect([...(committed.fenced.get(1)?.volumes.keys() ?? [])]).toEqual(['other']);
    expect(from(committed, open({ other: undefined }, { adopt: [1] })).sessions.get(4)?.adopted).toEqual([1]);
  });

  test('of a repacker lists packs of its own and of those that it adopted, and of no others', () => {
    const repacking = stateAfter(open({}), open({}, { fence: [1], adopt: [1] }));
    const state = from(repacking, collect({ session: 2, newPacks: [pack(1, 'm'), pack(2, 'n')] }));
    expect([isKnown(state, pack(1, 'm')), isKnown(state, pack(2, 'n'))]).toEqual([true, true]);
    expect(() => from(stateAfter(open({}), open({})), collect({ session: 2, newPacks: [pack(1, 'm')] }))).toThrow(
      corrupt,
    );
  });
});

describe('a table of packs', () => {
  const table = { id: id32(), location: location(pack(1, 'a'), 5000), packs: 2 };
  const tabled = stateAfter(open(), commit(1, [first], [pack(1, 'a')], [table]));

  test('makes every pack of its session known that is not dead, without being read', () => {
    expect(isKnown(tabled, pack(1, 'x'))).toBe(true);
    const state = from(tabled, collect({ packs: [nameOf(pack(1, 'x'))] }));
    expect([...(state.known.get(1)?.dead ?? [])]).toEqual([pack(1, 'x').random]);
    expect(() => from(state, collect({ packs: [nameOf(pack(1, 'x'))] }))).toThrow(corrupt);
    expect(isKnown(from(state, collect({ packs: [nameOf(pack(1, 'y'))] })), pack(1, 'y'))).toBe(false);
  });

  test('keeps the names of dead packs as long as it is there itself, also once they are gone', () => {
    const dead = from(
      tabled,
      collect({ packs: [nameOf(pack(1, 'x'))] }),
      collect({ gonePacks: [nameOf(pack(1, 'x'))] }),
    );
    expect(dead.known.get(1)?.dead.size).toBe(1);
    const ended = from(dead, { type: 'forget', backups: [first.id] }, collect({ packs: [nameOf(pack(1, 'a'))] }));
    expect(ended.known.has(1)).toBe(false);
  });
});

// L9: by its id alone its page is found.
test('the id of a backup ends in digits of its volume', () => {
  const descriptor = { ...first.descriptor, root: undefined };
  const other = { ...first, id: backupId('other'), descriptor };
  expect(() => from(stateAfter(open()), commit(1, [other], []))).toThrow(corrupt);
  expect(
    from(stateAfter(open({ other: undefined })), commit(1, [{ ...other, volume: 'other' }], [])).backups.size,
  ).toBe(1);
});

test('the id of a backup is that of no live and no pinned one; a forgotten one does not count', () => {
  const again = (state: ReturnType<typeof stateAfter>, session: number) => {
    const descriptor = { ...first.descriptor, root: undefined };
    return from(state, commit(session, [{ ...first, parent: first.id, base: undefined, descriptor }], []));
  };
  expect(() => again(from(once, open()), 3)).toThrow('committed twice');
  const forgotten = from(once, open(), { type: 'forget', backups: [first.id] });
  expect(again(forgotten, 3).backups.get(first.id)?.session).toBe(3);
  const pinned = from(once, open({ disk: first.id }), { type: 'forget', backups: [first.id] });
  expect(() => again(pinned, 3)).toThrow('committed twice');
});

test('holds: a second one replaces the first; nothing that is not held is released, nothing that is held is forgotten', () => {
  const hold = (reason?: string): LogFact => ({ type: 'hold', backups: [first.id], reason });
  const release: LogFact = { type: 'release', backups: [first.id] };
  expect(from(once, hold('a'), hold('b')).backups.get(first.id)?.hold?.reason).toBe('b');
  expect(() => from(once, release)).toThrow(corrupt);
  expect(() => from(once, hold(), { type: 'forget', backups: [first.id] })).toThrow(corrupt);
  expect(() => from(once, { type: 'hold', backups: [hexId()], reason: undefined })).toThrow(corrupt);
});

test('packs need not be known to be quarantined, nor quarantined to be released; what is in both lists is released', () => {
  const unknown = nameOf(pack(9, 'z'));
  const state = from(once, { type: 'config', quarantine: [unknown], release: [nameOf(pack(1, 'a'))] });
  expect([...state.quarantined.keys()]).toEqual([packKey(unknown)]);
  expect(from(state, { type: 'config', quarantine: [unknown], release: [unknown] }).quarantined.size).toBe(0);
  const condemned = from(once, { type: 'config', quarantine: [nameOf(pack(1, 'b'))], release: [] });
  expect(from(condemned, collect({ packs: [nameOf(pack(1, 'b'))] })).quarantined.size).toBe(0);
});

test('a slot that one entry adds and removes is removed', () => {
  const slot = '0123456789abcdef';
  const state = from(once, { type: 'keys', added: [slot], removed: [slot] });
  expect([[...state.keySlots], [...state.removedSlots]]).toEqual([[], [slot]]);
});

describe('a pack gets a new relocation table', () => {
  const [b, m, n] = [pack(1, 'b'), pack(3, 'm'), pack(5, 'n')];
  const moved = from(
    once,
    open({}),
    collect({ session: 3, newPacks: [m], packs: [nameOf(b)], relocate: [relocation(b, m)] }),
    open({}),
  );

  test('if it was relocated before, also where this entry condemns the pack of its old table', () => {
    const state = from(
      moved,
      collect({ session: 5, newPacks: [n], packs: [nameOf(m)], relocate: [relocation(b, n), relocation(m, n)] }),
    );
    expect([...state.relocations.keys()].toSorted()).toEqual([packKey(b), packKey(m)].toSorted());
    expect(state.relocations.get(packKey(b))?.location.pack).toEqual(nameOf(n));
    expect(state.formerRelocations.get(packKey(b))?.[0]?.location.pack).toEqual(nameOf(m));
  });

  test('and not if its relocation had ended before', () => {
    const ended = from(moved, collect({ packs: [nameOf(m)] }));
    expect(ended.relocations.size).toBe(0);
    expect(() => from(ended, collect({ session: 5, newPacks: [n], relocate: [relocation(b, n)] }))).toThrow(corrupt);
  });
});

test('a checkpoint says all of this again', async () => {
  const table = { id: id32(), location: location(pack(1, 'a'), 5000), packs: 2 };
  const state = from(
    stateAfter(open(), commit(1, [first], [pack(1, 'a')], [table]), open({ disk: first.id })),
    open({ disk: first.id }, { fence: [3], adopt: [3] }),
    { type: 'forget', backups: [first.id] },
    { type: 'config', quarantine: [nameOf(pack(9, 'z'))], release: [] },
    collect({ packs: [nameOf(pack(1, 'x'))] }),
  );
  const bytes = (await encodeCheckpoint(undefined, state)) as Uint8Array;
  expect({ ...(await decodeCheckpoint(undefined, state.seq, bytes)) }).toEqual({ ...state });
});
