import type { AbortOptions } from '../common/abort.ts';
import {
  functionArgument,
  integerArgument,
  optionsArgument,
  plainObjectArgument,
  signalArgument,
} from '../common/arguments.ts';
import type { BlockRange } from '../common/block-range.ts';
import { systemClock } from '../common/clock.ts';
import { BackupError } from '../common/errors.ts';
import type { RetryPolicy } from '../common/retry.ts';
import type { BlockStates } from '../state/block-state-map.ts';
import type { PipelineProgress } from './pipeline-progress.ts';
import type { PreviousRecord } from './pipeline-record.ts';
import { type BlockTransform, transformsArgument } from './transform.ts';

/** What a call of `store` or `load` is given beside the block. @public */
export interface BlockCall {
  /** Aborts when the pipeline ends early. The call must then settle soon, because the pipeline waits for it. */
  readonly signal: AbortSignal;
  /** 1 for the first call for a block. A later one follows a failed one, which may have taken effect. */
  readonly attempt: number;
}

/**
 * Stores the bytes of one block, and resolves (or returns) when they are safe: from then on the volume no longer keeps the block's old
 * content. The bytes belong to the call; they are a part of a larger buffer.
 *
 * @public
 */
export type StoreBlock = (block: number, bytes: Uint8Array<ArrayBuffer>, call: BlockCall) => unknown;

/** Loads the bytes that `store` was given for a block; for an inherited one, those of the newest earlier run. @public */
export type LoadBlock = (block: number, call: BlockCall) => Uint8Array | Promise<Uint8Array>;

/** How a failed call of `store` or `load` is repeated. @public */
export interface PipelineRetryOptions {
  /** The number of attempts in all, the first one included; from 1. @defaultValue 6 */
  attempts?: number | undefined;
  /** The longest pause before the second attempt, in milliseconds. It doubles with each further attempt. @defaultValue 200 */
  baseDelayMs?: number | undefined;
  /** The longest pause before any attempt, in milliseconds. @defaultValue 20_000 */
  maxDelayMs?: number | undefined;
  /**
   * Whether another attempt makes sense after an error. @defaultValue yes, except for a `BackupError` that is not `retryable`
   */
  isRetryable?: ((error: unknown) => boolean) | undefined;
}

/** What the options of a backup and of a restore have in common. @public */
export interface CommonPipelineOptions extends AbortOptions {
  /** What becomes of the bytes of a block before they are stored, in this order. @defaultValue none */
  transforms?: readonly BlockTransform[] | undefined;
  /** The number of blocks that are transformed and stored, or loaded, at the same time. @defaultValue 16 */
  concurrency?: number | undefined;
  /** How failed calls are repeated. */
  retry?: PipelineRetryOptions | undefined;
}

/** Options of `BackupPipeline.start`. @public */
export interface PipelineOptions extends CommonPipelineOptions {
  store: StoreBlock;
  /**
   * The record of an earlier run, whose blocks the host still has: only what has changed since its instant is stored. The run
   * need not have been complete. Give the record of the newest run in your store, and no older one.
   */
  previous?: PreviousRecord | undefined;
  /**
   * The blocks that may have changed since the earlier run, if you know them better than the volume does. Without `previous` all
   * other blocks count as stored by an earlier run.
   */
  changes?: Iterable<BlockRange> | undefined;
  /** Called from time to time, once at the end, and never after `done` has settled. */
  onProgress?: ((progress: PipelineProgress) => void) | undefined;
}

const PIPELINE_OPTIONS = {
  store: true,
  previous: true,
  changes: true,
  transforms: true,
  concurrency: true,
  retry: true,
  onProgress: true,
  signal: true,
} as const satisfies Record<keyof PipelineOptions, true>;

/** @throws TypeError */
export function checkPipelineOptions(given: PipelineOptions) {
  const options = optionsArgument('options', given, PIPELINE_OPTIONS);
  const { store, previous, changes, onProgress } = options;
  if (onProgress !== undefined) functionArgument('options.onProgress', onProgress);
  if (previous !== undefined) checkPrevious(previous);
  if (changes !== undefined && typeof Object(changes)[Symbol.iterator] !== 'function')
    throw new TypeError('options.changes must be an iterable of block ranges');
  return {
    ...checkCommonOptions(options),
    store: functionArgument('options.store', store),
    previous,
    changes,
    onProgress,
  };
}

/** @throws TypeError */
export function checkCommonOptions({ transforms = [], concurrency = 16, retry, signal }: CommonPipelineOptions) {
  return {
    transforms: transformsArgument(transforms),
    concurrency: integerArgument('options.concurrency', concurrency, 1, 1024),
    retries: retryPolicy(retry),
    signal: signalArgument('options.signal', signal),
  };
}

function checkPrevious(previous: PreviousRecord): void {
  plainObjectArgument('options.previous', previous);
  const { states, point, size, blockSize } = previous;
  if (typeof (states as Partial<BlockStates> | undefined)?.ranges !== 'function')
    throw new TypeError('options.previous.states must be BlockStates');
  if (point !== undefined) plainObjectArgument('options.previous.point', point);
  if (size !== undefined) integerArgument('options.previous.size', size, 0);
  if (blockSize !== undefined) integerArgument('options.previous.blockSize', blockSize, 1);
}

const RETRY_OPTIONS = {
  attempts: true,
  baseDelayMs: true,
  maxDelayMs: true,
  isRetryable: true,
} as const satisfies Record<keyof PipelineRetryOptions, true>;

function retryPolicy(given: PipelineRetryOptions | undefined): RetryPolicy {
  const options = optionsArgument('options.retry', given, RETRY_OPTIONS);
  const { attempts = 6, baseDelayMs = 200, maxDelayMs = 20_000, isRetryable = mayPass } = options;
  functionArgument('options.retry.isRetryable', isRetryable);
  return {
    attempts: integerArgument('options.retry.attempts', attempts, 1),
    baseDelayMs: integerArgument('options.retry.baseDelayMs', baseDelayMs, 0),
    maxDelayMs: integerArgument('options.retry.maxDelayMs', maxDelayMs, 0),
    sleep: (delayMs, signal) => systemClock.sleep(delayMs, signal),
    random: Math.random,
    isFinal: (error) => !isRetryable(error),
  };
}

/** The errors of a host's own store say nothing of whether they pass. */
function mayPass(error: unknown): boolean {
  return !BackupError.is(error) || error.retryable;
}
