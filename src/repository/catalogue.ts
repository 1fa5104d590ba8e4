import type { AbortOptions } from '../common/abort.ts';
import type { ByteRange } from '../common/byte-range.ts';
import { BackupError } from '../common/errors.ts';
import { yieldToEventLoop } from '../common/yield-to-event-loop.ts';
import { type BackupInfo, backupInfo } from './context/backup-info.ts';
import { openMap, type RepositoryContext } from './context/repository-context.ts';
import { condemnationOf, isKnown, type LogState, type StoredBackup } from './format/log-state.ts';
import { LOG_PREFIX } from './format/object-keys.ts';
import { diffMaps } from './map/diff.ts';
import { listPacks } from './prune/pack-listing.ts';

/** A volume that has backups. @public */
export interface VolumeInfo {
  /** The name that the host chose. */
  readonly name: string;
  /** The number of backups that are not forgotten; at least one. */
  readonly backupCount: number;
  /** The backup that was committed last. */
  readonly newest: BackupInfo;
  readonly oldest: BackupInfo;
}

/** How much a repository holds. Bytes are those of stored objects unless stated otherwise. @public */
export interface RepositoryStats {
  /** Backups that are not forgotten. */
  readonly backupCount: number;
  /** Volumes that have a backup. */
  readonly volumeCount: number;
  /** The size of all backups when restored, in bytes. */
  readonly restorableBytes: number;
  readonly packCount: number;
  /** Of all packs. */
  readonly packBytes: number;
  /** Of packs that a prune has condemned. They are deleted after the grace period for readers. */
  readonly condemnedBytes: number;
  /**
   * Of packs that no commit names: uploads of backups under way, and of failed ones, which a prune condemns after their session
   * has ended.
   */
  readonly unreferencedBytes: number;
  /** Packs in quarantine: `verify` has found them damaged. */
  readonly quarantinedPackCount: number;
  /** Log entries and checkpoints. */
  readonly logObjectCount: number;
  readonly logBytes: number;
  /** Sessions of backups and repacks that are under way, or that a dead process has left open. */
  readonly openSessionCount: number;
}

/** The backups of a state, newest first: at most `limit`, and only those of one volume if it is given. */
export function backupsIn(
  state: LogState,
  { volume, limit }: { readonly volume?: string | undefined; readonly limit?: number | undefined },
): BackupInfo[] {
  const backups = [...state.backups.values()].filter((backup) => volume === undefined || backup.volume === volume);
  return backups.reverse().slice(0, limit).map(backupInfo);
}

export async function* diffBackups(
  context: RepositoryContext,
  [from, to]: readonly [StoredBackup, StoredBackup],
  options: AbortOptions,
): AsyncGenerator<ByteRange> {
  const { blockSize } = from.descriptor;
  if (to.descriptor.blockSize !== blockSize) {
    const message = `the backups have different block sizes, ${blockSize} and ${to.descriptor.blockSize}: their maps can't be compared`;
    throw new BackupError('BLOCK_SIZE_MISMATCH', message);
  }
  const size = Math.max(from.descriptor.size, to.descriptor.size);
  const maps = [openMap(context, from.descriptor), openMap(context, to.descriptor)] as const;
  for await (const { firstBlock, blockCount } of diffMaps(...maps, { exact: true, ...options })) {
    const offset = firstBlock * blockSize;
    yield { offset, length: Math.min(size, offset + blockCount * blockSize) - offset };
  }
}

export function volumesOf(state: LogState): VolumeInfo[] {
  // Backups come oldest first, so the last one of a volume is its newest.
  const byVolume = Map.groupBy(state.backups.values(), ({ volume }) => volume);
  return [...byVolume]
    .map(([name, backups]): VolumeInfo => {
      const [oldest, newest] = [backups[0] as StoredBackup, backups.at(-1) as StoredBackup];
      return { name, backupCount: backups.length, newest: backupInfo(newest), oldest: backupInfo(oldest) };
    })
    .sort((a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)));
}

/** The backup whose id begins with these digits. @throws `BACKUP_NOT_FOUND`; `BACKUP_AMBIGUOUS` if there are several */
export function backupBeginning(state: LogState, digits: string): BackupInfo {
  const found = [...state.backups.values()].filter(({ id }) => id.startsWith(digits));
  const [only, another] = found;
  if (only === undefined) {
    throw new BackupError('BACKUP_NOT_FOUND', `there is no backup whose id begins with ${digits}, or it was forgotten`);
  }
  if (another !== undefined) {
    const ids = found.slice(0, 5).map(({ id }) => id.slice(0, digits.length + 4));
    const message = `the ids of ${found.length} backups begin with ${digits} (${ids.join(', ')}): give more digits`;
    throw new BackupError('BACKUP_AMBIGUOUS', message);
  }
  return backupInfo(only);
}

export async function repositoryStats(
  context: RepositoryContext,
  state: LogState,
  options: AbortOptions,
): Promise<RepositoryStats> {
  const { packs, bytes } = await listPacks(context, options);
  let condemnedBytes = 0;
  let unreferencedBytes = 0;
  for (const pack of packs) {
    if (condemnationOf(state, pack) !== undefined) condemnedBytes += pack.size;
    else if (!isKnown(state, pack)) unreferencedBytes += pack.size;
    await yieldToEventLoop();
  }
  let logObjectCount = 0;
  let logBytes = 0;
  for await (const { size } of context.target.list(LOG_PREFIX, options)) {
    logObjectCount++;
    logBytes += size;
    await yieldToEventLoop();
  }
  const backups = [...state.backups.values()];
  return {
    backupCount: backups.length,
    volumeCount: new Set(backups.map(({ volume }) => volume)).size,
    restorableBytes: backups.reduce((sum, { descriptor }) => sum + descriptor.size, 0),
    packCount: packs.length,
    packBytes: bytes,
    condemnedBytes,
    unreferencedBytes,
    quarantinedPackCount: state.quarantined.size,
    logObjectCount,
    logBytes,
    openSessionCount: state.sessions.size,
  };
}
