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
import { deleteOldLog } from './delete-old-log.ts';
import { type CheckedPruneOptions, checkPruneOptions, type PruneOptions, type PruneResult } from './prune-options.ts';
import { PruneRun } from './prune-run.ts';
import { repack } from './repack.ts';
import { type Candidate, selectCandidates } from './repack-selection.ts';

/**
 * This folder frees the space of what no backup needs. A collection (`collect.ts`) marks the packs that are live and condemns
 * the others in a log entry, `repack.ts` copies live records out of sparse packs, `delete-condemned.ts` deletes packs that were
 * condemned a grace period ago, and `delete-old-log.ts` deletes the part of the log that a checkpoint has replaced.
 */

/**
 * See `BackupRepository.prune`. Any number of writers, readers and other pruners may be active at the same time. If a run is
 * interrupted at any point, the repository is sound, and the next run continues.
 */
export async function prune(context: RepositoryContext, options: PruneOptions = {}): Promise<PruneResult> {
  return withProgress(checkPruneOptions(options), (checked) => pruned(context, checked));
}

async function pruned(context: RepositoryContext, checked: CheckedPruneOptions): Promise<PruneResult> {
  if (!checked.dryRun) requireWritable(context);
  const run = new PruneRun(context, checked, await Ages.of(context, checked));
  // The store may be full, so deletions that need no new object come first; `collect` begins with packs condemned earlier.
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
  await deleteOldLog(run, state);
  if (!checked.dryRun && run.floors.needsCheckpoint) await context.log.checkpointNow(checked);
  if (!checked.dryRun && checked.reserveBytes > 0) await keepReserve(context, checked.reserveBytes, checked.signal);
  run.begin('done');
  return resultOf(run);
}

/**
 * P1: aborts sessions that this process opened and uses no more: their jobs failed and could not abort them, because the store
 * did not answer or was full. This run condemns what they stored.
 */
async function abortForsaken({ context, options: { signal } }: PruneRun): Promise<void> {
  const { log, format } = context;
  const isLeft = (session: Session | undefined) => session !== undefined && isForsaken(session, format.repositoryId);
  for (const session of log.state.sessions.values()) {
    if (!isLeft(session)) continue;
    const { seq } = session;
    // Checked again on the newest state: a job takes hold of its session just after the log has the session.
    const decide = (state: LogState) => (isLeft(state.sessions.get(seq)) ? decideAbort(state, seq) : undefined);
    await appendInLittleRoom(context, decide, { signal });
  }
}

/** There are no candidates if the store is full, or if a damaged backup hides what it needs of a pack. */
async function candidatesOf(run: PruneRun, state: LogState, marking: Marking): Promise<Candidate[]> {
  if (run.isFull) return [];
  const candidates = await selectCandidates(run, state, marking);
  const [damaged] = marking.damaged;
  if (damaged === undefined) return candidates;
  if (candidates.length > 0) run.result.repackError = damaged.error;
  return [];
}

/** Whether the store keeps versions is known now, because its answers show it. */
function resultOf({ context, result }: PruneRun): PruneResult {
  const { freedBytes, leftoverBytes } = result;
  if (context.target.capabilities.versioned !== true) return { ...result, freedBytes: freedBytes + leftoverBytes };
  return { ...result, freedBytes: leftoverBytes, keptAsVersionsBytes: freedBytes };
}

/** Resolves with the newest state. Damage ends the repacking, but not the deletion of packs that were condemned earlier. */
async function repacked(run: PruneRun, candidates: readonly Candidate[], marking: Marking): Promise<LogState> {
  try {
    const state = await repack(run, candidates, marking);
    if (state !== undefined) return state;
  } catch (error) {
    if (!isDamage(error) && !BackupError.is(error, 'NO_SPACE')) throw error;
    run.result.repackError = error;
  }
  return run.context.log.withPages('all', { signal: run.options.signal });
}

/** Counts what repacking would do, as estimated by the marking. */
function foresee({ result }: PruneRun, candidates: readonly Candidate[]): void {
  for (const { size, liveBytes } of candidates) {
    result.repackedPacks++;
    result.condemnedPacks++;
    result.repackedBytes += liveBytes;
    result.condemnedBytes += size;
  }
}
