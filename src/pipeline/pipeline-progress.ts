import { type BlockRange, blockRangeArgument } from '../common/block-range.ts';
import type { BlockState } from '../state/block-state.ts';
import type { BlockStates } from '../state/block-state-map.ts';
import type { VolumeSnapshot } from '../volume/volume-snapshot.ts';

/**
 * What a pipeline is doing, or how it has ended.
 *
 * - `lazy`: only blocks that are about to be overwritten are stored
 * - `sweeping`: the remaining blocks are stored too, in order
 * - `paused`: no call of `store` begins; blocks that are overwritten are still preserved
 * - `complete`, `failed`, `aborted`: the pipeline has ended, see `done`
 *
 * @public
 */
export type PipelineStatus = 'lazy' | 'sweeping' | 'paused' | 'complete' | 'failed' | 'aborted';

/**
 * The progress of a pipeline. Only `totalBytes` may decrease: at the beginning, while inherited blocks are being found.
 *
 * @public
 */
export interface PipelineProgress {
  readonly status: PipelineStatus;
  /** The number of blocks in each state. */
  readonly counts: Readonly<Record<BlockState, number>>;
  /** Bytes of the blocks that are stored, and of those that are not stored because they are zeroes or lost. */
  readonly doneBytes: number;
  /** Bytes of all blocks that are not inherited; `undefined` if there are none. */
  readonly totalBytes: number | undefined;
  /** Bytes that the store has acknowledged, as the transforms made them. */
  readonly storedBytes: number;
}

/** The answer to {@link BackupPipeline.ask}. @public */
export interface BlocksAnswer {
  /** The number of blocks that were asked about. */
  readonly blockCount: number;
  /** The number of blocks in each state. */
  readonly counts: Readonly<Record<BlockState, number>>;
  /** The number of blocks that the store has, or that need not be stored: `stored`, `inherited` and `zero`. */
  readonly safeBlocks: number;
  /** Whether all blocks are safe. */
  readonly isSafe: boolean;
}

/** The events of a pipeline, on `pipeline.events`. Each is emitted after the states have changed. @public */
export interface PipelineEvents {
  /** The store has acknowledged a block. `storedBytes` is the number of its bytes, as the transforms made them. */
  blockStored: [block: number, storedBytes: number];
  /** A call of `store`, or of `storeRecord`, has failed. Another attempt follows, unless this was the last one. */
  attemptFailed: [what: number | 'record', error: unknown, attempt: number];
  /** The pipeline has ended: `complete`, `failed` or `aborted`. `done` settles next. */
  ended: [status: PipelineStatus];
}

/** See `BackupPipeline.ask`. */
export function answerAbout(states: BlockStates, blocks?: BlockRange | number): BlocksAnswer {
  const range = blocks === undefined ? undefined : blockRangeArgument('blocks', blocks);
  const counts = range === undefined ? states.counts : states.countsIn(range);
  const blockCount = range === undefined ? states.blockCount : range.blockCount;
  const safeBlocks = counts.stored + counts.inherited + counts.zero;
  return { blockCount, counts, safeBlocks, isSafe: safeBlocks === blockCount };
}

/** Bytes of all blocks in some states. The last block may be short. */
export function bytesIn({ states, blockSize, size }: VolumeSnapshot, ...wanted: BlockState[]): number {
  const { blockCount, counts } = states;
  const blocks = wanted.reduce((sum, state) => sum + counts[state], 0);
  const hasLast = blockCount > 0 && wanted.includes(states.get(blockCount - 1));
  return blocks * blockSize - (hasLast ? blockCount * blockSize - size : 0);
}
