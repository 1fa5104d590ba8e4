import { randomInt } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import type { ByteRanges } from '../../common/byte-range.ts';
import { isZero } from '../../common/bytes.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { RestoreDevice } from '../../device/restore-device.ts';
import { openMap, type RepositoryContext } from '../context/repository-context.ts';
import type { StoredBackup } from '../format/log-state.ts';
import { diffMaps } from '../map/diff.ts';
import { type BackupReader, type ComparableSource, explainMissingPack } from './backup-reader.ts';
import { BlockSet } from './block-set.ts';
import { eachWindow, neighbours, type WindowBlock } from './restore-windows.ts';

/**
 * How a restore skips blocks that the device already holds: by comparing the maps of two backups, when the caller says which
 * backup the device holds (a sample of blocks then checks that claim), or by reading the device.
 */

/** One in so many of the skipped blocks is checked. */
const SAMPLED_ONE_IN = 64;
const LEAST_SAMPLE = 64;
const MOST_SAMPLE = 4096;
/** In a large volume so many neighbours are checked together, because every leaf of the map costs a request. */
const NEIGHBOURS = 16;

/** Bytes read from a device with one call. */
const READ_BYTES = 1024 * 1024;

/**
 * The blocks of `requested` that differ between the backup and what the device holds according to the caller. Blocks of
 * which only a part is requested are always included. `undefined` if the maps cannot be compared.
 */
export async function blocksToWrite(
  context: RepositoryContext,
  source: BackupReader,
  held: StoredBackup | 'zeroes',
  requested: BlockSet,
  ranges: ByteRanges,
  { signal }: AbortOptions,
): Promise<BlockSet | undefined> {
  const { blockSize, size, map } = source;
  const differ = partlyRequested(ranges, blockSize, size);
  if (held === 'zeroes') {
    await source.explaining(async () => {
      for (const range of requested.ranges()) {
        for await (const { block } of map.entries(range, { signal })) {
          differ.add({ firstBlock: block, blockCount: 1 });
          await yieldToEventLoop();
        }
      }
    });
    return differ;
  }
  if (held.descriptor.blockSize !== blockSize) return undefined;
  const heldMap = openMap(context, held.descriptor);
  try {
    await source.explaining(async () => {
      for await (const range of diffMaps(heldMap, map, { exact: true, signal })) {
        await differ.addCommon(range, requested);
      }
    });
  } catch (error) {
    throw await explainMissingPack(context, held.id, error);
  }
  return differ;
}

/**
 * Reads a sample of the blocks that would be skipped: the first, the last, and random ones spread over the volume.
 *
 * @returns the first block that does not have the content of the backup, if there is one
 */
export async function findMismatch(
  source: BackupReader,
  device: RestoreDevice,
  unchanged: BlockSet,
  ranges: ByteRanges,
  options: AbortOptions,
): Promise<number | undefined> {
  const mismatches: number[] = [];
  await eachWindow(
    source,
    ranges,
    await sampleOf(unchanged),
    async (window, each) => {
      if (mismatches.length > 0) return;
      for (const { block } of await differingBlocks(source, device, window, each)) mismatches.push(block);
    },
    options,
  );
  return mismatches.length === 0 ? undefined : Math.min(...mismatches);
}

/** The blocks that lie only partly within the requested ranges. */
function partlyRequested(ranges: ByteRanges, blockSize: number, size: number): BlockSet {
  const partly = new BlockSet(Math.ceil(size / blockSize));
  for (const { offset, length } of ranges) {
    const end = offset + length;
    if (offset % blockSize !== 0) partly.add({ firstBlock: Math.floor(offset / blockSize), blockCount: 1 });
    if (end % blockSize !== 0 && end !== size) partly.add({ firstBlock: Math.floor(end / blockSize), blockCount: 1 });
  }
  return partly;
}

async function sampleOf(blocks: BlockSet): Promise<BlockSet> {
  const { size } = blocks;
  const count = Math.min(size, MOST_SAMPLE, Math.max(LEAST_SAMPLE, Math.ceil(size / SAMPLED_ONE_IN)));
  const neighbours = size <= MOST_SAMPLE ? 1 : NEIGHBOURS;
  const groups = Math.ceil(count / neighbours);
  const sample = new BlockSet(blocks.blockCount);
  // `from` and `to` count the blocks of the set: a random group in each of equally large parts of it.
  const wanted: { from: number; to: number }[] = [{ from: 0, to: 1 }];
  for (let group = 0; group < groups; group++) {
    const begin = Math.floor((group * size) / groups);
    const end = Math.floor(((group + 1) * size) / groups);
    const from = begin + randomInt(Math.max(1, end - begin - neighbours + 1));
    wanted.push({ from, to: Math.min(size, from + neighbours) });
  }
  wanted.push({ from: size - 1, to: size });
  let next = 0;
  let before = 0;
  for (const { firstBlock, blockCount } of blocks.ranges()) {
    for (let group = wanted[next]; group !== undefined && group.from < before + blockCount; group = wanted[++next]) {
      // A group does not go beyond the end of its range.
      const to = Math.min(group.to, before + blockCount);
      sample.add({ firstBlock: firstBlock + group.from - before, blockCount: to - group.from });
    }
    before += blockCount;
    await yieldToEventLoop();
  }
  return sample;
}

/** The blocks of a window that the device does not hold, compared by all of their bytes. */
export async function differingBlocks<Entry>(
  source: ComparableSource<Entry>,
  device: RestoreDevice,
  window: readonly WindowBlock<Entry>[],
  options: AbortOptions,
): Promise<WindowBlock<Entry>[]> {
  const differing: WindowBlock<Entry>[] = [];
  for (const run of neighbours(window, READ_BYTES / source.blockSize)) {
    const start = (run[0] as WindowBlock<Entry>).span.offset;
    const last = (run.at(-1) as WindowBlock<Entry>).span;
    // A device may end within the last block if only a part of it is requested: then what the device has is compared.
    const found = new Uint8Array(Math.min(last.offset + last.length, device.size) - start);
    await device.read(start, found, options);
    for (const each of run) {
      const { entry, span } = each;
      const bytes = found.subarray(span.offset - start, span.offset - start + span.length);
      const isSame = entry === undefined ? isZero(bytes) : await source.isContent(entry, bytes, options);
      if (!isSame) differing.push(each);
      await yieldToEventLoop();
    }
  }
  return differing;
}
