import { randomBytes } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { lstat, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import { isMissing, orIfMissing } from '../../common/system-errors.ts';
import type { Leftovers } from '../cloud-target.ts';
import { isKeySegment } from '../keys.ts';
import { type CheckedLeftoversOptions, leftoversOptions } from '../target-arguments.ts';
import type { DurableFiles } from './durable-file.ts';
import { unexpected } from './file-errors.ts';
import { isExact, tagOfFile } from './file-tags.ts';
import { RESERVED } from './object-path.ts';
import { removeUnfinished, storeTimeIn } from './unfinished-files.ts';

const NOTHING: Leftovers = { count: 0, bytes: 0 };

/**
 * The folder of a `FileTarget`, and whether it is still the same folder. A disk that is unmounted leaves an empty folder of
 * the same name on another disk: an object that is absent there may exist, and an object that is put there is lost.
 *
 * The folder is recognised by its device and inode, which each call reads anyway. A share that was mounted again may have
 * another device number. Its mark decides then: an empty file with a random name in the reserved folder. If there is no mark,
 * because no `FileTarget` has put anything yet (a read-only copy of a bucket), inode and time of birth decide.
 */
export class TargetFolder {
  /** The absolute path of the folder. */
  readonly path: string;
  /** The folder of unfinished puts and of the mark. */
  readonly reserved: string;
  readonly #mayCreate: boolean;
  readonly #files: DurableFiles;
  #known: Identity | undefined;
  #prepared: Promise<void> | undefined;
  /** The leftovers that puts have removed and `removeLeftovers` has not returned yet. */
  #removed: Leftovers = NOTHING;

  constructor(path: string, mayCreate: boolean, files: DurableFiles) {
    this.path = path;
    this.reserved = join(path, RESERVED);
    this.#mayCreate = mayCreate;
    this.#files = files;
  }

  /** Whether the folder exists. @throws `FOLDER_CHANGED`, `FOLDER_NOT_FOUND` */
  async isThere(): Promise<boolean> {
    const info = await this.#look();
    if (info === undefined) {
      if (this.#known !== undefined) throw this.#changed('is no longer there');
      if (this.#mayCreate) return false;
      throw new BackupError(
        'FOLDER_NOT_FOUND',
        `the folder ${this.path} does not exist; is its disk or share mounted?`,
      );
    }
    if (this.#known === undefined) await this.#remember(info);
    else if (info.dev !== this.#known.dev || info.ino !== this.#known.ino) await this.#lookAgain(this.#known, info);
    return true;
  }

  /**
   * As `isThere`, for a put. The first put of an instance creates what is missing. Later ones never do. They write into the
   * reserved folder first, and fail if that is missing, because this is another folder then.
   */
  async prepare(): Promise<void> {
    if (this.#prepared === undefined) {
      this.#prepared = this.#prepare();
      this.#prepared.catch(() => {
        this.#prepared = undefined;
      });
      await this.#prepared;
    } else {
      await this.#prepared;
      await this.isThere();
    }
  }

  /** Whether the file system of the folder keeps what tags are made of. The folder must have been looked at. */
  get isExact(): boolean {
    return this.#known?.isExact === true;
  }

  /**
   * The tag of a file; `undefined` for one whose file system does not keep what tags are made of, or is not that of the folder.
   * The folder must have been looked at.
   */
  readonly tagOf = (info: BigIntStats): string | undefined => {
    return this.#known?.isExact && info.dev === this.#known.dev ? tagOfFile(info) : undefined;
  };

  /** The store's time: that of a file that is written now. */
  async time(): Promise<number> {
    try {
      return await storeTimeIn(this.reserved);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    await this.prepare(); // A copy of the folder may lack the reserved folder.
    return storeTimeIn(this.reserved);
  }

  /** Removes what killed writers have left. The result includes what puts have removed since the last call. */
  async removeLeftovers(options: CheckedLeftoversOptions): Promise<Leftovers> {
    const removed = await removeUnfinished(this.reserved, options);
    if (options.dryRun) return removed;
    const earlier = this.#removed;
    this.#removed = NOTHING;
    return sumOf(earlier, removed);
  }

  /** The error for a reserved folder that is gone, because the folder was emptied. */
  emptied(): BackupError {
    return this.#changed(`no longer holds ${RESERVED}`);
  }

  async #prepare(): Promise<void> {
    if (!(await this.isThere())) await this.#files.makeAll(this.path);
    else if (!this.#mayCreate) await this.#requireObjects();
    if (await this.#files.makeOne(this.reserved)) await this.#files.sync(this.path);
    if (!(await lstat(this.reserved)).isDirectory()) throw unexpected(this.reserved, 'a directory');
    let [mark] = await this.#marks();
    if (mark === undefined) {
      mark = `folder-${randomBytes(16).toString('hex')}`;
      // The mark is only a name. Several first writers may create one each; each remembers one of them.
      await (await open(join(this.reserved, mark), 'wx', this.#files.fileMode)).close();
      await this.#files.sync(this.reserved);
    }
    await this.#files.sync(this.path);
    // Another program may have created the folder and not have made its name durable yet.
    await this.#files.syncName(this.path);
    await this.isThere();
    if (this.#known !== undefined) this.#known = { ...this.#known, mark };
    // Leftovers that can't be removed only take up space, so the put does not fail for them.
    const removed = await removeUnfinished(this.reserved, leftoversOptions(undefined)).catch(() => NOTHING);
    this.#removed = sumOf(this.#removed, removed);
  }

  /** If folders may not be created, an empty folder is taken for a mount point where nothing is mounted. */
  async #requireObjects(): Promise<void> {
    if ((await readdir(this.path)).some(isKeySegment)) return;
    const message = `the folder ${this.path} holds no objects, and createFolder is false; is its disk or share mounted?`;
    throw new BackupError('FOLDER_NOT_FOUND', message);
  }

  async #lookAgain(known: Identity, info: BigIntStats): Promise<void> {
    const marks = await this.#marks();
    const isSame =
      known.mark === undefined
        ? known.ino === info.ino && known.birthtimeNs === info.birthtimeNs && info.birthtimeNs > 0n
        : marks.includes(known.mark);
    if (!isSame) throw this.#changed('is another folder now');
    await this.#remember(info, known.mark);
  }

  async #remember(info: BigIntStats, mark?: string | undefined): Promise<void> {
    const [first] = await this.#marks();
    const { dev, ino, birthtimeNs } = info;
    this.#known = { dev, ino, birthtimeNs, mark: mark ?? first, isExact: await isExact(this.path, info) };
  }

  async #look(): Promise<BigIntStats | undefined> {
    try {
      const info = await stat(this.path, { bigint: true }); // The folder itself may be a link.
      if (info.isFile()) {
        const advice = 'pass the path of a folder that exists, or of one that is to be created';
        throw new BackupError('TARGET_ERROR', `${this.path} is a file, and a target needs a folder: ${advice}`);
      }
      if (!info.isDirectory()) throw unexpected(this.path, 'a directory');
      return info;
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    // A link that leads nowhere is an error: the folder that it should lead to does not exist.
    const link = this.#known === undefined ? await orIfMissing(lstat(this.path), undefined) : undefined;
    if (link?.isSymbolicLink()) throw unexpected(this.path, 'a directory');
    return undefined;
  }

  async #marks(): Promise<string[]> {
    const names = await orIfMissing(readdir(this.reserved), []);
    return names.filter((name) => /^folder-[0-9a-f]{32}$/.test(name)).sort();
  }

  #changed(how: string): BackupError {
    const message = `the folder ${this.path} ${how}; was its disk or share unmounted? Mount it again, or open a new FileTarget`;
    return new BackupError('FOLDER_CHANGED', message);
  }
}

interface Identity {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly birthtimeNs: bigint;
  readonly mark: string | undefined;
  /** Whether its file system keeps what tags are made of. */
  readonly isExact: boolean;
}

function sumOf(a: Leftovers, b: Leftovers): Leftovers {
  return { count: a.count + b.count, bytes: a.bytes + b.bytes };
}
