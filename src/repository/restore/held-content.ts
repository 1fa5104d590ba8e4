import { randomInt } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import type { ByteRanges } from '../../common/byte-ranges.ts';
import { letOthersRun } from '../../common/event-loop-turns.ts';
import { openMap, type RepositoryContext } from '../context/repository-context.ts';
import type { StoredBackup } from '../format/log-state.ts';
import { BlockMap } from '../map/block-map.ts';
import { BlockSet } from './block-set.ts';
import { differingBlocks } from './compared-blocks.ts';
import { forgottenOr } from './forgotten-or.ts';
import type { RestoreDevice } from './restore-device.ts';
import type { StoredSource } from './restore-source.ts';
import { eachWindow } from './restore-windows.ts';

/** What a device is said to hold: what has to be written then, and whether it is so. */

/** One in so many of the blocks that are left alone is looked at. */
const SAMPLED_ONE_IN = 64;
const LEAST_SAMPLE = 64;
const MOST_SAMPLE = 4096;
/** In a large volume neighbours are looked at together: every leaf of the map that is needed costs a request. */
const NEIGHBOURS = 16;

/**
 * The blocks of `requested` that differ between what the device is said to hold and the backup; those of which only a part
 * is requested are always among them. `undefined` where the two can't be compared by their maps.
 */
export async function blocksToWrite(
  context: RepositoryContext,
  source: StoredSource,
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
          await letOthersRun();
        }
      }
    });
    return differ;
  }
  if (held.descriptor.blockSize !== blockSize) return undefined;
  const heldMap = openMap(context, held.descriptor);
  try {
    await source.explaining(async () => {
      for await (const range of BlockMap.diff(heldMap, map, { exact: true, signal })) {
        await differ.addCommon(range, requested);
      }
    });
  } catch (error) {
    throw forgottenOr(context.log.state, held.id, error);
  }
  return differ;
}

/**
 * Reads a sample of blocks that would be left alone: the first, the last, and some by chance that are spread over the volume.
 *
 * @returns the first one that is found not to be what it should, if any
 */
export async function findUnlike(
  source: StoredSource,
  device: RestoreDevice,
  unchanged: BlockSet,
  ranges: ByteRanges,
  options: AbortOptions,
): Promise<number | undefined> {
  const unlike: number[] = [];
  await eachWindow(
    source,
    ranges,
    await sampleOf(unchanged),
    async (window, each) => {
      if (unlike.length > 0) return;
      for (const { block } of await differingBlocks(source, device, window, each)) unlike.push(block);
    },
    options,
  );
  return unlike.length === 0 ? undefined : Math.min(...unlike);
}

/** Blocks at the edges of what is requested. */
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
  // Places among the blocks of the set, in order: a group by chance in each of as many equal parts.
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
      // Neighbours end where their range does.
      const to = Math.min(group.to, before + blockCount);
      sample.add({ firstBlock: firstBlock + group.from - before, blockCount: to - group.from });
    }
    before += blockCount;
    await letOthersRun();
  }
  return sample;
}
