import { chmod, link, mkdir, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import { isMissing, isSyncUnsupported, systemCode } from '../../common/system-errors.ts';
import { writeFully } from './file-transfer.ts';

/** What says that a file system has no hard links here, or not from one directory to another. */
const LINKS_UNSUPPORTED = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EXDEV', 'EINVAL']);

/** Windows refuses to replace or remove a name while a program has the file open. */
const HELD_ON_WINDOWS = new Set(['EPERM', 'EACCES', 'EBUSY']);

/**
 * Files that appear whole or not at all and survive a loss of power once they have been acknowledged, in so far as
 * the file system lets them; what it refuses is remembered and reported once.
 */
export class DurableFiles {
  readonly fileMode: number;
  readonly #directoryMode: number;
  readonly #where: string;
  #durableNames: boolean | undefined;
  #hardLinks = true;

  /** @param where - for messages */
  constructor(where: string, modes: { readonly fileMode: number; readonly directoryMode: number }) {
    this.#where = where;
    // There a mode without the right to write would make files that can't be removed.
    this.fileMode = process.platform === 'win32' ? 0o600 : modes.fileMode;
    this.#directoryMode = modes.directoryMode;
    // A directory can't be opened there, and nothing that is documented makes a name durable at once.
    if (process.platform === 'win32') this.#durableNames = false;
  }

  /** False once the file system has refused to make names durable, undefined until that is known. */
  get durableNames(): boolean | undefined {
    return this.#durableNames;
  }

  /** False once the file system has refused a hard link. */
  get hardLinks(): boolean {
    return this.#hardLinks;
  }

  /** Makes one directory, with the mode that it is to have under any umask. False when it is there already. */
  async makeOne(directory: string): Promise<boolean> {
    try {
      await mkdir(directory, { mode: this.#directoryMode });
    } catch (error) {
      if (systemCode(error) === 'EEXIST') return false;
      throw error;
    }
    const info = await stat(directory);
    if (lacks(info.mode, this.#directoryMode)) await chmod(directory, this.#directoryMode).catch(ignoreUnsupported);
    return true;
  }

  /** Makes a directory and those above it that are missing, and makes their names durable. */
  async makeAll(directory: string): Promise<void> {
    try {
      if (!(await this.makeOne(directory))) return;
    } catch (error) {
      const above = dirname(directory);
      if (!isMissing(error) || above === directory) throw error;
      await this.makeAll(above);
      return this.makeAll(directory);
    }
    await this.sync(dirname(directory));
  }

  /** Writes a new file and makes its content durable. */
  async write(
    path: string,
    body: Uint8Array,
    length: number,
    onWritten?: ((bytes: number) => void) | undefined,
  ): Promise<void> {
    const file = await open(path, 'wx', this.fileMode);
    try {
      try {
        if (lacks((await file.stat()).mode, this.fileMode)) await file.chmod(this.fileMode).catch(ignoreUnsupported);
        await writeFully(file, body, length, onWritten);
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      await discard(path);
      throw error;
    }
  }

  /** Gives a file its name, in place of what had it. */
  async publish(temporary: string, path: string): Promise<void> {
    await rename(temporary, path).catch((error: unknown) => {
      throw heldOnWindows(error, path);
    });
  }

  /** Gives a file its name unless something has it: `link` is atomic where a test and `rename` are not. */
  async publishNew(temporary: string, path: string, key: string): Promise<void> {
    try {
      await link(temporary, path);
    } catch (error) {
      const code = systemCode(error) ?? '';
      if (code === 'EEXIST') throw new BackupError('OBJECT_EXISTS', `object ${key} exists`, { cause: error });
      if (!LINKS_UNSUPPORTED.has(code)) throw error;
      this.#hardLinks = false;
      const message = `${this.#where} has no hard links (${code}), which createOnly needs; a repository there takes singleWriter: true`;
      throw new BackupError('CREATE_ONLY_UNSUPPORTED', message, { cause: error });
    }
    await discard(temporary);
  }

  /** Makes the names in a directory durable. One that is gone by now has none. */
  async sync(directory: string): Promise<void> {
    if (process.platform === 'win32') return;
    try {
      const handle = await open(directory, 'r');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (error) {
      if (isMissing(error)) return;
      if (!isSyncUnsupported(error)) throw error;
      this.#namesAreNotDurable(String(systemCode(error)));
      return;
    }
    this.#durableNames ??= true;
  }

  /**
   * Makes the name of `folder` durable. Where the directory above can't be synced by this user, its maker had to see to
   * it, and nothing is lost.
   */
  async syncName(folder: string): Promise<void> {
    if (process.platform === 'win32') return;
    try {
      const handle = await open(dirname(await realpath(folder)), 'r');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (error) {
      if (!isMissing(error) && !isSyncUnsupported(error)) throw error;
    }
  }

  #namesAreNotDurable(code: string): void {
    if (this.#durableNames === false) return;
    this.#durableNames = false;
    process.emitWarning(
      `${this.#where} refuses to sync directories (${code}): what was put last may be missing after a loss of power`,
      { code: 'COW_NAMES_NOT_DURABLE' },
    );
  }
}

/** Removes a temporary file. A failure to do so is no error of the call: the file is invisible, and `prune` removes it. */
export async function discard(temporary: string): Promise<void> {
  await rm(temporary, { force: true }).catch(() => {});
}

/** The error of a rename or an unlink, retryable where it passes when a reader is done. */
export function heldOnWindows(error: unknown, path: string): unknown {
  const code = systemCode(error) ?? '';
  if (process.platform !== 'win32' || !HELD_ON_WINDOWS.has(code)) return error;
  const message = `${path} can't be replaced or removed while a program has it open (${code})`;
  return new BackupError('TARGET_UNAVAILABLE', message, { cause: error, retryable: true });
}

/** Whether the umask took a part of a mode. File systems without modes show wider ones, and Windows has none. */
function lacks(found: number, wanted: number): boolean {
  return process.platform !== 'win32' && (found & wanted) !== wanted;
}

function ignoreUnsupported(error: unknown): void {
  if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL'].includes(systemCode(error) ?? '')) throw error;
}
