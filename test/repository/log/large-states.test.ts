import { describe, expect, test } from 'vitest';
import { volumeSuffix } from '../../../src/repository/format/catalogue-pages.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { EMPTY_STATE, isKnown, type LogState } from '../../../src/repository/format/log-state.ts';
import type { HashedEntry } from '../../../src/repository/log/fold.ts';
import {
  backup,
  collect,
  commit,
  entryAfter,
  id32,
  location,
  nameOf,
  open,
  pack,
  after as stateAfter,
} from './support/facts.ts';
import { applyEntries, countedFold } from './support/fold-at-once.ts';

/** What folding costs: counted in steps (a step is one thing looked at), never in time. */

const name = (n: number) => n.toString(16).padStart(32, '0');
const idIn = (volume: string, n: number) => name(n).slice(8) + volumeSuffix(volume);
const packsOf = (session: number, count: number) =>
  Array.from({ length: count }, (_, n) => ({ ...pack(session, 'a'), random: name(n) }));

/** Facts as a chain of entries above a state. */
function chained(state: LogState, facts: readonly LogFact[]): HashedEntry[] {
  let above = { ...state };
  return facts.map((fact) => {
    const entry = entryAfter(above, fact);
    const hash = id32();
    above = { ...above, seq: entry.seq, hash };
    return { entry, hash };
  });
}

/** How many times as long a fold is when there is twice as much of everything. */
function growth(history: (size: number) => { before: LogState; facts: readonly LogFact[] }, size: number): number {
  const turns = [size, 2 * size].map((each) => {
    const { before, facts } = history(each);
    return countedFold(before, chained(before, facts)).turns;
  }) as [number, number];
  expect(turns[0]).toBeGreaterThan(0); // It would have let others run: nothing of this size is one step.
  return turns[1] / turns[0];
}

describe('twice as much is twice the work, not four times:', () => {
  test('a collection that condemns all of the 20,000 packs of a session but one', () => {
    const history = (size: number) => {
      const packs = packsOf(1, size);
      const before = stateAfter(open(), commit(1, [backup(packs[0]!)], packs));
      return { before, facts: [collect({ packs: packs.slice(1).map(nameOf) })] };
    };
    expect(growth(history, 10_000)).toBeLessThan(2.2);
    const { before, facts } = history(20_000);
    const state = applyEntries(before, chained(before, facts));
    expect(state.known.get(1)?.packs).toEqual(new Map([[name(0), expect.any(Object)]]));
    expect(state.condemned.size).toBe(19_999);
  });

  test('collections that condemn one pack of a large session each', () => {
    const history = (size: number) => {
      const packs = packsOf(1, size);
      const before = stateAfter(open(), commit(1, [backup(packs[0]!)], packs));
      return { before, facts: packs.slice(1).map((each) => collect({ packs: [nameOf(each)] })) };
    };
    expect(growth(history, 5000)).toBeLessThan(2.2);
  });

  test('sessions that open while thousands are open; forgetting while they have bases pinned', () => {
    expect(
      growth(
        (size) => ({
          before: EMPTY_STATE,
          facts: Array.from({ length: size }, (_, n) => open({ [`volume ${n}`]: undefined })),
        }),
        5000,
      ),
    ).toBeLessThan(2.2);
    const pinning = (size: number) => {
      const volumes = Array.from({ length: size }, (_, n) => `volume ${n}`);
      const packs = packsOf(1, 1);
      const backups = volumes.map((volume, n) => backup(packs[0]!, { id: idIn(volume, n), volume }));
      const before = stateAfter(
        open(Object.fromEntries(volumes.map((volume) => [volume, undefined]))),
        commit(1, backups, packs),
        open(Object.fromEntries(volumes.map((volume, n) => [volume, idIn(volume, n)]))),
      );
      return { before, facts: [...backups.map(({ id }) => ({ type: 'forget' as const, backups: [id] })), open({})] };
    };
    expect(growth(pinning, 3000)).toBeLessThan(2.2);
    const { before, facts } = pinning(3000);
    expect(applyEntries(before, chained(before, facts)).pinned.size).toBe(3000);
  });

  test('nightly collections of a log with many backups', () => {
    // Each night a backup, a collection of one pack, and what it condemned is gone the night after.
    const history = (nights: number) => {
      const facts: LogFact[] = [];
      let parent: string | undefined;
      for (let night = 0; night < nights; night++) {
        const session = 3 * night + 1;
        const packs = packsOf(session, 2);
        const one = backup(packs[0]!, { id: idIn('disk', night), parent });
        const gonePacks = night === 0 ? [] : [{ session: session - 3, random: name(1) }];
        facts.push(open(), commit(session, [one], packs), collect({ packs: [nameOf(packs[1]!)], gonePacks }));
        parent = one.id;
      }
      return { before: EMPTY_STATE, facts };
    };
    expect(growth(history, 2000)).toBeLessThan(2.2);
  });
});

test('sessions with tables among many without', () => {
  const holders = packsOf(1, 2);
  const table = (holder: (typeof holders)[number]) => ({ id: id32(), location: location(holder, 5000), packs: 9 });
  const tables = holders.map(table);
  const before = stateAfter(open(), commit(1, [backup(pack(1, 'z'))], [pack(1, 'z'), ...holders], tables));
  const facts = [{ pack: holders[0]! }, { pack: holders[1]! }].map((each) => collect({ packs: [nameOf(each.pack)] }));
  const listed = { session: 1, random: name(77) };
  const states = facts.map((_, count) => applyEntries(before, chained(before, facts.slice(0, count + 1))));
  expect(states.map((state) => [state.known.get(1)?.tables.length, isKnown(state, listed)])).toEqual([
    [1, true],
    [0, false],
  ]);
});
