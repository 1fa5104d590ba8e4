import { ProgressReporter } from '../context/progress.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { FloorFinder } from '../log/floor-finder.ts';
import type { Ages } from './ages.ts';
import type { CheckedPruneOptions, PruneResult } from './prune-options.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The state that the phases of one prune share. */
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
  /** Keys of the packs that this run has deleted, or with `dryRun` would have deleted. */
  readonly deleted = new Set<string>();
  readonly floors: FloorFinder;
  /** The floor below which this run has deleted the log. */
  deletedBelow = 0;
  /** Whether a log entry found no space in the store. */
  isFull = false;
  readonly progress: ProgressReporter;

  constructor(context: RepositoryContext, options: CheckedPruneOptions, ages: Ages) {
    this.context = context;
    this.options = options;
    this.ages = ages;
    this.floors = new FloorFinder(context.log);
    this.progress = new ProgressReporter(options.onProgress);
  }

  begin(phase: string, totalBytes?: number): void {
    this.options.signal?.throwIfAborted();
    this.progress.begin(phase, totalBytes);
  }
}
