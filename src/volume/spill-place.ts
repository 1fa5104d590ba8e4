import { access, constants, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, resolve } from 'node:path';
import type { BlockDevice } from '../device/block-device.ts';
import { isFileDevice } from '../device/file-device.ts';
import { deviceStack } from '../device/underlying.ts';

/** A folder on a disk that a spill may be made in. */
export interface SpillPlace {
  readonly folder: string;
  /** Bytes that were free when it was looked at. */
  readonly freeBytes: number;
}

/** Why a folder is no place for a spill. */
export interface NoPlace {
  readonly folder: string;
  readonly reason: string;
}

/** What `statfs` calls filesystems that keep their files in memory: tmpfs, ramfs and hugetlbfs, of <linux/magic.h>. */
const MEMORY_FILESYSTEMS: ReadonlySet<number> = new Set([0x01021994, 0x858458f6, 0x958458f6]);

/** The folders that a volume's own spill may be made in, best first: for temporary files, then beside the image. */
export function spillFolders(device: BlockDevice): string[] {
  const folders = process.platform === 'win32' ? [tmpdir()] : [tmpdir(), '/var/tmp'];
  // Last: a spill there takes up the room that a sparse image grows into.
  for (const each of deviceStack(device)) if (isFileDevice(each)) folders.push(dirname(each.path));
  // Absolute: the file is made later, when the process may have gone to another directory.
  return [...new Set(folders.map((folder) => resolve(folder)))];
}

/**
 * The first folder that can be written to, is not in memory and has so much free; if none has, the one with the most; or why
 * there is none.
 */
export async function findSpillPlace(
  folders: readonly string[],
  wantedFreeBytes: number,
): Promise<SpillPlace | readonly NoPlace[]> {
  const refused: NoPlace[] = [];
  let best: SpillPlace | undefined;
  for (const folder of folders) {
    const place = await lookAt(folder);
    if ('reason' in place) refused.push(place);
    else if (place.freeBytes >= wantedFreeBytes) return place;
    else if (place.freeBytes > (best?.freeBytes ?? 0)) best = place;
    else refused.push({ folder, reason: 'is full' });
  }
  return best ?? refused;
}

async function lookAt(folder: string): Promise<SpillPlace | NoPlace> {
  try {
    await access(folder, constants.W_OK | constants.X_OK);
    const { type, bsize, bavail } = await statfs(folder);
    if (isInMemory(folder, type)) return { folder, reason: 'is, or may be, in memory' };
    return { folder, freeBytes: bsize * bavail };
  } catch (error) {
    return { folder, reason: (error as NodeJS.ErrnoException).code ?? String(error) };
  }
}

function isInMemory(folder: string, type: number): boolean {
  if (process.platform === 'linux') return MEMORY_FILESYSTEMS.has(type >>> 0);
  // These two keep temporary files on the disk unless somebody has set up a RAM disk; elsewhere `type` says nothing, and
  // only /var/tmp, which has to outlive a restart, is surely on one.
  return process.platform !== 'darwin' && process.platform !== 'win32' && folder === tmpdir() && folder !== '/var/tmp';
}
