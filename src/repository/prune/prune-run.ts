import { ProgressReporter } from '../context/progress.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { Ages } from './ages.ts';
import type { CheckedPruneOptions, PruneResult } from './prune-options.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** One run of pruning: what its parts share. */
export class PruneRun {
  readonly context: RepositoryContext;
  readonly options: CheckedPruneOptions;
  readonly ages: Ages;
  readonly result: Mutable<PruneResult> = {
    freedBytes: 0,
    keptAsVersionsBytes: 0,
    leftoverCount: 0,
    leftoverBytes: 0,
    condemnedBytes: 0,
    waitingBytes: 0,
    repackedBytes: 0,
    deletedObjects: 0,
    condemnedPacks: 0,
    repackedPacks: 0,
    fencedSessions: 0,
    unreferenced: { packs: 0, bytes: 0, sessions: [] },
    damagedBackups: [],
    repackError: undefined,
  };
  /** Keys of packs that this run has deleted, or with `dryRun` would have. */
  readonly deleted = new Set<string>();
  /** Whether the store was seen to be full. */
  isFull = false;
  readonly #progress: ProgressReporter;

  constructor(context: RepositoryContext, options: CheckedPruneOptions, ages: Ages) {
    this.context = context;
    this.options = options;
    this.ages = ages;
    this.#progress = new ProgressReporter(options.onProgress);
  }

  /** When it began, by the store's clock where it has one: decides what is tried, never what is right. */
  get now(): number {
    return this.ages.now;
  }

  /** A phase begins. @param totalBytes - of it, where that is known */
  begin(phase: string, totalBytes?: number): void {
    this.options.signal?.throwIfAborted();
    this.#progress.begin(phase, totalBytes);
  }

  advance(bytes: number): void {
    this.#progress.advance(bytes);
  }
}
