import { randomInt } from 'node:crypto';
import { type BlockRange, collectRanges, subtractionOf, unionOf } from '../../common/block-range.ts';
import { BackupError } from '../../common/errors.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { BLOCK_STATES } from '../../state/block-state.ts';
import { maskOf, nextInStates } from '../../state/block-state-map.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import { openMap, type RepositoryContext } from '../context/repository-context.ts';
import type { SealPool } from '../packs/seal-pool/seal-pool.ts';
import { ComparedBase } from './base-comparison.ts';
import type { PinnedPart } from './open-session.ts';
import { damagedBlocksOf, needsRebuild } from './quarantined-base.ts';
import { type ChangeReason, writtenSinceBase } from './witnessed-commits.ts';

/** Where the knowledge of what changed came from. @public */
export type ChangeSource = 'tracked' | 'compared' | 'everything';

/** What has to be stored of one volume, and how that is known. */
export interface BackupPlan {
  readonly base: ComparedBase | undefined;
  /** The blocks that may differ from the base; `undefined` if that is not known. */
  readonly changed: readonly BlockRange[] | undefined;
  readonly changeSource: ChangeSource;
  /** Why change tracking is not used; `undefined` if it is. */
  readonly changeReason: ChangeReason | undefined;
  readonly warnings: readonly BackupError[];
}

export interface PlanRequest {
  readonly context: RepositoryContext;
  readonly part: PinnedPart;
  readonly snapshot: VolumeSnapshot;
  readonly pool: SealPool;
  /** See `sampleBlocks` of `BackupOptions`. */
  readonly sampleBlocks: number | undefined;
  readonly signal: AbortSignal;
}

const DEFAULT_SAMPLE_BLOCKS = 32;
/** The most blocks that are marked in one step: marking takes time for each pre-image among them. */
const MARKED_AT_ONCE = 2 ** 20;
const TAKEN_UP = maskOf(BLOCK_STATES.filter((state) => state !== 'pending' && state !== 'preserved'));

/**
 * Decides what of a volume has to be stored, and marks everything else `inherited`. Until it has decided, no block is given
 * up: pre-images are preserved for the whole volume.
 */
export async function planBackup(request: PlanRequest): Promise<BackupPlan> {
  const { context, part, snapshot, signal } = request;
  const { pinned } = part;
  if (pinned === undefined) return withoutBase('no-base');
  const map = openMap(context, pinned.descriptor);
  if (await needsRebuild(context, map, { signal })) return withoutBase('base-damaged');
  const written = await writtenSinceBase(snapshot.volume, snapshot.point, {
    repositoryId: context.format.repositoryId,
    base: pinned,
    newest: part.parent,
  });
  const isTracked = typeof written !== 'string';
  const base = new ComparedBase(context, map, { size: snapshot.size, isFetched: !isTracked });
  if (!isTracked) return compared(base, written);
  // R11: blocks that the base has lost, or holds in damaged packs, are stored again.
  const damaged = await damagedBlocksOf(context, map, { signal });
  const changed = await collectRanges(unionOf(written, pinned.descriptor.lost, damaged));
  const unchanged = await unchangedBlocks(snapshot, changed);
  const missed = await findUntrackedChanges(request, base, unchanged);
  if (missed.length > 0) {
    // What wrote past the volume once may have done so anywhere, so all unchanged blocks are read and compared.
    const blocks = missed.join(', ');
    const message = `change tracking reported blocks ${blocks} as unchanged, but they have changed; all contents were compared instead`;
    base.isFetched = true;
    return compared(base, 'tracking-wrong', [new BackupError('CHANGE_TRACKING_WRONG', message)]);
  }
  for (const range of unchanged) await markInherited(snapshot, base, range);
  return { base, changed, changeSource: 'tracked', changeReason: undefined, warnings: [] };
}

/** The blocks of a snapshot that are not among `changed`. */
export function unchangedBlocks(snapshot: VolumeSnapshot, changed: readonly BlockRange[]): Promise<BlockRange[]> {
  return collectRanges(subtractionOf([{ firstBlock: 0, blockCount: snapshot.states.blockCount }], changed));
}

function withoutBase(changeReason: ChangeReason): BackupPlan {
  return { base: undefined, changed: undefined, changeSource: 'everything', changeReason, warnings: [] };
}

function compared(base: ComparedBase, changeReason: ChangeReason, warnings: BackupError[] = []): BackupPlan {
  return { base, changed: undefined, changeSource: 'compared', changeReason, warnings };
}

/** Blocks that an earlier handle on a shared snapshot has found zero or lost keep that state, and still equal the base. */
async function markInherited(
  snapshot: VolumeSnapshot,
  base: ComparedBase,
  { firstBlock, blockCount }: BlockRange,
): Promise<void> {
  const { states } = snapshot;
  const end = firstBlock + blockCount;
  for (let block = firstBlock; block < end; ) {
    const state = states.get(block);
    if (state === 'pending' || state === 'preserved') {
      const next = nextInStates(states, block, Math.min(end, block + MARKED_AT_ONCE), TAKEN_UP);
      snapshot.mark({ firstBlock: block, blockCount: next - block }, 'inherited');
      block = next;
    } else {
      base.same(block++);
    }
    await yieldToEventLoop();
  }
}

/**
 * Reads a random sample of the blocks that change tracking reports as unchanged, and compares it with the base (an idea of
 * Benji's). Change tracking can't see a write that went past the volume, directly to the underlying device.
 *
 * @returns the blocks that differ from the base, ascending
 */
async function findUntrackedChanges(
  { snapshot, pool, signal, sampleBlocks }: PlanRequest,
  base: ComparedBase,
  unchanged: readonly BlockRange[],
): Promise<number[]> {
  const blocks = await sampleOf(unchanged, sampleBlocks ?? DEFAULT_SAMPLE_BLOCKS);
  const changed: number[] = [];
  if (blocks.length === 0) return changed;
  using slot = await pool.acquire({ signal });
  for (const block of blocks) {
    const [expected] = await base.idsOf(block, 1, { signal, mayFetch: sampleBlocks !== undefined });
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
    if (!isSame) changed.push(block);
  }
  return changed.sort((a, b) => a - b);
}

/** At most `count` random blocks of some ranges. */
async function sampleOf(ranges: readonly BlockRange[], count: number): Promise<number[]> {
  let total = 0;
  for (const { blockCount } of ranges) {
    total += blockCount;
    await yieldToEventLoop();
  }
  // Indices into the blocks of all ranges, ascending.
  const indices = Array.from({ length: Math.min(count, total) }, () => randomInt(total)).sort((a, b) => a - b);
  const chosen = new Set<number>();
  let next = 0;
  let before = 0;
  for (const { firstBlock, blockCount } of ranges) {
    for (; next < indices.length && indices[next]! < before + blockCount; next++) {
      chosen.add(firstBlock + indices[next]! - before);
    }
    if (next === indices.length) break;
    before += blockCount;
    await yieldToEventLoop();
  }
  return [...chosen];
}
