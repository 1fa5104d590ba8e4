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
  /** The instant that it holds, by the clock of the machine that made it. */
  readonly frozenAt: Date;
  /** By the same clock. */
  readonly committedAt: Date;
  /** The backup that it was made against. */
  readonly base: string | undefined;
  /** Whether every block is there: `false` when pre-images were lost under `lose-block`. */
  readonly intact: boolean;
  /** Bytes that read as `BLOCK_LOST`. */
  readonly lostBytes: number;
  /** Why and since when it is held: `undefined` for one that may be forgotten. */
  readonly hold: { readonly reason: string | undefined; readonly heldAt: Date } | undefined;
  /**
   * Bytes of the packs that it has stored: new contents, and what its map takes. Of one backup of a group, those of its
   * own blocks.
   */
  readonly uploadedBytes: number;
  /** Bytes of blocks that differ from the base; without one, of all that are not zeroes. */
  readonly changedBytes: number;
  /** What the host gave. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** What is public of a backup. */
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
