import { open } from 'node:fs/promises';
import { dirname } from 'node:path';

/** What says that a folder can't be synced here, not that syncing it went wrong. */
const UNSUPPORTED = new Set(['EACCES', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP']);

/**
 * Makes the name of a new file survive a loss of power. Without it a flushed file may be gone afterwards, with
 * everything in it.
 */
export async function makeNameDurable(path: string): Promise<void> {
  if (process.platform === 'win32') return; // A folder can't be opened there; names are journalled.
  try {
    const folder = await open(dirname(path), 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (error) {
    if (!UNSUPPORTED.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}
