import { randomInt } from 'node:crypto';
import type { BlockRange } from '../../common/block-range.ts';
import { BackupError } from '../../common/errors.ts';
import { letOthersRun } from '../../common/event-loop-turns.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import type { SealPool } from '../packs/seal-pool/seal-pool.ts';
import type { ComparedBase } from './base-comparison.ts';

/** What {@link findLies} looks at. */
export interface SampleRequest {
  readonly snapshot: VolumeSnapshot;
  readonly pool: SealPool;
  readonly base: ComparedBase;
  /** What change tracking calls unchanged since the base. */
  readonly unchanged: readonly BlockRange[];
  /** How many blocks to look at, fetching what is needed; `undefined`: some of those that need no request. */
  readonly sampleBlocks: number | undefined;
  readonly signal: AbortSignal;
}

const DEFAULT_SAMPLE = 32;

/**
 * Reads a random sample of the blocks that change tracking calls unchanged and compares it with the base: Benji's idea.
 * A write that went past the volume, to the device underneath, shows in no change tracking.
 *
 * @returns the blocks that are not what the base has, ascending
 */
export async function findLies(request: SampleRequest): Promise<number[]> {
  const { snapshot, base, pool, signal, sampleBlocks = DEFAULT_SAMPLE } = request;
  const blocks = await sampleOf(request.unchanged, sampleBlocks);
  const lies: number[] = [];
  if (blocks.length === 0) return lies;
  using slot = await pool.acquire({ signal });
  for (const block of blocks) {
    const [expected] = await base.idsOf(block, 1, { signal, mayFetch: request.sampleBlocks !== undefined });
    if (expected === 'unknown') continue;
    const { blockSize, size } = snapshot;
    const length = Math.min(blockSize, size - block * blockSize);
    try {
      await snapshot.read(block * blockSize, slot.input.subarray(0, length), { signal });
    } catch (error) {
      if (BackupError.is(error, 'BLOCK_LOST') || BackupError.is(error, 'BLOCK_RELEASED')) continue;
      throw error;
    }
    const [found] = await pool.identify(slot, [length], { signal });
    const isSame =
      found === undefined || expected === undefined ? found === expected : !Buffer.compare(found, expected);
    if (!isSame) lies.push(block);
  }
  return lies.sort((a, b) => a - b);
}

async function sampleOf(ranges: readonly BlockRange[], count: number): Promise<number[]> {
  let total = 0;
  for (const { blockCount } of ranges) {
    total += blockCount;
    await letOthersRun();
  }
  // Places among all of these blocks, in order.
  const places = Array.from({ length: Math.min(count, total) }, () => randomInt(total)).sort((a, b) => a - b);
  const chosen = new Set<number>();
  let next = 0;
  let before = 0;
  for (const { firstBlock, blockCount } of ranges) {
    for (; next < places.length && places[next]! < before + blockCount; next++) {
      chosen.add(firstBlock + places[next]! - before);
    }
    if (next === places.length) break;
    before += blockCount;
    await letOthersRun();
  }
  return [...chosen];
}
