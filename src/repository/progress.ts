import type { AbortOptions } from '../common/abort.ts';

/**
 * How far an operation has got.
 *
 * @public
 */
export interface Progress {
  /** What it is doing now, for people. */
  readonly phase: string;
  readonly doneBytes: number;
  /** What there is to do, as far as it is known. */
  readonly totalBytes: number;
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
  /** Called from time to time, and once in the end. What it throws is thrown on the next tick and stops nothing. */
  onProgress?: ((progress: P) => void) | undefined;
}

/** Calls a host's callback: its mistakes are told to the process and stop nothing. */
export function tell<P>(onProgress: ((progress: P) => void) | undefined, progress: P): void {
  try {
    onProgress?.(progress);
  } catch (thrown) {
    process.nextTick(() => {
      throw thrown;
    });
  }
}
