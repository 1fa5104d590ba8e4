import type { BlockState } from '../state/block-state.ts';

/**
 * - `lazy`: only blocks that are about to be overwritten are stored
 * - `sweeping`: the remaining blocks are stored too, in order
 * - `paused`: no block is taken up; blocks that are overwritten are still preserved
 * - `complete`, `failed`, `aborted`: the pipeline has ended, see `done`
 *
 * @public
 */
export type PipelineStatus = 'lazy' | 'sweeping' | 'paused' | 'complete' | 'failed' | 'aborted';

/**
 * The progress of a pipeline. No number ever decreases but `totalBytes`, which inherited blocks leave at the beginning.
 *
 * @public
 */
export interface PipelineProgress {
  readonly status: PipelineStatus;
  /** The number of blocks in each state. */
  readonly counts: Readonly<Record<BlockState, number>>;
  /** Bytes of blocks that are stored, or that need not be stored because they are zeroes or lost. */
  readonly doneBytes: number;
  /** Bytes that are to be done in all, without inherited blocks; `undefined` if there is nothing to do. */
  readonly totalBytes: number | undefined;
  /** Bytes that the store has acknowledged, as the transforms made them. */
  readonly storedBytes: number;
}

/** The answer to {@link BackupPipeline.ask}. @public */
export interface BlocksAnswer {
  readonly blockCount: number;
  /** The number of blocks in each state. */
  readonly counts: Readonly<Record<BlockState, number>>;
  /** Blocks that the store has, or that need not be stored: `stored`, `inherited` and `zero`. */
  readonly safeBlocks: number;
  /** Whether all blocks are safe. */
  readonly isSafe: boolean;
}

/** The events of a pipeline, on `pipeline.events`. They are emitted when the state has changed already. @public */
export interface PipelineEvents {
  /** The store has acknowledged a block. `storedBytes`: its bytes, as the transforms made them. */
  blockStored: [block: number, storedBytes: number];
  /** A call of `store` has failed. If there is another attempt, it follows. */
  attemptFailed: [block: number, error: unknown, attempt: number];
  /** The pipeline has ended. `done` settles next. */
  ended: [status: PipelineStatus];
}
