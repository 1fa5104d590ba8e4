import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BlockState } from '../../src/state/block-state.ts';
import { BlockStateMap, type BlockStates } from '../../src/state/block-state-map.ts';
import { property } from '../support/randomness.ts';
import { anyState, mapOf, recount, runsOf, someStates, statesOf } from './support/states.ts';

const code = (name: string) => expect.objectContaining({ name: 'BackupError', code: name });

const steps = fc.array(
  fc.record({
    firstBlock: fc.nat(59),
    blockCount: fc.oneof(fc.constant(1), fc.nat(40)),
    to: anyState,
    single: fc.boolean(),
  }),
  { maxLength: 60 },
);

describe('BlockStateMap', () => {
  test('a range goes to another state as a whole or not at all, and the counts are right after every step', () => {
    fc.assert(
      fc.property(steps, (list) => {
        const map = new BlockStateMap(60);
        const model: BlockState[] = Array.from({ length: 60 }, () => 'pending');
        for (const { firstBlock, blockCount, to, single } of list) {
          const count = single ? 1 : blockCount;
          const step = () => map.set(single ? firstBlock : { firstBlock, blockCount }, to);
          const inside = firstBlock + count <= 60;
          // One block at a time is what the table of states is tested with.
          const allowed = inside && model.slice(firstBlock, firstBlock + count).every((from) => maySet(from, to));
          if (allowed) {
            step();
            model.fill(to, firstBlock, firstBlock + count);
          } else {
            expect(step).toThrow(code(inside ? 'INVALID_TRANSITION' : 'OUT_OF_RANGE'));
          }
          expect(map.counts).toEqual(recount(model));
        }
        expect(statesOf(map)).toEqual(model);
      }),
      property(300),
    );
  });

  test('ranges are the runs of the states asked for, of all when none is named', () => {
    fc.assert(
      fc.property(someStates, fc.subarray(['pending', 'stored', 'lost', 'zero'] as const), (states, wanted) => {
        const expected = runsOf(states, Object.is)
          .filter(({ value }) => wanted.length === 0 || (wanted as BlockState[]).includes(value))
          .map(({ first, count, value }) => ({ firstBlock: first, blockCount: count, state: value }));
        expect([...mapOf(states).ranges(...wanted)]).toEqual(expected);
      }),
      property(200),
    );
  });

  test('long runs are found and moved like short ones', () => {
    const blockCount = 300_000;
    const map = new BlockStateMap(blockCount);
    map.set({ firstBlock: 70_000, blockCount: 140_000 }, 'storing');
    map.set(140_000, 'stored');
    map.set({ firstBlock: 0, blockCount: 70_000 }, 'inherited');
    expect([...map.ranges()]).toEqual([
      { firstBlock: 0, blockCount: 70_000, state: 'inherited' },
      { firstBlock: 70_000, blockCount: 70_000, state: 'storing' },
      { firstBlock: 140_000, blockCount: 1, state: 'stored' },
      { firstBlock: 140_001, blockCount: 69_999, state: 'storing' },
      { firstBlock: 210_000, blockCount: 90_000, state: 'pending' },
    ]);
    expect(map.counts).toMatchObject({ inherited: 70_000, storing: 139_999, stored: 1, pending: 90_000 });
    expect(() => map.set({ firstBlock: 140_001, blockCount: 159_999 }, 'stored')).toThrow(code('INVALID_TRANSITION'));
    expect(map.counts.stored).toBe(1);
  });

  test('a clone has the states of its moment, and neither follows the other', () => {
    fc.assert(
      fc.property(someStates, (states) => {
        const map = mapOf([...states, 'pending', 'pending']);
        const clone = map.clone();
        map.set(states.length, 'lost');
        clone.set(states.length + 1, 'zero');
        expect(statesOf(clone)).toEqual([...states, 'pending', 'zero']);
        expect(statesOf(map)).toEqual([...states, 'lost', 'pending']);
        expect([clone.counts, map.counts]).toEqual([recount(statesOf(clone)), recount(statesOf(map))]);
      }),
      property(100),
    );
  });

  test('diff gives every block that differs, in coalesced ascending runs with both states', () => {
    const pairs = fc.tuple(someStates, someStates).map(([a, b]) => {
      const length = Math.min(a.length, b.length);
      return [a.slice(0, length), b.slice(0, length)] as const;
    });
    fc.assert(
      fc.property(pairs, fc.boolean(), ([before, after], foreign) => {
        const changes = before.map((from, block) => ({ from, to: after[block] as BlockState }));
        const expected = runsOf(changes, (a, b) => a.from === b.from && a.to === b.to)
          .filter(({ value }) => value.from !== value.to)
          .map(({ first, count, value }) => ({ firstBlock: first, blockCount: count, ...value }));
        const previous = foreign ? foreignStates(before) : mapOf(before);
        expect([...mapOf(after).diff(previous)]).toEqual(expected);
      }),
      property(300),
    );
  });

  test('diff finds a single block anywhere in a long map', () => {
    const size = 5000;
    const before = new BlockStateMap(size);
    for (let block = 0; block < size; block += 7) {
      const after = before.clone();
      after.set(block, 'storing');
      expect([...after.diff(before)]).toEqual([{ firstBlock: block, blockCount: 1, from: 'pending', to: 'storing' }]);
    }
  });

  test('a block that is written differently between both maps is one run, whatever lies around it', () => {
    for (let start = 0; start < 40; start++) {
      for (let length = 1; length < 40; length += 3) {
        const before = new BlockStateMap(90, 'preserved');
        const after = before.clone();
        after.set({ firstBlock: start, blockCount: length }, 'lost');
        const run = { firstBlock: start, blockCount: length };
        expect([...after.diff(before)]).toEqual([{ ...run, from: 'preserved', to: 'lost' }]);
      }
    }
  });

  test('maps of different sizes are not compared', () => {
    expect(() => [...new BlockStateMap(5).diff(new BlockStateMap(6))]).toThrow(TypeError);
  });

  test('what is no block of the map is refused', () => {
    const map = new BlockStateMap(10);
    for (const block of [10, -1, 1.5, 2 ** 40]) expect(() => map.get(block)).toThrow(code('OUT_OF_RANGE'));
    expect(() => map.set(10, 'zero')).toThrow(code('OUT_OF_RANGE'));
    expect(() => map.set({ firstBlock: 5, blockCount: 6 }, 'zero')).toThrow(code('OUT_OF_RANGE'));
    for (const block of [-1, 1.5, Number.NaN]) expect(() => map.set(block, 'zero')).toThrow(TypeError);
    expect(() => map.set({ firstBlock: 3, blockCount: -1 }, 'zero')).toThrow(TypeError);
    expect(() => map.set(1, 'gone' as never)).toThrow(TypeError);
    map.set({ firstBlock: 10, blockCount: 0 }, 'zero');
    expect(map.counts).toEqual(recount(Array.from({ length: 10 }, () => 'pending')));
  });

  test('refuses a number of blocks, or a first state, that is none', () => {
    for (const count of [-1, 0.5, Number.NaN, 2 ** 32 + 1, '5' as never]) {
      expect(() => new BlockStateMap(count)).toThrow(TypeError);
    }
    expect(() => new BlockStateMap(5, 'gone' as never)).toThrow(TypeError);
    expect([...new BlockStateMap(0).ranges()]).toEqual([]);
    expect(new BlockStateMap(3, 'zero').counts.zero).toBe(3);
  });
});

function maySet(from: BlockState, to: BlockState): boolean {
  try {
    new BlockStateMap(1, from).set(0, to);
    return true;
  } catch {
    return false;
  }
}

/** States of somebody else's making, such as those of a second copy of this package. */
function foreignStates(states: readonly BlockState[]): BlockStates {
  const map = mapOf(states);
  return {
    blockCount: map.blockCount,
    counts: map.counts,
    countsIn: (blocks) => map.countsIn(blocks),
    get: (block) => map.get(block),
    ranges: (...wanted) => map.ranges(...wanted),
    clone: () => map.clone(),
    diff: (previous) => map.diff(previous),
    encode: () => map.encode(),
  };
}
