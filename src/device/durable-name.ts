import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isSyncUnsupported } from '../common/system-errors.ts';

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
    // A file system that can't do it is told apart from one that failed: nothing more can be had there.
    if (!isSyncUnsupported(error)) throw error;
  }
}
