import type { BigIntStats } from 'node:fs';
import { chmod, link, mkdir, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import {
  ignoreModesUnsupported,
  isMissing,
  isSyncUnsupported,
  syncDirectory,
  systemCode,
} from '../../common/system-errors.ts';
import { heldOnWindows } from './file-errors.ts';
import { writtenLater } from './file-tags.ts';
import { writeFully } from './file-transfer.ts';

/** Codes that mean that a file system has no hard links here, or none between two directories. */
const LINKS_UNSUPPORTED = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EXDEV', 'EINVAL']);

/**
 * Makes files that appear whole or not at all and survive a loss of power once the call has resolved, if the file system
 * supports it. What the file system does not support is remembered and reported once.
 */
export class DurableFiles {
  readonly fileMode: number;
  readonly #directoryMode: number;
  readonly #where: string;
  #durableNames: boolean | undefined;
  #hardLinks = true;

  /** @param where - the name of the target, for messages */
  constructor(where: string, modes: { readonly fileMode: number; readonly directoryMode: number }) {
    this.#where = where;
    // On Windows a file whose mode does not allow writing can't be removed.
    this.fileMode = process.platform === 'win32' ? 0o600 : modes.fileMode;
    this.#directoryMode = modes.directoryMode;
    // Windows can't open a directory, and has no other documented way to make a name durable at once.
    if (process.platform === 'win32') this.#durableNames = false;
  }

  /** Whether the file system makes names durable; `undefined` until that is known. */
  get durableNames(): boolean | undefined {
    return this.#durableNames;
  }

  /** Becomes false when the file system refuses a hard link. */
  get hardLinks(): boolean {
    return this.#hardLinks;
  }

  /** Creates one directory, whose mode does not depend on the umask. @returns whether it did not exist */
  async makeOne(directory: string): Promise<boolean> {
    try {
      await mkdir(directory, { mode: this.#directoryMode });
    } catch (error) {
      if (systemCode(error) === 'EEXIST') return false;
      throw error;
    }
    const info = await stat(directory);
    if (lacks(info.mode, this.#directoryMode))
      await chmod(directory, this.#directoryMode).catch(ignoreModesUnsupported);
    return true;
  }

  /** Creates a directory and those above it that are missing, and makes their names durable. */
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

  /**
   * Creates a file and makes its content durable.
   *
   * @param isTagged - whether the file gets a tag, so that its time has to be later than that of a file that had its inode before
   * @returns the status with which it stays
   */
  async write(
    path: string,
    body: Uint8Array,
    length: number,
    isTagged: boolean,
    onWritten?: ((bytes: number) => void) | undefined,
  ): Promise<BigIntStats> {
    const file = await open(path, 'wx', this.fileMode);
    try {
      try {
        const created = await file.stat({ bigint: true });
        if (lacks(Number(created.mode), this.fileMode)) await file.chmod(this.fileMode).catch(ignoreModesUnsupported);
        await writeFully(file, body, length, onWritten);
        if (isTagged) await writtenLater(file, created);
        await file.sync();
        return await file.stat({ bigint: true });
      } finally {
        await file.close();
      }
    } catch (error) {
      await discard(path);
      throw error;
    }
  }

  /** Gives a file its name, and replaces the file that had it. */
  async publish(temporary: string, path: string): Promise<void> {
    await rename(temporary, path).catch((error: unknown) => {
      throw heldOnWindows(error, path);
    });
  }

  /** Gives a file its name unless a file has it. `link` is atomic; a test and a `rename` are not. */
  async publishNew(temporary: string, path: string, key: string): Promise<void> {
    try {
      await link(temporary, path);
    } catch (error) {
      const code = systemCode(error) ?? '';
      if (code === 'EEXIST') throw new BackupError('OBJECT_EXISTS', `object ${key} exists`, { cause: error });
      if (!LINKS_UNSUPPORTED.has(code)) throw error;
      this.#hardLinks = false;
      const message = `${this.#where} has no hard links (${code}), which createOnly needs; open a repository there with singleWriter: true`;
      throw new BackupError('CREATE_ONLY_UNSUPPORTED', message, { cause: error });
    }
    await discard(temporary);
  }

  /** Makes the names in a directory durable. A directory that no longer exists has no names. */
  async sync(directory: string): Promise<void> {
    try {
      const refused = await syncDirectory(directory);
      if (refused !== undefined) this.#namesAreNotDurable(refused);
      else this.#durableNames ??= true;
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }

  /** Makes the name of `folder` durable, unless this user may not sync the directory above it; its creator had to do so then. */
  async syncName(folder: string): Promise<void> {
    try {
      await syncDirectory(dirname(await realpath(folder)));
    } catch (error) {
      if (!isMissing(error) && !isSyncUnsupported(error)) throw error;
    }
  }

  #namesAreNotDurable(code: string): void {
    if (this.#durableNames === false) return;
    this.#durableNames = false;
    process.emitWarning(
      `${this.#where} can't sync directories (${code}): objects that were put last may be missing after a loss of power`,
      { code: 'COW_NAMES_NOT_DURABLE' },
    );
  }
}

/** Removes a temporary file. A failure is ignored, because the file is no object, and `prune` removes it later. */
export async function discard(temporary: string): Promise<void> {
  await rm(temporary, { force: true }).catch(() => {});
}

/** Whether the umask has removed a part of a mode. File systems without modes show wider ones, and Windows has none. */
function lacks(found: number, wanted: number): boolean {
  return process.platform !== 'win32' && (found & wanted) !== wanted;
}
