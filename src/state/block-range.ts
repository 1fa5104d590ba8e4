/** A run of blocks. Its field names differ from those of a byte range on purpose. @public */
export interface BlockRange {
  readonly firstBlock: number;
  readonly blockCount: number;
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
