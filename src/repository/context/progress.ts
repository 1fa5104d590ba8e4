import type { AbortOptions } from '../../common/abort.ts';
import { functionArgument } from '../../common/arguments.ts';
import { report } from '../../common/report.ts';
import { currentMeter } from '../../targets/decorators/request-meter.ts';

/**
 * How much of an operation is done.
 *
 * @public
 */
export interface Progress {
  /** What the operation is doing now, as text for people. */
  readonly phase: string;
  /** Bytes that are done in this phase. */
  readonly doneBytes: number;
  /**
   * Bytes that this phase has to do in all, always more than 0. It is `undefined` while that is not known, as in the first phase
   * of a restore, and if there is nothing to do: then print `doneBytes` alone, without a percentage.
   */
  readonly totalBytes: number | undefined;
  /** Bytes sent to the target or received from it. */
  readonly transferredBytes: number;
  /** Requests made of the target. */
  readonly requests: number;
}

/**
 * Options of operations that report their progress.
 *
 * @public
 */
export interface ProgressOptions<P> extends AbortOptions {
  /**
   * Called from time to time, once at the end, and never after the promise of the operation has settled. If it throws, or
   * returns a promise that rejects, the process emits one warning and the operation continues.
   */
  onProgress?: ((progress: P) => void) | undefined;
}

export function knownTotal(bytes: number | undefined): number | undefined {
  return bytes === 0 ? undefined : bytes;
}

/** Runs an operation. Once it has settled, `onProgress` is not called any more by work that it has left behind. */
export async function withProgress<Options extends ProgressOptions<Progress>, T>(
  options: Options,
  work: (options: Options) => Promise<T>,
): Promise<T> {
  const { onProgress } = options;
  if (onProgress === undefined) return work(options);
  functionArgument('onProgress', onProgress);
  let isOver = false;
  const whileRunning = (progress: Progress) => {
    if (!isOver) report('onProgress', onProgress, progress);
  };
  try {
    return await work({ ...options, onProgress: whileRunning });
  } finally {
    isOver = true;
  }
}

export class ProgressReporter {
  readonly #onProgress: ((progress: Progress) => void) | undefined;
  readonly #everyMs: number;
  readonly #meter = currentMeter();
  #phase = '';
  #doneBytes = 0;
  #totalBytes: number | undefined;
  #reportedAt = 0;

  /** @param everyMs - within a phase, time between two reports, in milliseconds */
  constructor(onProgress: ((progress: Progress) => void) | undefined, everyMs = 0) {
    this.#onProgress = onProgress;
    this.#everyMs = everyMs;
  }

  /** Begins a phase. @param totalBytes - bytes that the phase has to do, if that is known */
  begin(phase: string, totalBytes?: number): void {
    this.#phase = phase;
    this.#doneBytes = 0;
    this.#totalBytes = knownTotal(totalBytes);
    this.report();
  }

  advance(bytes: number): void {
    this.#doneBytes += bytes;
    if (performance.now() - this.#reportedAt >= this.#everyMs) this.report();
  }

  report(): void {
    const meter = this.#meter;
    this.#reportedAt = performance.now();
    report('onProgress', this.#onProgress, {
      phase: this.#phase,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      transferredBytes: meter === undefined ? 0 : meter.uploadBytes + meter.downloadBytes,
      requests: meter?.requests ?? 0,
    });
  }
}
