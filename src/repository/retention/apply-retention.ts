import type { AbortOptions } from '../../common/abort.ts';
import { booleanArgument, optionsArgument, signalArgument, textArgument } from '../../common/arguments.ts';
import { BackupError, isDamage } from '../../common/errors.ts';
import { runInSteps, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { type BackupInfo, backupInfo } from '../context/backup-info.ts';
import { type RepositoryContext, requireWritable } from '../context/repository-context.ts';
import { appendInLittleRoom } from '../context/reserve.ts';
import { type LogState, pinnedIds, type StoredBackup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { decideForget } from '../log/entries/backups.ts';
import { goneOn } from '../log/entries/repack.ts';
import { neededOf } from '../prune/damaged-backups.ts';
import { LivePacks } from '../prune/live-packs.ts';
import { listPacks } from '../prune/pack-listing.ts';
import { applyPolicy, type CheckedPolicy, checkPolicy, type RetentionPolicy } from './retention-policy.ts';

/**
 * Options of `applyRetention`. Either `volume` or `allVolumes` is needed, because a repository may hold volumes of other hosts
 * with policies of their own.
 *
 * @public
 */
export interface ApplyRetentionOptions extends AbortOptions {
  /** Only the backups of this volume. */
  readonly volume?: string | undefined;
  /** The backups of every volume in the repository; the policy is applied to each volume separately. @defaultValue false */
  readonly allVolumes?: boolean | undefined;
  /** Only report which backups would be forgotten, and how much a prune could then free. @defaultValue false */
  readonly dryRun?: boolean | undefined;
}

const KNOWN_OPTIONS: Readonly<Record<keyof ApplyRetentionOptions, true>> = {
  volume: true,
  allVolumes: true,
  dryRun: true,
  signal: true,
};

/** Which backups were kept and forgotten, or with `dryRun` would be. @public */
export interface RetentionResult {
  /** Volume by volume, the newest backup of each first. It is empty for a volume that has no backups, perhaps because its name is mistyped. */
  readonly kept: BackupInfo[];
  readonly forgotten: BackupInfo[];
  /**
   * Only with `dryRun`: bytes of packs that are needed by a forgotten backup and by no other. Pruning frees them, and more if
   * it repacks sparse packs.
   */
  readonly freeableBytes: number | undefined;
}

/** So often backups are chosen anew because another host has appended to the log meanwhile. */
const MAX_ATTEMPTS = 32;

/** A checked call of `applyRetention`. */
interface Request {
  readonly policy: CheckedPolicy;
  /** `undefined` means every volume. */
  readonly volume: string | undefined;
  readonly dryRun: boolean;
  readonly signal: AbortSignal | undefined;
}

/** See `BackupRepository.applyRetention`. Backups are chosen by the log state that the one entry follows. */
export async function applyRetention(
  context: RepositoryContext,
  policy: RetentionPolicy,
  options: ApplyRetentionOptions,
): Promise<RetentionResult> {
  const request = checkRequest(policy, options); // Misuse is refused before the first request to the store.
  const { dryRun, signal } = request;
  const broken = new BrokenBackups(context);
  const needs = request.volume === undefined || dryRun ? 'all' : { volumes: [request.volume] };
  if (dryRun) {
    const state = await context.log.catchUp({ needs, signal });
    const choice = await choose(context, state, request, broken);
    return resultOf(choice, await freeableBytes(context, state, choice.forgotten, { signal }));
  }
  requireWritable(context);
  // Maps are read before an entry is decided on: a reader that misses a pack reads the log, and would wait for the turn that the
  // decision has.
  for (let attempt = 1; ; attempt++) {
    const before = await context.log.catchUp({ needs, signal });
    const choice = await choose(context, before, request, broken);
    const ids = choice.forgotten.map(({ id }) => id);
    const decide = async (state: LogState) =>
      state.seq === before.seq ? await runInSteps(decideForget(state, ids)) : goneOn();
    try {
      await appendInLittleRoom(context, decide, { needs: { ids }, signal, lookFirst: false });
      return resultOf(choice, undefined);
    } catch (error) {
      if (!BackupError.is(error, 'OBJECT_CONFLICT') || attempt >= MAX_ATTEMPTS) throw error;
    }
  }
}

function resultOf({ kept, forgotten }: Choice, freeable: number | undefined): RetentionResult {
  return { kept: kept.map(backupInfo), forgotten: forgotten.map(backupInfo), freeableBytes: freeable };
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

interface Choice {
  readonly kept: readonly StoredBackup[];
  readonly forgotten: readonly StoredBackup[];
}

async function choose(
  context: RepositoryContext,
  state: LogState,
  { policy, volume, signal }: Request,
  broken: BrokenBackups,
): Promise<Choice> {
  const candidates = [...state.backups.values()].filter((backup) => volume === undefined || backup.volume === volume);
  const kept: StoredBackup[] = [];
  const forgotten: StoredBackup[] = [];
  const now = context.now();
  for (const backups of Map.groupBy(candidates, (backup) => backup.volume).values()) {
    const judged: { stored: StoredBackup; frozenAt: Date; isBroken: boolean; isHeld: boolean }[] = [];
    for (const stored of backups) {
      await yieldToEventLoop();
      signal?.throwIfAborted();
      const isBroken = await broken.has(state, stored, { signal });
      judged.push({ stored, frozenAt: new Date(stored.frozenAt), isBroken, isHeld: stored.hold !== undefined });
    }
    for (const { backup, keptBy } of applyPolicy(policy, judged, now)) {
      (keptBy.length > 0 ? kept : forgotten).push(backup.stored);
      await yieldToEventLoop();
    }
  }
  return { kept, forgotten };
}

/** Bytes of the packs that only the forgotten backups need. */
async function freeableBytes(
  context: RepositoryContext,
  state: LogState,
  forgotten: readonly StoredBackup[],
  options: AbortOptions,
): Promise<number> {
  if (forgotten.length === 0) return 0;
  // The base of a backup under way is kept until that backup has ended.
  const pinned = pinnedIds(state.sessions.values());
  const going = new Set(forgotten.map(({ id }) => id).filter((id) => !pinned.has(id)));
  const packs = new LivePacks(context);
  const without = (ids: ReadonlySet<string>): LogState => {
    return { ...state, backups: new Map([...state.backups].filter(([id]) => !ids.has(id))) };
  };
  const { live: kept, neededThrough } = await neededOf(context, without(going), packs, options);
  const { live: needed } = await neededOf(context, state, packs, options);
  const listing = await listPacks(context, options);
  let bytes = 0;
  for (const pack of listing.packs) {
    await yieldToEventLoop();
    const key = packKey(pack);
    if (needed.has(key) && !kept.has(key) && pack.session > neededThrough) bytes += pack.size;
  }
  return bytes;
}

/**
 * Knows which backups lack something: blocks that were lost when they were made, or records of a pack that `verify` put into
 * quarantine. Maps are only read while a pack is in quarantine.
 */
class BrokenBackups {
  readonly #context: RepositoryContext;
  /** By id of a backup, the keys of the packs that it needs; `undefined` if its map can't be read. */
  readonly #needs = new Map<string, ReadonlySet<string> | undefined>();

  constructor(context: RepositoryContext) {
    this.#context = context;
  }

  /** @throws what the target throws when it does not answer, which says nothing about what is stored */
  async has(state: LogState, backup: StoredBackup, options: AbortOptions): Promise<boolean> {
    if (!backup.intact || backup.descriptor.lost.length > 0) return true;
    if (state.quarantined.size === 0) return false;
    const needed = await this.#needed(state, backup, options);
    if (needed === undefined) return true;
    for (const key of state.quarantined.keys()) if (needed.has(key)) return true;
    return false;
  }

  /** The answer is kept for newer states too: a pack that was moved in between was sound when it was moved. */
  async #needed(
    state: LogState,
    backup: StoredBackup,
    options: AbortOptions,
  ): Promise<ReadonlySet<string> | undefined> {
    if (this.#needs.has(backup.id)) return this.#needs.get(backup.id);
    let needed: ReadonlySet<string> | undefined;
    try {
      const packs = new LivePacks(this.#context);
      await packs.mark([backup], options);
      needed = (await packs.followed(state, options)).live;
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
    this.#needs.set(backup.id, needed);
    return needed;
  }
}
