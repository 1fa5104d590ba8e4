import type { AbortOptions } from '../../common/abort.ts';
import type { BlockRange } from '../../common/block-range.ts';
import type { ByteRange } from '../../common/byte-range.ts';
import type { ByteRanges } from '../../common/byte-ranges.ts';
import { letOthersRun } from '../../common/event-loop-turns.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import type { BlockSet } from './block-set.ts';
import type { RestoreSource } from './restore-source.ts';

/** A restore goes through a volume window by window, so that it needs no more memory for a large one. */

/** A block that is to be restored, or a part of it. */
export interface PlacedBlock {
  readonly block: number;
  /** `undefined` for zeroes. */
  readonly entry: BlockEntry | undefined;
  /** All of its bytes, on the device. */
  readonly span: ByteRange;
  /** Those of them that are asked for. */
  readonly parts: readonly ByteRange[];
  readonly isWhole: boolean;
}

/** Raw bytes of a window: large enough for its blocks to have neighbours in their packs. */
const WINDOW_BYTES = 32 * 1024 * 1024;
/** A scattered window has fewer blocks: each of its ranges is looked up by itself. */
const MAX_WINDOW_RANGES = 256;
const LOOKED_UP_AHEAD = 4;
const WINDOWS_AT_A_TIME = 2;

/**
 * Calls `work` for the blocks of a set, ascending by window, two windows at a time. Once something has failed nothing new
 * begins; rejects with that when all that had begun has ended.
 */
export async function eachWindow(
  source: RestoreSource,
  ranges: ByteRanges,
  blocks: BlockSet,
  work: (window: readonly PlacedBlock[], options: { readonly signal: AbortSignal }) => Promise<void>,
  { signal: given }: AbortOptions,
): Promise<void> {
  const failed = new AbortController();
  const signal = given === undefined ? failed.signal : AbortSignal.any([given, failed.signal]);
  const look = async (cut: readonly BlockRange[]): Promise<PlacedBlock[]> => {
    const each = await Promise.all(cut.map((range) => placed(source, ranges, range, signal)));
    await letOthersRun();
    return each.flat();
  };
  const windows = mapConcurrently(cutsOf(blocks, source.blockSize), look, LOOKED_UP_AHEAD);
  const loop = async () => {
    try {
      for (;;) {
        signal.throwIfAborted();
        const next = await windows.next();
        if (next.done === true) return;
        await work(next.value, { signal });
        await letOthersRun(); // A device and a target in memory answer without a turn of the event loop.
      }
    } catch (error) {
      failed.abort(error); // Only the first one counts: others are consequences of its abort.
    }
  };
  await Promise.all(Array.from({ length: WINDOWS_AT_A_TIME }, loop));
  await windows.return(undefined);
  given?.throwIfAborted();
  failed.signal.throwIfAborted();
}

async function placed(
  source: RestoreSource,
  ranges: ByteRanges,
  { firstBlock, blockCount }: BlockRange,
  signal: AbortSignal,
): Promise<PlacedBlock[]> {
  const { blockSize, size } = source;
  const entries = await source.lookup(firstBlock, blockCount, { signal });
  return entries.map((entry, index): PlacedBlock => {
    const block = firstBlock + index;
    const offset = block * blockSize;
    const span = { offset, length: Math.min(blockSize, size - offset) };
    const parts = ranges.within(offset, offset + span.length);
    return { block, entry, span, parts, isWhole: parts[0]?.length === span.length };
  });
}

function* cutsOf(blocks: BlockSet, blockSize: number): Generator<readonly BlockRange[]> {
  const most = Math.max(1, Math.floor(WINDOW_BYTES / blockSize));
  let cut: BlockRange[] = [];
  let room = most;
  for (const range of blocks.ranges()) {
    let { firstBlock, blockCount: left } = range;
    while (left > 0) {
      const blockCount = Math.min(left, room);
      cut.push({ firstBlock, blockCount });
      firstBlock += blockCount;
      left -= blockCount;
      room -= blockCount;
      if (room > 0 && cut.length < MAX_WINDOW_RANGES) continue;
      yield cut;
      cut = [];
      room = most;
    }
  }
  if (cut.length > 0) yield cut;
}
