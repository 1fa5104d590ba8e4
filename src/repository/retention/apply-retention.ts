import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { type LogState, markedBackups, pinnedIds, type StoredBackup } from '../log/log-state.ts';
import { decideForget } from '../log/sessions.ts';
import { Marker } from '../prune/marker.ts';
import { listPacks } from '../prune/pack-listing.ts';
import { liveOf, TableTargets } from '../prune/relocated.ts';
import type { RepositoryContext } from '../repository-context.ts';
import { requireWritable } from './forget.ts';
import { applyPolicy, type RetentionPolicy } from './retention-policy.ts';

/** Options of `applyRetention`. @public */
export interface ApplyRetentionOptions extends AbortOptions {
  /** Only this one's backups. @defaultValue every volume's, each by itself */
  readonly volume?: string | undefined;
  /** Only say what would be forgotten, and what that would free. @defaultValue false */
  readonly dryRun?: boolean | undefined;
}

/** What became of backups, or would. */
export interface AppliedRetention {
  /** Newest first, by volume. */
  readonly kept: readonly StoredBackup[];
  readonly forgotten: readonly StoredBackup[];
  /**
   * Only with `dryRun`: bytes of packs that a forgotten backup needs and no other. Pruning frees them; where it repacks
   * sparse packs too, more.
   */
  readonly freeableBytes: number | undefined;
}

/**
 * Applies a policy to each volume's backups and forgets those that no rule keeps, in one entry, chosen on the state that it
 * follows.
 *
 * @throws TypeError for a policy that keeps nothing; `READ_ONLY`, `COMMIT_UNKNOWN`, and what the log gives; with `dryRun`
 * what reading maps gives
 */
export async function applyRetention(
  context: RepositoryContext,
  policy: RetentionPolicy,
  { volume, dryRun = false, signal }: ApplyRetentionOptions = {},
): Promise<AppliedRetention> {
  applyPolicy(policy, []); // Refused before anything is asked of the store.
  if (dryRun) {
    const state = await context.log.catchUp({ signal });
    const choice = choose(state, policy, volume);
    return { ...choice, freeableBytes: await freeableBytes(context, state, choice.forgotten, { signal }) };
  }
  requireWritable(context);
  let choice: Choice | undefined;
  await context.log.append(
    (state) => {
      choice = choose(state, policy, volume);
      return decideForget(
        state,
        choice.forgotten.map(({ id }) => id),
      );
    },
    { signal },
  );
  if (choice === undefined) throw new BackupError('LOG_CORRUPT', 'the log asked for no decision');
  return { ...choice, freeableBytes: undefined };
}

type Choice = Pick<AppliedRetention, 'kept' | 'forgotten'>;

function choose(state: LogState, policy: RetentionPolicy, volume: string | undefined): Choice {
  const candidates = [...state.backups.values()].filter((backup) => volume === undefined || backup.volume === volume);
  const kept: StoredBackup[] = [];
  const forgotten: StoredBackup[] = [];
  for (const backups of Map.groupBy(candidates, (backup) => backup.volume).values()) {
    const dated = backups.map((backup) => ({ stored: backup, frozenAt: new Date(backup.frozenAt) }));
    for (const { backup, keptBy } of applyPolicy(policy, dated)) {
      (keptBy.length > 0 ? kept : forgotten).push(backup.stored);
    }
  }
  return { kept, forgotten };
}

/** Bytes of the packs that only some backups need. */
export async function freeableBytes(
  context: RepositoryContext,
  state: LogState,
  forgotten: readonly StoredBackup[],
  options: AbortOptions,
): Promise<number> {
  if (forgotten.length === 0) return 0;
  // What a backup under way builds on stays until that has ended.
  const pinned = pinnedIds(state.sessions.values());
  const going = new Set(forgotten.map(({ id }) => id).filter((id) => !pinned.has(id)));
  const all = markedBackups(state);
  const marker = new Marker(context);
  const targets = new TableTargets(context);
  await marker.mark(
    all.filter(({ id }) => !going.has(id)),
    options,
  );
  const { live: kept } = await liveOf(state, marker.named, targets, options);
  await marker.mark(all, options);
  const { live: needed } = await liveOf(state, marker.named, targets, options);
  const listing = await listPacks(context, options);
  return [...needed].reduce((sum, key) => sum + (kept.has(key) ? 0 : listing.sizeOf(key)), 0);
}
