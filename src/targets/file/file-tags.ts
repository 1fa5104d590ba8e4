import type { BigIntStats } from 'node:fs';
import { type FileHandle, stat, statfs } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';

/**
 * Tags of objects that are files: inode, size and modification time in nanoseconds.
 *
 * A tag must not change while the object stays the same, and another object must have another one. So there are tags only on
 * file systems of Linux that keep inodes and times exactly: folders on a network report times that the server corrects later, or
 * inodes that the client makes up, and FUSE may do anything. A time in whole seconds is taken for a rounded one, and gives no tag.
 *
 * An inode is free again when its file is deleted. The next file with this inode is told apart by its time, if that is later than
 * its own creation: the file before was no longer written to by then. {@link writtenLater} ensures this.
 */

/** Numbers of file systems (`f_type` of `statfs`): ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, ZFS and bcachefs. */
const EXACT = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994, 0xf2f52010, 0x2fc12fc1, 0xca451a4e]);

const SECOND_NS = 1_000_000_000n;
/** A tick of the clock of file systems takes 1 to 10 ms, before Linux 6.13. */
const MAX_TICKS = 25;

/** Whether the file system of a folder keeps inodes and times exactly. @param info - the status of the folder */
export async function isExact(folder: string, info: BigIntStats): Promise<boolean> {
  if (process.platform !== 'linux') return false;
  try {
    const { type } = await statfs(folder);
    if (!EXACT.has(type >>> 0)) return false;
    // Another file system may have been mounted in between.
    const again = await stat(folder, { bigint: true });
    return again.dev === info.dev && again.ino === info.ino;
  } catch {
    return false; // The system has no such call, or a sandbox forbids it.
  }
}

/** The tag of a file on such a file system. */
export function tagOfFile({ ino, size, mtimeNs }: BigIntStats): string | undefined {
  return mtimeNs % SECOND_NS === 0n ? undefined : [ino, size, mtimeNs].map((each) => each.toString(36)).join('-');
}

/**
 * Writes to a new file, without changing it, until its modification time is later than its creation.
 *
 * @param created - the status of the file when it was empty
 */
export async function writtenLater(file: Pick<FileHandle, 'stat' | 'truncate'>, created: BigIntStats): Promise<void> {
  for (let tick = 0; ; tick++) {
    const info = await file.stat({ bigint: true });
    const isRounded = info.mtimeNs % SECOND_NS === 0n;
    if (info.mtimeNs > created.mtimeNs || isRounded || tick === MAX_TICKS) return;
    if (tick > 0) await setTimeout(1);
    // This sets the modification time although the length stays the same. Since Linux 6.13 the time is exact after a look at it.
    await file.truncate(Number(info.size));
  }
}
