import { randomBytes } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { lstat, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BackupError } from '../../common/errors.ts';
import { isMissing } from '../../common/system-errors.ts';
import type { Leftovers } from '../cloud-target.ts';
import { isKeySegment } from '../keys.ts';
import type { DurableFiles } from './durable-file.ts';
import { unexpected } from './file-entries.ts';
import { RESERVED } from './file-path.ts';
import { checkLeftoversOptions } from './leftovers-options.ts';
import { type RemoveUnfinishedOptions, removeUnfinished, storeTimeIn } from './unfinished-files.ts';

const NOTHING: Leftovers = { count: 0, bytes: 0 };

/**
 * The folder of a `FileTarget`, and whether it is still the one that it was. A disk that is unmounted leaves an empty
 * folder of the same name behind, on another disk: what is absent there says nothing about the objects, and what is put
 * there is lost to them.
 *
 * The folder is recognised by its device and inode, at the price of the `stat` that every call makes anyway. A share
 * that was mounted again may have another device number; then its mark decides, an empty file with a random name in the
 * reserved folder. Where there is no mark (nothing was ever put by a `FileTarget`, a read-only copy of a bucket), inode and
 * time of birth decide.
 */
export class TargetFolder {
  /** The absolute path. */
  readonly path: string;
  /** The folder of puts that are not finished, and of the mark. */
  readonly reserved: string;
  readonly #mayCreate: boolean;
  readonly #files: DurableFiles;
  #known: Identity | undefined;
  #prepared: Promise<void> | undefined;
  /** What the first put has removed of killed writers, and nobody was told of. */
  #removed: Leftovers = NOTHING;

  constructor(path: string, mayCreate: boolean, files: DurableFiles) {
    this.path = path;
    this.reserved = join(path, RESERVED);
    this.#mayCreate = mayCreate;
    this.#files = files;
  }

  /**
   * Whether the folder is there. Absent is an answer only as long as nobody has seen it.
   *
   * @throws `FOLDER_CHANGED` when it is gone, or another one has its name; `FOLDER_NOT_FOUND` when it has to be there
   */
  async isThere(): Promise<boolean> {
    const info = await this.#look();
    if (info === undefined) {
      if (this.#known !== undefined) throw this.#changed('is no longer there');
      if (this.#mayCreate) return false;
      throw new BackupError('FOLDER_NOT_FOUND', `the folder ${this.path} is not there; is its disk or share mounted?`);
    }
    if (this.#known === undefined) this.#known = identityOf(info, await this.#marks());
    else if (info.dev !== this.#known.dev || info.ino !== this.#known.ino) await this.#lookAgain(this.#known, info);
    return true;
  }

  /**
   * As `isThere`, for a put: the first one of an instance makes what is missing. Later ones never do, and they write
   * into the reserved folder first: where that is missing, this is not the folder any more.
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

  /** The time of a file that is written now. A dry run asks for it too: nothing is removed for it. */
  async time(): Promise<number> {
    try {
      return await storeTimeIn(this.reserved);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    await this.prepare(); // A copy of the folder may lack what is reserved.
    return storeTimeIn(this.reserved);
  }

  /** Removes what killed writers left; what the first put has removed counts with it, once. */
  async removeLeftovers(options: RemoveUnfinishedOptions): Promise<Leftovers> {
    const removed = await removeUnfinished(this.reserved, options);
    if (options.dryRun) return removed;
    const earlier = this.#removed;
    this.#removed = NOTHING;
    return sumOf(earlier, removed);
  }

  /** The error for a reserved folder that is gone: somebody has emptied the folder. */
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
      // The name is all there is to it: several first writers make one each, and each remembers one that is there.
      await (await open(join(this.reserved, mark), 'wx', this.#files.fileMode)).close();
      await this.#files.sync(this.reserved);
    }
    await this.#files.sync(this.path);
    // Another program may have made the folder and not come to this point yet.
    await this.#files.syncName(this.path);
    await this.isThere();
    if (this.#known !== undefined) this.#known = { ...this.#known, mark };
    // What can't be removed takes up room and does nothing else: no reason to refuse a put.
    const removed = await removeUnfinished(this.reserved, checkLeftoversOptions(undefined)).catch(() => NOTHING);
    this.#removed = sumOf(this.#removed, removed);
  }

  /** Without leave to create, an empty folder is a mount point with nothing mounted rather than a new repository. */
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
    this.#known = { ...identityOf(info, marks), mark: known.mark ?? marks[0] };
  }

  async #look(): Promise<BigIntStats | undefined> {
    try {
      const info = await stat(this.path, { bigint: true }); // The folder itself may be a link to a directory.
      if (!info.isDirectory()) throw unexpected(this.path, 'a directory');
      return info;
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    // A link that leads nowhere is not absent: what it should lead to is.
    if (this.#known === undefined && (await isLink(this.path))) throw unexpected(this.path, 'a directory');
    return undefined;
  }

  async #marks(): Promise<string[]> {
    try {
      return (await readdir(this.reserved)).filter((name) => /^folder-[0-9a-f]{32}$/.test(name)).sort();
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
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
}

function identityOf({ dev, ino, birthtimeNs }: BigIntStats, marks: readonly string[]): Identity {
  return { dev, ino, birthtimeNs, mark: marks[0] };
}

async function isLink(path: string): Promise<boolean> {
  return lstat(path).then(
    (info) => info.isSymbolicLink(),
    (error) => {
      if (isMissing(error)) return false;
      throw error;
    },
  );
}

function sumOf(a: Leftovers, b: Leftovers): Leftovers {
  return { count: a.count + b.count, bytes: a.bytes + b.bytes };
}
