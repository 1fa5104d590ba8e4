import { tell } from '../progress.ts';
import type { RepositoryContext } from '../repository-context.ts';
import { currentMeter } from '../requests/request-meter.ts';
import type { CheckedPruneOptions, PruneResult } from './prune-options.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** One run of pruning: what its parts share. */
export class PruneRun {
  readonly context: RepositoryContext;
  readonly options: CheckedPruneOptions;
  readonly result: Mutable<PruneResult> = {
    freedBytes: 0,
    condemnedBytes: 0,
    waitingBytes: 0,
    repackedBytes: 0,
    deletedObjects: 0,
    condemnedPacks: 0,
    repackedPacks: 0,
    fencedSessions: 0,
    repackError: undefined,
  };
  #phase = 'listing';
  #doneBytes = 0;
  #totalBytes = 0;

  constructor(context: RepositoryContext, options: CheckedPruneOptions) {
    this.context = context;
    this.options = options;
  }

  /** By this host's clock: decides what is tried, never what is right. */
  get now(): number {
    return this.context.now();
  }

  /** A phase begins. */
  begin(phase: string, totalBytes = 0): void {
    this.options.signal?.throwIfAborted();
    this.#phase = phase;
    this.#doneBytes = 0;
    this.#totalBytes = totalBytes;
    this.#tell();
  }

  advance(bytes: number): void {
    this.#doneBytes += bytes;
    this.#tell();
  }

  #tell(): void {
    const meter = currentMeter();
    tell(this.options.onProgress, {
      phase: this.#phase,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      transferredBytes: meter === undefined ? 0 : meter.uploadBytes + meter.downloadBytes,
      requests: meter?.requests ?? 0,
    });
  }
}
