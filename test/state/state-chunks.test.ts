import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BLOCK_STATES, type BlockState, StateByte } from '../../src/state/block-state.ts';
import { BlockStateMap, maskOf, nextInStates, type StateRange } from '../../src/state/block-state-map.ts';
import { CHUNK_BITS } from '../../src/state/state-chunks.ts';
import { property } from '../support/randomness.ts';
import { anyState } from './support/states.ts';

/** Maps of several chunks: what crosses from one into the next, and what maps have in common. */

const CHUNK = 2 ** CHUNK_BITS;
const BLOCKS = 3 * CHUNK + 100;

// Places near the borders of chunks, where something may go wrong.
const place = fc
  .tuple(fc.nat(3), fc.integer({ min: -3, max: 3 }))
  .map(([chunk, near]) => Math.min(BLOCKS, Math.max(0, chunk * CHUNK + near)));
const steps = fc.array(fc.record({ from: place, to: place, state: anyState, clones: fc.boolean() }), { maxLength: 20 });

/** A map, and what it ought to hold: a byte each. */
interface Pair {
  readonly map: BlockStateMap;
  readonly model: Uint8Array;
}

function step({ map, model }: Pair, from: number, to: number, state: BlockState): void {
  const range = { firstBlock: Math.min(from, to), blockCount: Math.abs(to - from) };
  const blocks = model.subarray(range.firstBlock, range.firstBlock + range.blockCount);
  try {
    map.set(range, state);
  } catch {
    return; // Which steps are refused is tested elsewhere; that nothing has changed shows below.
  }
  blocks.fill(StateByte[state]);
}

function stateRuns(model: Uint8Array): StateRange[] {
  const runs: StateRange[] = [];
  for (let at = 0; at < model.length; ) {
    const firstBlock = at;
    while (at < model.length && model[at] === model[firstBlock]) at++;
    const state = BLOCK_STATES[model[firstBlock] as number] as BlockState;
    runs.push({ firstBlock, blockCount: at - firstBlock, state });
  }
  return runs;
}

describe('a map of several chunks', () => {
  test('and each of its clones hold what they ought to, whichever of them changes', async () => {
    await fc.assert(
      fc.asyncProperty(steps, anyState, async (list, initial) => {
        const pairs: Pair[] = [
          { map: new BlockStateMap(BLOCKS, initial), model: new Uint8Array(BLOCKS).fill(StateByte[initial]) },
        ];
        for (const [index, { from, to, state, clones }] of list.entries()) {
          const pair = pairs[index % pairs.length] as Pair;
          if (clones && pairs.length < 4) pairs.push({ map: pair.map.clone(), model: pair.model.slice() });
          step(pair, from, to, state);
        }
        for (const { map, model } of pairs) {
          const runs = stateRuns(model);
          expect([...map.ranges()]).toEqual(runs);
          for (const state of BLOCK_STATES) {
            const inState = runs.filter((run) => run.state === state);
            expect(map.counts[state]).toBe(inState.reduce((sum, { blockCount }) => sum + blockCount, 0));
            expect([...map.ranges(state)]).toEqual(inState);
            const [from, to] = [Math.floor(model.length / 5), Math.floor(model.length * 0.7)];
            const part = model.subarray(from, to).filter((byte) => byte === StateByte[state]).length;
            expect(map.countsIn({ firstBlock: from, blockCount: to - from })[state]).toBe(part);
          }
          expect([...(await BlockStateMap.decode(await map.encode())).diff(map)]).toEqual([]);
        }
        const [before, after] = [pairs[0] as Pair, pairs.at(-1) as Pair];
        const changed = before.model.slice();
        for (const { firstBlock, blockCount, from, to } of after.map.diff(before.map)) {
          const blocks = changed.subarray(firstBlock, firstBlock + blockCount);
          expect(from).not.toBe(to);
          expect(Buffer.compare(blocks, new Uint8Array(blockCount).fill(StateByte[from]))).toBe(0);
          blocks.fill(StateByte[to]);
        }
        expect(Buffer.compare(changed, after.model)).toBe(0);
      }),
      property(25),
    );
  });

  test('finds the next block in some states from any place on', () => {
    const map = new BlockStateMap(BLOCKS);
    map.set({ firstBlock: 0, blockCount: BLOCKS }, 'storing');
    for (const block of [5, CHUNK + 7, BLOCKS - 1]) map.set(block, 'stored');
    const stored = maskOf(['stored', 'lost']);
    expect(nextInStates(map, 0, BLOCKS, stored)).toBe(5);
    expect(nextInStates(map, 5, BLOCKS, stored)).toBe(5);
    expect(nextInStates(map, 6, BLOCKS, stored)).toBe(CHUNK + 7);
    expect(nextInStates(map, 6, CHUNK + 7, stored)).toBe(CHUNK + 7);
    expect(nextInStates(map, CHUNK + 8, BLOCKS, stored)).toBe(BLOCKS - 1);
    expect(nextInStates(map, BLOCKS, BLOCKS, stored)).toBe(BLOCKS);
    // States of another copy of this package have no chunks.
    const foreign = { blockCount: BLOCKS, get: (block: number) => map.get(block) } as unknown as BlockStateMap;
    expect(nextInStates(foreign, 6, BLOCKS, stored)).toBe(CHUNK + 7);
  });
});

test('the largest map there may be is marked, copied and compared like a small one', async () => {
  const blockCount = 2 ** 32;
  const map = new BlockStateMap(blockCount);
  const before = map.clone();
  map.set({ firstBlock: 3, blockCount: blockCount - 3 }, 'inherited');
  expect([...map.diff(before)]).toEqual([
    { firstBlock: 3, blockCount: blockCount - 3, from: 'pending', to: 'inherited' },
  ]);
  expect([...map.ranges()]).toHaveLength(2);
  expect(() => map.set({ firstBlock: 0, blockCount }, 'zero')).toThrow("block 3 can't go from inherited to zero");
  expect((await BlockStateMap.decode(await map.encode(), { maxBlocks: blockCount })).counts).toEqual(map.counts);
});
