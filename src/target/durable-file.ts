import { randomBytes } from 'node:crypto';
import { link, lstat, mkdir, open, readdir, realpath, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BackupError } from '../common/errors.ts';
import { isMissing, systemCode } from './file-errors.ts';
import { writeFully } from './file-transfer.ts';

/** Files that appear whole or not at all and survive a loss of power once they have been acknowledged. */

const TEMPORARY = /^\.[0-9a-f]{32}\.tmp$/;
const STALE_AFTER_MS = 24 * 60 * 60 * 1000;
const LINKS_UNSUPPORTED = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EXDEV']);

/** Makes `directory` and those above it, and what was made durable up to the one that was there before. */
export async function makeDirectory(directory: string): Promise<void> {
  const first = await mkdir(directory, { recursive: true });
  if (first === undefined) return;
  const above = dirname(first);
  for (let made = directory; made !== above; made = dirname(made)) await syncDirectory(dirname(made));
}

/** Writes a file under a name that no reader looks at, and returns its path once its content is durable. */
export async function writeTemporary(directory: string, body: Uint8Array): Promise<string> {
  const path = join(directory, `.${randomBytes(16).toString('hex')}.tmp`);
  const file = await open(path, 'wx', 0o666);
  try {
    try {
      await writeFully(file, body);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    await discard(path);
    throw error;
  }
  return path;
}

/** Gives a temporary file its name, in place of what had it. */
export async function publish(temporary: string, path: string): Promise<void> {
  await rename(temporary, path);
}

/** Gives a temporary file its name unless something has it: `link` is atomic where a test and `rename` are not. */
export async function publishNew(temporary: string, path: string, key: string): Promise<void> {
  try {
    await link(temporary, path);
  } catch (error) {
    const code = systemCode(error) ?? '';
    if (code === 'EEXIST') throw new BackupError('OBJECT_EXISTS', `object ${key} exists`, { cause: error });
    if (LINKS_UNSUPPORTED.has(code)) {
      const message = `the file system of this FileTarget has no hard links, which createOnly needs (${code})`;
      throw new BackupError('CREATE_ONLY_UNSUPPORTED', message, { cause: error });
    }
    throw error;
  }
  await discard(temporary);
}

/** Removes a temporary file. Its failure is nobody's error: it is invisible, and swept up a day later. */
export async function discard(temporary: string): Promise<void> {
  await rm(temporary, { force: true }).catch(() => {});
}

/** Makes the names in a directory durable. One that is gone by now has none. */
export async function syncDirectory(directory: string): Promise<void> {
  if (process.platform === 'win32') return; // A directory can't be opened there; names are journalled.
  try {
    const handle = await open(directory, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/**
 * Makes the name of `folder` durable, which may just have been made by somebody who has not come to that yet. Where the
 * directory above can't be read, whoever made the folder there had to see to it.
 */
export async function syncName(folder: string): Promise<void> {
  try {
    await syncDirectory(dirname(await realpath(folder)));
  } catch (error) {
    if (!isMissing(error) && !['EACCES', 'EPERM'].includes(systemCode(error) ?? '')) throw error;
  }
}

/** Removes what writers that died a day ago or earlier have left in a directory. */
export async function removeStaleTemporaries(directory: string): Promise<void> {
  const oldest = Date.now() - STALE_AFTER_MS;
  for (const name of await readdir(directory)) {
    if (!TEMPORARY.test(name)) continue;
    const path = join(directory, name);
    const info = await lstat(path).catch(() => undefined);
    if (info?.isFile() && info.mtimeMs < oldest) await discard(path);
  }
}
