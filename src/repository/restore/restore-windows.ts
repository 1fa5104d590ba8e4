import type { AbortOptions } from '../../common/abort.ts';
import type { BlockRange } from '../../common/block-range.ts';
import type { ByteRange, ByteRanges } from '../../common/byte-range.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import type { BlockSource } from './backup-reader.ts';
import type { BlockSet } from './block-set.ts';

/**
 * A restore goes through a volume in windows of up to 32 MiB, so that its memory does not grow with the volume. While two
 * windows are worked on, the next ones are looked up.
 */

/** A block that is to be restored, in whole or in part. */
export interface WindowBlock<Entry = BlockEntry> {
  readonly block: number;
  /** `undefined` for zeroes, and for a lost block, which is restored as zeroes. */
  readonly entry: Entry | undefined;
  /** All bytes of the block, by their offset on the device. */
  readonly span: ByteRange;
  /** The requested bytes of the block, by their offset on the device. */
  readonly parts: readonly ByteRange[];
  /** Whether all of its bytes are requested. */
  readonly isWhole: boolean;
}

/** Raw bytes of a window. It is large so that blocks that are neighbours in a pack fall into one window. */
const WINDOW_BYTES = 32 * 1024 * 1024;
/** Each range of a window is looked up by itself, so a window of scattered blocks has fewer of them. */
const MAX_WINDOW_RANGES = 256;
const LOOKED_UP_AHEAD = 4;
const WINDOWS_AT_A_TIME = 2;

/**
 * Calls `work` for the blocks of a set, ascending by window, two windows at a time. After a failure no new window begins; the
 * promise rejects with the first failure once all windows that had begun have ended.
 */
export async function eachWindow<Entry>(
  source: BlockSource<Entry>,
  ranges: ByteRanges,
  blocks: BlockSet,
  work: (window: readonly WindowBlock<Entry>[], options: { readonly signal: AbortSignal }) => Promise<void>,
  { signal: given }: AbortOptions,
): Promise<void> {
  const failed = new AbortController();
  const signal = given === undefined ? failed.signal : AbortSignal.any([given, failed.signal]);
  const look = async (cut: readonly BlockRange[]): Promise<WindowBlock<Entry>[]> => {
    const each = await Promise.all(cut.map((range) => windowBlocks(source, ranges, range, signal)));
    await yieldToEventLoop();
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
        await yieldToEventLoop(); // A device or target in memory may answer without yielding to the event loop.
      }
    } catch (error) {
      failed.abort(error); // Only the first failure counts: later ones follow from this abort.
    }
  };
  await Promise.all(Array.from({ length: WINDOWS_AT_A_TIME }, loop));
  await windows.return(undefined);
  given?.throwIfAborted();
  failed.signal.throwIfAborted();
}

async function windowBlocks<Entry>(
  source: BlockSource<Entry>,
  ranges: ByteRanges,
  { firstBlock, blockCount }: BlockRange,
  signal: AbortSignal,
): Promise<WindowBlock<Entry>[]> {
  const { blockSize, size } = source;
  const contents = await source.lookup(firstBlock, blockCount, { signal });
  return contents.map((content, index): WindowBlock<Entry> => {
    const block = firstBlock + index;
    const offset = block * blockSize;
    const span = { offset, length: Math.min(blockSize, size - offset) };
    const parts = ranges.within(offset, offset + span.length);
    const entry = content === 'zero' || content === 'lost' ? undefined : content;
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

/** Groups blocks with consecutive numbers, up to `mostBlocks` of them. */
export function neighbours<T extends { readonly block: number }>(blocks: readonly T[], mostBlocks: number) {
  return grouped(blocks, (each, { length }, last) => each.block === last.block + 1 && length + 1 <= mostBlocks);
}

/** Groups items that follow each other, as long as `joins` says that the next one belongs to the group. */
export function* grouped<T>(
  items: readonly T[],
  joins: (each: T, group: readonly T[], last: T) => boolean,
): Generator<T[]> {
  let group: T[] = [];
  for (const each of items) {
    if (group.length > 0 && !joins(each, group, group.at(-1) as T)) {
      yield group;
      group = [];
    }
    group.push(each);
  }
  if (group.length > 0) yield group;
}
