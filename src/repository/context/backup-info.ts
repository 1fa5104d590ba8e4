import type { StoredBackup } from '../format/log-state.ts';

/**
 * A backup as a repository lists it.
 *
 * @public
 */
export interface BackupInfo {
  /** 32 hex digits. */
  readonly id: string;
  /** The volume's name, as the host chose it. */
  readonly volume: string;
  /** Bytes of the volume. */
  readonly size: number;
  /** Bytes. */
  readonly blockSize: number;
  /** The instant of the backup, by the clock of the host that made it. */
  readonly frozenAt: Date;
  /** When it was committed, by the same clock. */
  readonly committedAt: Date;
  /** The id of its base; `undefined` for a full backup. */
  readonly base: string | undefined;
  /** Whether every block is there: `false` if pre-images were lost under `lose-block`. */
  readonly intact: boolean;
  /** Bytes that read as `BLOCK_LOST`. */
  readonly lostBytes: number;
  /** Why and since when it is held; `undefined` for a backup that may be forgotten. */
  readonly hold: { readonly reason: string | undefined; readonly heldAt: Date } | undefined;
  /**
   * Bytes of the packs that were stored for it, by itself or by an interrupted backup that it took over from: new contents
   * and its map. For a backup of a group, the bytes of its own blocks.
   */
  readonly uploadedBytes: number;
  /** Bytes of the blocks that differ from the base; of a full backup, of all blocks that are not zeroes. */
  readonly changedBytes: number;
  /** The metadata that the host gave. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** The public description of a backup. */
export function backupInfo(backup: StoredBackup): BackupInfo {
  const { id, volume, descriptor, frozenAt, committedAt, base, intact, metadata, stats, hold } = backup;
  const { size, blockSize, lost } = descriptor;
  const lostBytes = lost.reduce((sum, { firstBlock, blockCount }) => {
    const end = Math.min(size, (firstBlock + blockCount) * blockSize);
    return sum + Math.max(0, end - firstBlock * blockSize);
  }, 0);
  return {
    id,
    volume,
    size,
    blockSize,
    frozenAt: new Date(frozenAt),
    committedAt: new Date(committedAt),
    base,
    intact,
    lostBytes,
    hold: hold === undefined ? undefined : { reason: hold.reason, heldAt: new Date(hold.at) },
    uploadedBytes: stats.storedBytes,
    changedBytes: Math.min(size, stats.changedBlocks * blockSize),
    metadata: { ...metadata },
  };
}
