import type { AbortOptions } from '../../common/abort.ts';
import { booleanArgument, optionsArgument, signalArgument, textArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';
import { letOthersRun } from '../../common/event-loop-turns.ts';
import { type RepositoryContext, requireWritable } from '../context/repository-context.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import { type LogState, pinnedIds, type StoredBackup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { decideForget } from '../log/entries/sessions.ts';
import { neededOf } from '../prune/damaged-backups.ts';
import { Marker } from '../prune/marker.ts';
import { listPacks } from '../prune/pack-listing.ts';
import { TableTargets } from '../prune/relocated.ts';
import { applyPolicy, type CheckedPolicy, checkPolicy, type RetentionPolicy } from './retention-policy.ts';
import { Worth } from './worth.ts';

/**
 * Options of `applyRetention`. One of `volume` and `allVolumes` is needed: a repository may hold the volumes of other hosts,
 * which have policies of their own.
 *
 * @public
 */
export interface ApplyRetentionOptions extends AbortOptions {
  /** Only the backups of this volume. */
  readonly volume?: string | undefined;
  /** The backups of every volume in the repository, each volume by itself. @defaultValue false */
  readonly allVolumes?: boolean | undefined;
  /** Only say what would be forgotten, and what that would free. @defaultValue false */
  readonly dryRun?: boolean | undefined;
}

const KNOWN_OPTIONS: Readonly<Record<keyof ApplyRetentionOptions, true>> = {
  volume: true,
  allVolumes: true,
  dryRun: true,
  signal: true,
};

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

/** A checked call of `applyRetention`. */
interface Request {
  readonly policy: CheckedPolicy;
  /** `undefined`: every volume. */
  readonly volume: string | undefined;
  readonly dryRun: boolean;
  readonly signal: AbortSignal | undefined;
}

/**
 * Applies a policy to each volume's backups and forgets those that no rule keeps, in one entry, chosen on the state that it
 * follows.
 *
 * @throws TypeError for a policy that keeps nothing, for unknown names, and where neither `volume` nor `allVolumes` says
 * whose backups are meant; `READ_ONLY`, `COMMIT_UNKNOWN`, and what the log gives; what reading maps gives with `dryRun`, and
 * while a pack is in quarantine
 */
export async function applyRetention(
  context: RepositoryContext,
  policy: RetentionPolicy,
  options: ApplyRetentionOptions,
): Promise<AppliedRetention> {
  const request = checkRequest(policy, options); // Refused before anything is asked of the store.
  const { dryRun, signal } = request;
  const worth = new Worth(context);
  if (dryRun) {
    const state = await context.log.catchUp({ signal });
    const choice = await choose(context, state, request, worth);
    return { ...choice, freeableBytes: await freeableBytes(context, state, choice.forgotten, { signal }) };
  }
  requireWritable(context);
  let choice: Choice | undefined;
  await appendInLittleRoom(
    context,
    async (state) => {
      choice = await choose(context, state, request, worth);
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

function checkRequest(policy: RetentionPolicy, options: ApplyRetentionOptions): Request {
  const { volume, allVolumes = false, dryRun = false, signal } = optionsArgument('options', options, KNOWN_OPTIONS);
  if (volume !== undefined) textArgument('volume', volume);
  if (booleanArgument('allVolumes', allVolumes) === (volume !== undefined)) {
    throw new TypeError(
      'applyRetention needs either volume, the name of one volume, or allVolumes: true, which also means the volumes of other hosts',
    );
  }
  return {
    policy: checkPolicy(policy),
    volume,
    dryRun: booleanArgument('dryRun', dryRun),
    signal: signalArgument('signal', signal),
  };
}

type Choice = Pick<AppliedRetention, 'kept' | 'forgotten'>;

async function choose(
  context: RepositoryContext,
  state: LogState,
  { policy, volume, signal }: Request,
  worth: Worth,
): Promise<Choice> {
  const candidates = [...state.backups.values()].filter((backup) => volume === undefined || backup.volume === volume);
  const kept: StoredBackup[] = [];
  const forgotten: StoredBackup[] = [];
  const now = context.now();
  for (const backups of Map.groupBy(candidates, (backup) => backup.volume).values()) {
    const judged: { stored: StoredBackup; frozenAt: Date; isBroken: boolean; isHeld: boolean }[] = [];
    for (const stored of backups) {
      await letOthersRun();
      signal?.throwIfAborted();
      const isBroken = await worth.isBroken(state, stored, { signal });
      judged.push({ stored, frozenAt: new Date(stored.frozenAt), isBroken, isHeld: stored.hold !== undefined });
    }
    for (const { backup, keptBy } of applyPolicy(policy, judged, now)) {
      (keptBy.length > 0 ? kept : forgotten).push(backup.stored);
      await letOthersRun();
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
  const marker = new Marker(context);
  const targets = new TableTargets(context);
  const without = (ids: ReadonlySet<string>): LogState => {
    return { ...state, backups: new Map([...state.backups].filter(([id]) => !ids.has(id))) };
  };
  const { live: kept, neededThrough } = await neededOf(context, without(going), marker, targets, options);
  const { live: needed } = await neededOf(context, state, marker, targets, options);
  const listing = await listPacks(context, options);
  let bytes = 0;
  for (const pack of listing.packs) {
    await letOthersRun();
    const key = packKey(pack);
    if (needed.has(key) && !kept.has(key) && pack.session > neededThrough) bytes += pack.size;
  }
  return bytes;
}
