import type { AbortOptions } from '../common/abort.ts';
import { AEAD_BYTES } from '../common/aead.ts';
import { described, optionsArgument, plainObjectArgument, textArgument } from '../common/arguments.ts';
import { collectRanges, unionOf } from '../common/block-range.ts';
import { metered, RequestMeter } from '../targets/decorators/request-meter.ts';
import { isVolume } from '../volume/copy-on-write-volume.ts';
import { costOfAdoption } from './backup/adoption.ts';
import type { BackupSource } from './backup/backup-job.ts';
import { checkSource } from './backup/job-requests.ts';
import { chooseBase } from './backup/open-session.ts';
import { deadSessions } from './backup/session-owner.ts';
import { writtenSinceBase } from './backup/witnessed-commits.ts';
import { findBackups, openMap, type RepositoryContext } from './context/repository-context.ts';
import { RESERVE_BYTES } from './context/reserve.ts';
import { ID_BYTES } from './format/derivation.ts';
import { headOf, type LogState, type StoredBackup } from './format/log-state.ts';
import { packKey, RESERVE_KEY } from './format/object-keys.ts';
import { sealedFooterBytes } from './format/pack-footer.ts';
import type { PackName } from './format/record.ts';
import { LOCATION_BYTES } from './format/record-parts.ts';
import { adoptable } from './log/entries/sessions.ts';
import { walkUsage } from './map/map-usage.ts';
import { LocationSet } from './packs/location-set.ts';
import { DEFAULT_PACK_BYTES } from './packs/pack-sizes.ts';
import { READ_SPANS } from './packs/record-spans.ts';
import { prune } from './prune/prune.ts';

/** The work whose cost is estimated: a backup of a source, a restore of a backup by its id, or a prune. @public */
export type EstimatedWork =
  | { backup: { source: BackupSource; volume: string } }
  | { restore: string }
  | { prune: true };

/**
 * About how many requests and bytes an operation would take: an upper bound, except for requests that have to be repeated.
 * What compression and equal blocks save can't be known beforehand.
 *
 * @public
 */
export interface Estimate {
  /** PUT requests. */
  readonly puts: number;
  /** GET, HEAD and LIST requests. */
  readonly gets: number;
  readonly uploadBytes: number;
  readonly downloadBytes: number;
}

/** A block's entry in a leaf, with its bits in the bitmaps; a run has the number of the block as well. */
const LEAF_BYTES_A_BLOCK = ID_BYTES + LOCATION_BYTES + 0.2;
const RUN_BYTES_A_BLOCK = 4 + ID_BYTES + LOCATION_BYTES;
/** What a block takes in addition to its content: the seal, a row in the footer of its pack, and an entry in the map. */
const BYTES_A_BLOCK = AEAD_BYTES + (sealedFooterBytes(1) - sealedFooterBytes(0)) + RUN_BYTES_A_BLOCK;
/** A log entry with its tail. */
const LOG_ENTRY_BYTES = 4096;

/** See `BackupRepository.estimate`. @param packBytes - the size of the packs that backups fill */
export async function estimateWork(
  context: RepositoryContext,
  work: EstimatedWork,
  packBytes: number,
  options: AbortOptions,
): Promise<Estimate> {
  checkWork(work);
  if ('backup' in work) return estimateBackup(context, { ...work.backup, packBytes }, options);
  if ('prune' in work) return estimatePrune(context, options);
  const [backup] = await findBackups(context, [work.restore], options);
  return estimateRestore(context, backup, options);
}

/** For a backup that is started and swept now. */
async function estimateBackup(
  context: RepositoryContext,
  { source, volume, packBytes }: { source: BackupSource; volume: string; packBytes: number },
  { signal }: AbortOptions,
): Promise<Estimate> {
  const state = await context.log.catchUp({ needs: { newest: [{ volume, count: 1 }] }, signal });
  const { blockSize, size } = source;
  const id = chooseBase(state, { volume, base: 'latest', blockSize });
  const base = id === undefined ? undefined : state.backups.get(id);
  const changed =
    base === undefined ? undefined : await changedBlocks(context, source, base, headOf(state, volume)?.id);
  const blockCount = changed ?? Math.ceil(size / blockSize);
  const uploadBytes = Math.ceil(blockCount * (blockSize + BYTES_A_BLOCK));
  const isDue = context.log.reader.isCheckpointDue(2);
  const adopting = await costOfAdoption(context, sessionsToAdopt(context, state, volume), { signal });
  const leafCount = changed === undefined && base !== undefined ? Math.ceil(blockCount / context.format.fanOut) : 0;
  return {
    puts: 2 + Math.ceil(uploadBytes / packBytes) + Number(isDue),
    gets: 1 + leafCount + adopting.gets,
    uploadBytes: uploadBytes + 2 * LOG_ENTRY_BYTES,
    downloadBytes: Math.ceil(leafCount * context.format.fanOut * LEAF_BYTES_A_BLOCK) + adopting.downloadBytes,
  };
}

