import fc from 'fast-check';
import { BLOCK_STATES, type BlockState } from '../../../src/state/block-state.ts';
import { BlockStateMap } from '../../../src/state/block-state-map.ts';

export const anyState = fc.constantFrom(...BLOCK_STATES);

/** States of up to some hundred blocks, in runs as they occur and one by one. */
export const someStates: fc.Arbitrary<BlockState[]> = fc
  .array(fc.tuple(anyState, fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 200 }))), { maxLength: 12 })
  .map((runs) => runs.flatMap(([state, length]) => Array.from({ length }, () => state)));

/** How a block gets from `pending` to a state. */
const WAYS: Readonly<Record<BlockState, readonly BlockState[]>> = {
  pending: [],
  preserved: ['preserved'],
  storing: ['storing'],
  stored: ['storing', 'stored'],
  inherited: ['inherited'],
  zero: ['zero'],
  lost: ['lost'],
};

/** A map with these states, by steps that are allowed. */
export function mapOf(states: readonly BlockState[]): BlockStateMap {
  const map = new BlockStateMap(states.length);
  for (const [block, state] of states.entries()) {
    for (const step of WAYS[state]) map.set(block, step);
  }
  return map;
}

/** All states of a map, asked for one by one. */
export function statesOf(map: { readonly blockCount: number; get(block: number): BlockState }): BlockState[] {
  return Array.from({ length: map.blockCount }, (_, block) => map.get(block));
}

/** How often each state occurs. */
export function recount(states: readonly BlockState[]): Record<BlockState, number> {
  const counts = Object.fromEntries(BLOCK_STATES.map((state) => [state, 0])) as Record<BlockState, number>;
  for (const state of states) counts[state]++;
  return counts;
}

/** Runs of equal elements. */
export function runsOf<T>(
  list: readonly T[],
  same: (a: T, b: T) => boolean,
): { first: number; count: number; value: T }[] {
  const runs: { first: number; count: number; value: T }[] = [];
  for (const [at, value] of list.entries()) {
    const last = runs.at(-1);
    if (last !== undefined && same(last.value, value)) last.count++;
    else runs.push({ first: at, count: 1, value });
  }
  return runs;
}
