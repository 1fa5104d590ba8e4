import type { AbortOptions } from '../common/abort.ts';
import { BackupError } from '../common/errors.ts';
import { yieldToEventLoop } from '../common/yield-to-event-loop.ts';
import { type BackupInfo, backupInfo } from './context/backup-info.ts';
import type { RepositoryContext } from './context/repository-context.ts';
import { condemnationOf, isKnown, type LogState, type StoredBackup } from './format/log-state.ts';
import { LOG_PREFIX } from './format/object-keys.ts';
import { listPacks } from './prune/pack-listing.ts';

/** What a repository holds, for people and monitoring. */

/** A volume and its backups. @public */
export interface VolumeInfo {
  /** As the host chose it. */
  readonly name: string;
  /** Backups that are not forgotten, at least one. */
  readonly backupCount: number;
  /** In the order of commits. */
  readonly newest: BackupInfo;
  readonly oldest: BackupInfo;
}

/** How much a repository holds. Bytes are those of objects as stored unless said otherwise. @public */
export interface RepositoryStats {
  /** That are not forgotten. */
  readonly backupCount: number;
  /** That have a backup. */
  readonly volumeCount: number;
  /** What restoring every backup would write, in bytes of volumes. */
  readonly restorableBytes: number;
  readonly packCount: number;
  /** Of all packs that are there. */
  readonly packBytes: number;
  /** Of packs that a prune has condemned: they are deleted once the grace for readers is over. */
  readonly condemnedBytes: number;
  /**
   * Of packs that no commit names: uploads of backups under way, and of those that failed, which a prune condemns once their
   * session is over.
   */
  readonly unreferencedBytes: number;
  /** Packs that `verify` has found damaged. */
  readonly quarantinedPackCount: number;
  /** Entries and checkpoints. */
  readonly logObjectCount: number;
  readonly logBytes: number;
  /** Backups and repacks under way, or left open by a process that died. */
  readonly openSessionCount: number;
}

/** By name. */
export function volumesOf(state: LogState): VolumeInfo[] {
  // Oldest first, so that the last one of a volume is its newest.
  const byVolume = Map.groupBy(state.backups.values(), ({ volume }) => volume);
  return [...byVolume]
    .map(([name, backups]): VolumeInfo => {
      const [oldest, newest] = [backups[0] as StoredBackup, backups.at(-1) as StoredBackup];
      return { name, backupCount: backups.length, newest: backupInfo(newest), oldest: backupInfo(oldest) };
    })
    .sort((a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)));
}

/** The one backup whose id begins with these digits. @throws `BACKUP_NOT_FOUND`; `BACKUP_AMBIGUOUS` for several */
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

/** Lists packs and log, a request for each thousand objects. */
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
