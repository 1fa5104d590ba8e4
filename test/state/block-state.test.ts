import { describe, expect, test } from 'vitest';
import { BLOCK_STATES, type BlockState, StateByte } from '../../src/state/block-state.ts';
import { BlockStateMap } from '../../src/state/block-state-map.ts';

/** Which states may follow which, as the comments of `block-state.ts` say in words. */
const DRAWN: Readonly<Record<BlockState, readonly BlockState[]>> = {
  pending: ['preserved', 'storing', 'inherited', 'zero', 'lost'],
  preserved: ['storing', 'inherited', 'zero', 'lost'],
  storing: ['stored', 'pending', 'preserved', 'zero', 'lost'],
  stored: [],
  inherited: [],
  zero: [],
  lost: [],
};

const pairs = BLOCK_STATES.flatMap((from) => BLOCK_STATES.map((to) => ({ from, to, drawn: DRAWN[from].includes(to) })));

describe('the states of a block', () => {
  test('have the bytes of the encoded form, which never change', () => {
    expect(BLOCK_STATES).toEqual(['pending', 'preserved', 'storing', 'stored', 'inherited', 'zero', 'lost']);
    expect(BLOCK_STATES.map((state) => StateByte[state])).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test.each(pairs.filter(({ drawn }) => drawn))('$from may become $to', ({ from, to }) => {
    const map = new BlockStateMap(3, from);
    map.set(1, to);
    expect([map.get(0), map.get(1), map.get(2)]).toEqual([from, to, from]);
  });

  test.each(pairs.filter(({ drawn }) => !drawn))('$from never becomes $to: INVALID_TRANSITION', ({ from, to }) => {
    const map = new BlockStateMap(3, from);
    const refused = expect.objectContaining({ name: 'BackupError', code: 'INVALID_TRANSITION' });
    expect(() => map.set(1, to)).toThrow(refused);
    expect(() => map.set({ firstBlock: 0, blockCount: 3 }, to)).toThrow(refused);
    expect([...map.ranges()]).toEqual([{ firstBlock: 0, blockCount: 3, state: from }]);
  });

  test('every pair of states has been asked about', () => {
    expect(pairs).toHaveLength(49);
    expect(pairs.filter(({ drawn }) => drawn)).toHaveLength(14);
  });
});
