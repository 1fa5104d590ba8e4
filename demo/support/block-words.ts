import type { BlockState, BlockStates } from 'cow-cloud-backup';
import { count } from './figures.ts';

/** Where a block's content is, by its state. */
export const WHERE: Readonly<Record<BlockState, string>> = {
  pending: 'on the device still, not overwritten since the instant',
  preserved: 'overwritten; its pre-image is kept here',
  storing: 'on its way to the target',
  stored: 'in the target',
  zero: 'all zeroes, which need no storing',
  inherited: 'in the base',
  lost: 'lost',
};

/** For each state that there is, the first block from the middle on that is in it. */
export function samples(blockCount: number, stateOf: (block: number) => BlockState): Iterable<number> {
  const found = new Map<BlockState, number>();
  for (let block = blockCount >> 1; block < blockCount; block++) {
    const state = stateOf(block);
    if (!found.has(state)) found.set(state, block);
  }
  return found.values();
}

export function describeCounts(counts: BlockStates['counts']): string {
  const present = Object.entries(counts).filter(([, blocks]) => blocks > 0);
  return present.map(([state, blocks]) => `${count(blocks)} ${state}`).join(', ');
}
