import type { AbortOptions } from '../common/abort.ts';
import {
  functionArgument,
  integerArgument,
  limitArgument,
  optionsArgument,
  plainObjectArgument,
  signalArgument,
} from '../common/arguments.ts';
import type { BlockRange } from '../common/block-range.ts';
import { systemClock } from '../common/clock.ts';
import { BackupError } from '../common/errors.ts';
import { isBytes } from '../common/realms.ts';
import type { RetryPolicy } from '../common/retry.ts';
import type { BlockStates } from '../state/block-state-map.ts';
import type { PipelineProgress } from './pipeline-progress.ts';
import type { PipelineRecord, PreviousRecord } from './pipeline-record.ts';
import { type BlockTransform, transformsArgument } from './transform.ts';

/** What a call of `store` or `load` is given beside the block. @public */
export interface BlockCall {
  /** Aborts when the pipeline, or the restore, ends early. The call must then settle soon, because its end waits for it. */
  readonly signal: AbortSignal;
  /** 1 for the first call for a block. A later call follows one that failed, but may have taken effect. */
  readonly attempt: number;
}

/**
 * Stores the bytes of one block, and resolves (or returns) when they are safe: from then on the volume no longer keeps the
 * block's content at the instant. A block may be given again after a failure, so storing it twice must be a success.
 *
 * The bytes may be kept, but not changed or transferred, because another attempt is given the same memory. They may be a
 * part of a larger buffer.
 *
 * @public
 */
export type StoreBlock = (block: number, bytes: Uint8Array<ArrayBuffer>, call: BlockCall) => unknown;

/**
 * Loads the bytes that `store` was given for a block. A block that is `inherited` in the record is in an earlier run: the
 * newest one, up to the run of the record, in which it was `stored`. The bytes must not
 * change until the restore has ended.
 *
 * @public
 */
export type LoadBlock = (block: number, call: BlockCall) => Uint8Array | Promise<Uint8Array>;

/** How a failed call of `store` or `load` is repeated. @public */
export interface PipelineRetryOptions {
  /** The most attempts for a block, the first one included; from 1, or `Infinity` until the pipeline is aborted. @defaultValue 6 */
  attempts?: number | undefined;
  /** The longest pause before the second attempt, in milliseconds; it doubles with each further one. @defaultValue 200 */
  baseDelayMs?: number | undefined;
  /** The longest pause before any attempt, in milliseconds. @defaultValue 20_000 */
  maxDelayMs?: number | undefined;
  /**
   * Whether another attempt makes sense after an error.
   *
   * @defaultValue yes, unless it is a `BackupError` that is not `retryable`
   */
  isRetryable?: ((error: unknown) => boolean) | undefined;
}

/** What the options of a backup and of a restore have in common. @public */
export interface CommonPipelineOptions extends AbortOptions {
  /**
   * Applied in this order before a block is stored, and undone in the opposite order after it was loaded.
   *
   * @defaultValue none
   */
  transforms?: readonly BlockTransform[] | undefined;
  /** The most blocks that are transformed and stored, or loaded, at the same time; from 1 to 1024. @defaultValue 16 */
  concurrency?: number | undefined;
  /** How failed calls of `store` or `load` are repeated. */
  retry?: PipelineRetryOptions | undefined;
}

/**
 * Stores the record of a run that is complete, when all of its blocks are safe. It resolves (or returns) when the record is
 * safe too.
 *
 * @public
 */
export type StoreRecord = (record: PipelineRecord, call: BlockCall) => unknown;

/** Options of `BackupPipeline.start`. @public */
export interface PipelineOptions extends CommonPipelineOptions {
  /** Stores one block. */
  store: StoreBlock;
  /**
   * Stores the record, as the last call of the run: where there is a record, there are all of its blocks. It is repeated as
   * `store` is, and `done` resolves after it.
   *
   * @defaultValue the host stores the record that `done` resolves with
   */
  storeRecord?: StoreRecord | undefined;
  /**
   * The record of an earlier run whose blocks the host still has: only what has changed since its instant is stored. The
   * run need not have been complete. It must be the newest run in the host's store, because the pipeline can't see a newer
   * one.
   *
   * @defaultValue none: all blocks are stored
   */
  previous?: PreviousRecord | undefined;
  /**
   * The blocks that may have changed since the instant of the earlier run, from the host's own knowledge. It is believed,
   * and must be complete. A block that neither the volume nor the earlier run has is `OUT_OF_RANGE`. Without `previous`, all
   * other blocks count as stored by an earlier run: a restore loads them, also those that were zeroes then.
   *
   * @defaultValue what the volume's change tracking knows
   */
  changes?: Iterable<BlockRange | number> | undefined;
  /** Called at once, then at most every 250 ms, and once at the end; never after `done` has settled. */
  onProgress?: ((progress: PipelineProgress) => void) | undefined;
}

const PIPELINE_OPTIONS = {
  store: true,
  storeRecord: true,
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
  const { store, storeRecord, previous, changes, onProgress } = options;
  if (storeRecord !== undefined) functionArgument('options.storeRecord', storeRecord);
  if (onProgress !== undefined) functionArgument('options.onProgress', onProgress);
  if (previous !== undefined) checkPrevious(previous);
  if (changes !== undefined && (typeof changes !== 'object' || typeof changes?.[Symbol.iterator] !== 'function'))
    throw new TypeError('options.changes must be an iterable of block ranges or numbers of blocks');
  return {
    ...checkCommonOptions(options),
    store: functionArgument('options.store', store),
    storeRecord,
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
  if (isBytes(previous)) throw new TypeError('options.previous must be a record, not its bytes; decode them first');
  plainObjectArgument('options.previous', previous);
  const { states, point, size, blockSize } = previous;
  if (typeof (states as Partial<BlockStates> | undefined)?.ranges !== 'function')
    throw new TypeError('options.previous.states must be BlockStates');
  if (point !== undefined) {
    plainObjectArgument('options.previous.point', point);
    if (typeof point.trackingId !== 'string') throw new TypeError('options.previous.point.trackingId must be a string');
    integerArgument('options.previous.point.epoch', point.epoch, 0);
  }
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
    attempts: limitArgument('options.retry.attempts', attempts, 1),
    baseDelayMs: integerArgument('options.retry.baseDelayMs', baseDelayMs, 0),
    maxDelayMs: integerArgument('options.retry.maxDelayMs', maxDelayMs, 0),
    sleep: (delayMs, signal) => systemClock.sleep(delayMs, signal),
    random: Math.random,
    isFinal: (error) => !isRetryable(error),
  };
}

/** The errors of a host's own store do not say whether they will pass. */
function mayPass(error: unknown): boolean {
  return !BackupError.is(error) || error.retryable;
}
