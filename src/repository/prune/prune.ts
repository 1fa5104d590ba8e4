import { BackupError, isDamage } from '../../common/errors.ts';
import { isForsaken } from '../backup/session-owner.ts';
import { withProgress } from '../context/progress.ts';
import { type RepositoryContext, requireWritable } from '../context/repository-context.ts';
import { appendInLittleRoom, keepReserve } from '../context/reserve.ts';
import type { LogState, Session } from '../format/log-state.ts';
import { decideAbort } from '../log/entries/sessions.ts';
import { Ages } from './ages.ts';
import { collect, type Marking } from './collect.ts';
import { deleteCondemned, deleteProbes, removeLeftovers } from './delete-condemned.ts';
import { type CheckedPruneOptions, checkPruneOptions, type PruneOptions, type PruneResult } from './prune-options.ts';
import { PruneRun } from './prune-run.ts';
import { repack } from './repack.ts';
import { type Candidate, selectCandidates } from './repack-selection.ts';

/**
 * Condemns what no backup needs, moves what is live out of sparse packs, and deletes what was condemned long enough ago: the
 * first run condemns, one after the grace deletes. Safe beside any number of writers, readers and other pruners; ended at
 * any point it leaves a good repository, and the next run goes on.
 *
 * A backup whose map can't be read in full keeps everything that it may need; the result names it.
 *
 * @throws TypeError; `READ_ONLY`; `OBJECT_CONFLICT`, which may be retried; `NO_SPACE` where the store has no room for a log
 * entry; `COMMIT_UNKNOWN`, `BUDGET_EXCEEDED`, and what log and target give
 */
export async function prune(context: RepositoryContext, options: PruneOptions = {}): Promise<PruneResult> {
  return withProgress(checkPruneOptions(options), (checked) => pruned(context, checked));
}

async function pruned(context: RepositoryContext, checked: CheckedPruneOptions): Promise<PruneResult> {
  if (!checked.dryRun) requireWritable(context);
  const run = new PruneRun(context, checked, await Ages.of(context, checked));
  // First what needs no new byte: the store may be full. `collect` goes on with what was condemned before.
  await removeLeftovers(run);
  await deleteProbes(run);
  if (!checked.dryRun) await abortForsaken(run);
  const collected = await collect(run);
  const { marking } = collected;
  let { state } = collected;
  const candidates = await candidatesOf(run, state, marking);
  if (candidates.length > 0) {
    if (checked.dryRun) foresee(run, candidates);
    else state = await repacked(run, candidates, marking);
  }
  await deleteCondemned(run, state, marking);
  if (!checked.dryRun && checked.reserveBytes > 0) await keepReserve(context, checked.reserveBytes, checked.signal);
  run.begin('done');
  return resultOf(run);
}

/**
 * P1: aborts sessions that this very process opened and holds no more: a job that failed could not do so, because the store
 * did not answer or was full. What they have stored is condemned by this run.
 */
async function abortForsaken({ context, options: { signal } }: PruneRun): Promise<void> {
  const { log, format } = context;
  const isLeft = (session: Session | undefined) => session !== undefined && isForsaken(session, format.repositoryId);
  for (const session of log.state.sessions.values()) {
    if (!isLeft(session)) continue;
    const { seq } = session;
    // Looked at again: a job takes hold of its session just after the log has it.
    const decide = (state: LogState) => (isLeft(state.sessions.get(seq)) ? decideAbort(state, seq) : undefined);
    await appendInLittleRoom(context, decide, { signal });
  }
}

/** None where there is no room for copies, and where it can't be told what a damaged backup needs of a pack. */
async function candidatesOf(run: PruneRun, state: LogState, marking: Marking): Promise<Candidate[]> {
  if (run.isFull) return [];
  const candidates = await selectCandidates(run, state, marking);
  const [damaged] = marking.damaged;
  if (damaged === undefined) return candidates;
  if (candidates.length > 0) run.result.repackError = damaged.error;
  return [];
}

/** A store that keeps versions shows it in its answers, so it is known now. */
function resultOf({ context, result }: PruneRun): PruneResult {
  const { freedBytes, leftoverBytes } = result;
  if (context.target.capabilities.versioned !== true) return { ...result, freedBytes: freedBytes + leftoverBytes };
  return { ...result, freedBytes: leftoverBytes, keptAsVersionsBytes: freedBytes };
}

/** Resolves with the newest state. What is damaged is left where it is, and does not keep the rest from being freed. */
async function repacked(run: PruneRun, candidates: readonly Candidate[], marking: Marking): Promise<LogState> {
  try {
    const state = await repack(run, candidates, marking);
    if (state !== undefined) return state;
  } catch (error) {
    if (!isDamage(error) && !BackupError.is(error, 'NO_SPACE')) throw error;
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
