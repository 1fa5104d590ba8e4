import type { AbortOptions } from '../../common/abort.ts';
import { functionArgument } from '../../common/arguments.ts';
import { tell } from '../../common/tell.ts';

/**
 * How far an operation has got.
 *
 * @public
 */
export interface Progress {
  /** What it is doing now, for people. */
  readonly phase: string;
  readonly doneBytes: number;
  /** How much there is to do in this phase, more than 0; `undefined` while that is not known, and where it is nothing. */
  readonly totalBytes: number | undefined;
  /** Bytes that went to the target or came from it. */
  readonly transferredBytes: number;
  /** Requests made of the target. */
  readonly requests: number;
}

/**
 * Options of operations that tell how far they have got.
 *
 * @public
 */
export interface ProgressOptions<P> extends AbortOptions {
  /**
   * Called from time to time, once at the end, and never after the promise of the operation has settled. What it throws,
   * or what a promise that it returns rejects with, becomes one warning of the process and stops nothing.
   */
  onProgress?: ((progress: P) => void) | undefined;
}

/** For a phase of which that much is to do. */
export function knownTotal(bytes: number | undefined): number | undefined {
  return bytes === 0 ? undefined : bytes;
}

/**
 * Runs an operation that tells how far it has got, so that its host hears nothing any more once it is over: work may be
 * under way still, of which nothing is awaited.
 *
 * @throws TypeError for an `onProgress` that is no function, and what `work` gives
 */
export async function watched<Options extends ProgressOptions<Progress>, T>(
  options: Options,
  work: (options: Options) => Promise<T>,
): Promise<T> {
  const { onProgress } = options;
  if (onProgress === undefined) return work(options);
  functionArgument('onProgress', onProgress);
  let isOver = false;
  const heard = (progress: Progress) => {
    if (!isOver) tell('onProgress', onProgress, progress);
  };
  try {
    return await work({ ...options, onProgress: heard });
  } finally {
    isOver = true;
  }
}
