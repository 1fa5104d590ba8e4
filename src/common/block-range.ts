import { described, integerArgument } from './arguments.ts';

/** A run of blocks. Its field names differ from those of a byte range on purpose. @public */
export interface BlockRange {
  readonly firstBlock: number;
  readonly blockCount: number;
}

/** Returns one block, or a range of them, as a range; throws a `TypeError` for anything else. */
export function blockRangeArgument(name: string, value: BlockRange | number): BlockRange {
  if (typeof value === 'number') return { firstBlock: integerArgument(name, value, 0), blockCount: 1 };
  if (typeof value !== 'object' || value === null) {
    throw new TypeError(`${name} must be the number of a block or a range of blocks, not ${described(value)}`);
  }
  const firstBlock = integerArgument(`${name}.firstBlock`, value.firstBlock, 0);
  const blockCount = integerArgument(`${name}.blockCount`, value.blockCount, 0, Number.MAX_SAFE_INTEGER - firstBlock);
  return { firstBlock, blockCount };
}

/** The ascending, coalesced runs of blocks from 0 to `blockCount` for which `holds` is true. */
export function* rangesWhere(blockCount: number, holds: (block: number) => boolean): Generator<BlockRange> {
  let firstBlock = -1;
  for (let block = 0; block < blockCount; block++) {
    if (holds(block)) {
      if (firstBlock < 0) firstBlock = block;
    } else if (firstBlock >= 0) {
      yield { firstBlock, blockCount: block - firstBlock };
      firstBlock = -1;
    }
  }
  if (firstBlock >= 0) yield { firstBlock, blockCount: blockCount - firstBlock };
}
