import type { AbortOptions } from '../../common/abort.ts';
import type { BlockRange } from '../../common/block-range.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';

/** For less, asking costs as much as reading. */
const LEAST_ASKED_BYTES = 32 * 1024;

/**
 * Blocks of a range that the device says are zeroes at the snapshot's instant, ascending; none where it can't say. The
 * snapshot's answer counts as a read does: it looks again whether a block was overwritten meanwhile (R4).
 */
export async function holesOf(
  snapshot: VolumeSnapshot,
  { firstBlock, blockCount }: BlockRange,
  options: AbortOptions,
): Promise<BlockRange[]> {
  const { blockSize, size, volume } = snapshot;
  const start = firstBlock * blockSize;
  const end = Math.min(size, start + blockCount * blockSize);
  if (volume.extents === undefined || end - start < LEAST_ASKED_BYTES) return [];
  const holes: BlockRange[] = [];
  let hole = { from: start, to: start };
  const close = () => {
    const first = Math.ceil(hole.from / blockSize);
    // The volume's last block may be short.
    const past = hole.to === size ? Math.ceil(size / blockSize) : Math.floor(hole.to / blockSize);
    if (past > first) holes.push({ firstBlock: first, blockCount: past - first });
  };
  try {
    for await (const { offset, length, kind } of snapshot.extents(start, end - start, options)) {
      if (kind !== 'zero') continue;
      if (offset !== hole.to) {
        close();
        hole = { from: offset, to: offset };
      }
      hole.to = offset + length;
    }
    close();
  } catch {
    return []; // What keeps the blocks from being read shows when they are read.
  }
  return holes;
}
