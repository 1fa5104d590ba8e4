import type { AbortOptions } from '../common/abort.ts';
import { described, optionsArgument, plainObjectArgument, textArgument } from '../common/arguments.ts';
import { collectRanges, unionOf } from '../common/block-range.ts';
import { metered, RequestMeter } from '../targets/decorators/request-meter.ts';
import { isVolume } from '../volume/copy-on-write-volume.ts';
import type { BackupSource } from './backup/backup-job.ts';
import { checkSource } from './backup/job-requests.ts';
import { chooseBase } from './backup/open-session.ts';
import { writtenSinceBase } from './backup/witnessed-commits.ts';
import { findBackups } from './catalogue.ts';
import { openMap, type RepositoryContext } from './context/repository-context.ts';
import { RESERVE_BYTES } from './context/reserve.ts';
import type { StoredBackup } from './format/log-state.ts';
import { packKey, RESERVE_KEY } from './format/object-keys.ts';
import type { PackName } from './format/record.ts';
import { CHECKPOINT_EVERY } from './log/checkpoint-writer.ts';
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

/** What sealing adds to a block, and its row in a footer and in a leaf or run. */
const BYTES_A_BLOCK = 28 + 48 + 46;
/** Of a log entry, its tail included. */
const ENTRY_BYTES = 4096;
const LEAF_BYTES_A_BLOCK = 42.2;

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

/** Of a backup that is started now and swept. */
async function estimateBackup(
  context: RepositoryContext,
  { source, volume, packBytes }: { source: BackupSource; volume: string; packBytes: number },
  { signal }: AbortOptions,
): Promise<Estimate> {
  const state = await context.log.catchUp({ signal });
  const { blockSize, size } = source;
  const id = chooseBase(state, { volume, base: 'latest', blockSize });
  const base = id === undefined ? undefined : state.backups.get(id);
  const changed = base === undefined ? undefined : await changedBlocks(context, source, base, state.heads.get(volume));
  const blockCount = changed ?? Math.ceil(size / blockSize);
  const uploadBytes = Math.ceil(blockCount * (blockSize + BYTES_A_BLOCK));
  const isDue = state.seq + 2 - context.log.reader.checkpoint >= CHECKPOINT_EVERY;
  const leafCount = changed === undefined && base !== undefined ? Math.ceil(blockCount / context.format.fanOut) : 0;
  return {
    puts: 2 + Math.ceil(uploadBytes / packBytes) + Number(isDue),
    gets: 1 + leafCount,
    uploadBytes: uploadBytes + 2 * ENTRY_BYTES,
    downloadBytes: Math.ceil(leafCount * context.format.fanOut * LEAF_BYTES_A_BLOCK),
  };
}

/** Blocks that change tracking names, `undefined` where it is not believed. */
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

/** Of restoring a backup onto an empty device. */
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
  // Leaves are fetched as the restore comes to them.
  const { blockSize, size } = backup.descriptor;
  gets += Math.ceil(size / blockSize / context.format.fanOut);
  return { puts: 0, gets, uploadBytes: 0, downloadBytes };
}

/** Of pruning now, all of it; reads every map, as pruning does. */
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
    // A look at each lock, and moved packs are read.
    gets: meter.gets + condemnedPacks + 2 * repackedPacks,
    uploadBytes: repackedBytes + (collects + Number(repackedPacks > 0)) * ENTRY_BYTES + reserves * RESERVE_BYTES,
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
