import type { LogState } from '../log/log-state.ts';
import { watched } from '../progress.ts';
import type { RepositoryContext } from '../repository-context.ts';
import { requireWritable } from '../retention/forget.ts';
import { Ages } from './ages.ts';
import { collect, type Marking } from './collect.ts';
import { isDamage } from './damage.ts';
import { deleteCondemned, deleteProbes } from './delete-condemned.ts';
import { type CheckedPruneOptions, checkPruneOptions, type PruneOptions, type PruneResult } from './prune-options.ts';
import { PruneRun } from './prune-run.ts';
import { repack } from './repack.ts';
import { type Candidate, selectCandidates } from './repack-selection.ts';

/**
 * Condemns what no backup needs, moves what is live out of sparse packs, and deletes what was condemned long enough ago: the
 * first run condemns, one after the grace deletes. Safe beside any number of writers, readers and other pruners; ended at
 * any point it leaves a good repository, and the next run goes on.
 *
 * @throws TypeError; `READ_ONLY`; what reading the map of a live backup gives (`PACK_MISSING`, `MAP_CORRUPT`,
 * `RECORD_CORRUPT`): then nothing is condemned and nothing deleted; `OBJECT_CONFLICT`, which may be retried;
 * `COMMIT_UNKNOWN`, `BUDGET_EXCEEDED`, and what log and target give
 */
export async function prune(context: RepositoryContext, options: PruneOptions = {}): Promise<PruneResult> {
  return watched(checkPruneOptions(options), (checked) => pruned(context, checked));
}

async function pruned(context: RepositoryContext, checked: CheckedPruneOptions): Promise<PruneResult> {
  if (!checked.dryRun) requireWritable(context);
  const run = new PruneRun(context, checked, await Ages.of(context, checked));
  const collected = await collect(run);
  const { marking } = collected;
  let { state } = collected;
  const candidates = selectCandidates(run, state, marking);
  if (candidates.length > 0) {
    if (checked.dryRun) foresee(run, candidates);
    else state = await repacked(run, candidates, marking);
  }
  await deleteCondemned(run, state, marking);
  await deleteProbes(run);
  run.begin('done');
  const { freedBytes } = run.result;
  // Read now: a store may show only in its answers that it keeps versions.
  const isVersioned = context.target.capabilities.versioned === true;
  return { ...run.result, ...(isVersioned && { freedBytes: 0, keptAsVersionsBytes: freedBytes }) };
}

/** Resolves with the newest state. What is damaged is left where it is, and does not keep the rest from being freed. */
async function repacked(run: PruneRun, candidates: readonly Candidate[], marking: Marking): Promise<LogState> {
  try {
    const state = await repack(run, candidates, marking);
    if (state !== undefined) return state;
  } catch (error) {
    if (!isDamage(error)) throw error;
    run.result.repackError = error;
  }
  return run.context.log.state;
}

/** What repacking would do, as far as marking tells. */
function foresee({ result }: PruneRun, candidates: readonly Candidate[]): void {
  for (const { size, liveBytes } of candidates) {
    result.repackedPacks++;
    result.condemnedPacks++;
    result.repackedBytes += liveBytes;
    result.condemnedBytes += size;
  }
}