/** The sessions of dead processes that a backup of a volume would adopt. */
function sessionsToAdopt({ format, owner }: RepositoryContext, state: LogState, volume: string): number[] {
  const dead = deadSessions(state, format.repositoryId, owner);
  const fence = new Set(dead.filter((session) => state.sessions.get(session)?.volumes.has(volume)));
  return adoptable(state, new Map([[volume, undefined]]), fence);
}

/** The number of blocks that change tracking reports; `undefined` if it is not believed. */
async function changedBlocks(
  { format: { repositoryId } }: RepositoryContext,
  source: BackupSource,
  base: StoredBackup,
  newest: string | undefined,
): Promise<number | undefined> {
  const [volume, instant] = isVolume(source) ? [source] : [source.volume, source.point];
  const written = await writtenSinceBase(volume, instant, { repositoryId, base, newest });
  if (typeof written === 'string') return undefined;
  let blocks = 0;
  for (const { blockCount } of await collectRanges(unionOf(written, base.descriptor.lost))) blocks += blockCount;
  return blocks;
}

/** For restoring a backup onto an empty device. */
async function estimateRestore(
  context: RepositoryContext,
  backup: StoredBackup,
  { signal }: AbortOptions,
): Promise<Estimate> {
  const usage = new Map<string, number>();
  const add = (pack: PackName, bytes: number) => void usage.set(packKey(pack), (usage.get(packKey(pack)) ?? 0) + bytes);
  const sink = { record: add, blocks: (_leaf: number, pack: PackName, bytes: number) => add(pack, bytes) };
  await walkUsage(openMap(context, backup.descriptor), sink, { signal, seen: new LocationSet() });
  let gets = 0;
  let downloadBytes = 0;
  for (const bytes of usage.values()) {
    gets += Math.ceil(bytes / READ_SPANS.maxSpanBytes);
    downloadBytes += bytes;
  }
  // A restore fetches each leaf when it reaches its blocks.
  const { blockSize, size } = backup.descriptor;
  gets += Math.ceil(size / blockSize / context.format.fanOut);
  return { puts: 0, gets, uploadBytes: 0, downloadBytes };
}

/** For a complete prune now. Reads every map, as pruning does. */
async function estimatePrune(context: RepositoryContext, { signal }: AbortOptions): Promise<Estimate> {
  const meter = new RequestMeter();
  const foreseen = await metered(meter, () => prune(context, { dryRun: true, signal }));
  const { condemnedPacks, repackedPacks, repackedBytes } = foreseen;
  const collects = Number(condemnedPacks > repackedPacks);
  const hasReserve = (await metered(meter, () => context.target.stat(RESERVE_KEY, { signal }))) !== undefined;
  const reserves = Number(!hasReserve);
  const repacks = repackedPacks === 0 ? 0 : 2 + Math.ceil(repackedBytes / DEFAULT_PACK_BYTES);
  return {
    puts: collects + repacks + reserves,
    // One request for each lock; packs that are repacked are read.
    gets: meter.gets + condemnedPacks + 2 * repackedPacks,
    uploadBytes: repackedBytes + (collects + Number(repackedPacks > 0)) * LOG_ENTRY_BYTES + reserves * RESERVE_BYTES,
    downloadBytes: meter.downloadBytes + repackedBytes,
  };
}

/** @throws TypeError unless exactly one kind of work is named */
function checkWork(work: EstimatedWork): void {
  plainObjectArgument('work', work);
  if (Object.keys(work).length !== 1 || !['backup', 'restore', 'prune'].includes(Object.keys(work)[0] as string))
    throw new TypeError('work must name one of backup, restore and prune');
  if ('backup' in work) {
    const known = { source: true, volume: true } as const;
    const backup = plainObjectArgument('work.backup', work.backup) as { source?: unknown; volume?: unknown };
    const { source, volume } = optionsArgument('work.backup', backup, known);
    checkSource(source as BackupSource);
    textArgument('work.backup.volume', volume);
  } else if ('restore' in work) {
    textArgument('work.restore', work.restore);
  } else if (work.prune !== true) {
    throw new TypeError(`work.prune must be true, not ${described(work.prune)}`);
  }
}
