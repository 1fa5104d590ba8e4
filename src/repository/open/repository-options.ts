import type { AbortOptions } from '../../common/abort.ts';
import { integerArgument, textArgument } from '../../common/arguments.ts';
import type { JobSettings } from '../backup/backup-jobs.ts';
import type { Unlock } from '../crypto/unlock.ts';
import type { LogPosition } from '../log/log-source.ts';
import { DEFAULT_PACK_BYTES, LEAST_PACK_BYTES, MOST_PACK_BYTES } from '../packs/pack-sizes.ts';

/**
 * How much memory, how many threads and how many requests at a time a repository may take. The defaults suit a process
 * that has other things to do.
 *
 * @public
 */
export interface RepositoryTuning {
  /** Worker threads that hash, compress and encrypt; 0 does it on the calling one. @defaultValue one a core, at most 8 */
  threads?: number | undefined;
  /** Of zstd, from 1 (fast) to 22. Blocks that don't shrink are stored as they are. @defaultValue 1 */
  compressionLevel?: number | undefined;
  /** Memory that blocks go through on their way to their packs, in bytes, for each block size in use. @defaultValue 16 MiB */
  sealMemoryBytes?: number | undefined;
  /** About how large a pack is, in bytes, from 64 KiB to 1 GiB. @defaultValue 32 MiB */
  packBytes?: number | undefined;
  /** How many packs are uploaded at the same time, in addition to the one being filled. @defaultValue 2 */
  parallelUploads?: number | undefined;
  /** Map nodes kept in memory, in bytes. @defaultValue 16 MiB */
  cacheBytes?: number | undefined;
  /**
   * A name for this program, for programs whose host has another name after each start (pods). At most one process may use
   * a name at a time, because it takes over the sessions that an earlier process of this name left open. At most 512
   * characters once it is percent-encoded. @defaultValue the host's name; sessions of dead processes are then taken over
   */
  owner?: string | undefined;
  /**
   * The program of the worker threads, where a bundler has put it: `file:` URL of `cow-cloud-backup/seal-worker`; see
   * `docs/guides/bundlers.md`. Where it can't be started the work is done on the calling thread, after a process warning.
   * @defaultValue `SEAL_WORKER_URL`
   */
  workerUrl?: URL | string | undefined;
}

/** Options that a repository is created with. They can't be changed later. @public */
export interface NewRepositoryOptions {
  /**
   * The passphrase, key or provider that unlocks the repository, or `'none'`: then everybody who can read the store can read
   * the backups. A repository can't be encrypted or decrypted later; further keys can be added.
   */
  encryption: Unlock | 'none';
  /**
   * Create a repository that only one process at a time may write to. This is needed where the store can't create an object only if
   * it is absent. @defaultValue false
   */
  singleWriter?: boolean | undefined;
}

/** Options of `BackupRepository.create`. @public */
export interface CreateOptions extends NewRepositoryOptions, RepositoryTuning {}

/** Options of `BackupRepository.open`. @public */
export interface OpenOptions extends AbortOptions, RepositoryTuning {
  /**
   * Needed where the repository is encrypted. A repository without encryption is then refused (`NOT_ENCRYPTED`), so that
   * nobody who can write to the store can have backups stored in the clear. @defaultValue `createIfMissing.encryption`
   */
  unlock?: Unlock | undefined;
  /** Never write to the target. Excludes `createIfMissing`. @defaultValue false */
  readOnly?: boolean | undefined;
  /**
   * Required to write to a repository for a single writer: the host promises that no other process writes to it.
   * @defaultValue `createIfMissing.singleWriter`, else false
   */
  singleWriter?: boolean | undefined;
  /**
   * Create the repository if there is none, or if its creation was cut short. It is never created where `remembered` is
   * given, nor where objects of a repository are. `repository.wasCreated` tells whether it was.
   */
  createIfMissing?: NewRepositoryOptions | undefined;
  /**
   * `repository.position`, or its text by `formatPosition`, as this host has kept it. A repository that is not there, that
   * has gone back behind it, or that has another history, is `REPOSITORY_ROLLED_BACK`. A host that remembers nothing can't
   * tell an old copy of the repository from the newest one.
   */
  remembered?: LogPosition | string | undefined;
}

const MIB = 1024 * 1024;
const DEFAULT_SEAL_MEMORY_BYTES = 16 * MIB;
const DEFAULT_CACHE_BYTES = 16 * MIB;

/** {@link RepositoryTuning}, checked and with its defaults. */
export interface CheckedTuning extends JobSettings {
  readonly cacheBytes: number;
  readonly owner: string | undefined;
}

const MAX_OWNER = 512;

/** @throws TypeError */
export function checkTuning(options: RepositoryTuning): CheckedTuning {
  const { threads, compressionLevel, sealMemoryBytes, owner } = options;
  if (threads !== undefined) integerArgument('threads', threads, 0, 256);
  if (compressionLevel !== undefined) integerArgument('compressionLevel', compressionLevel, 1, 22);
  if (sealMemoryBytes !== undefined) integerArgument('sealMemoryBytes', sealMemoryBytes, MIB);
  if (owner !== undefined) {
    textArgument('owner', owner);
    if (!owner.isWellFormed() || encodeURIComponent(owner).length > MAX_OWNER) {
      throw new TypeError(`owner must be well-formed text of at most ${MAX_OWNER} characters, percent-encoded`);
    }
  }
  return {
    owner,
    workerUrl: workerUrlArgument(options.workerUrl),
    threads,
    compressionLevel,
    sealMemoryBytes: sealMemoryBytes ?? DEFAULT_SEAL_MEMORY_BYTES,
    packBytes: integerArgument(
      'packBytes',
      options.packBytes === undefined ? DEFAULT_PACK_BYTES : options.packBytes,
      LEAST_PACK_BYTES,
      MOST_PACK_BYTES,
    ),
    parallelPuts: integerArgument(
      'parallelUploads',
      options.parallelUploads === undefined ? 2 : options.parallelUploads,
      1,
      64,
    ),
    cacheBytes: integerArgument(
      'cacheBytes',
      options.cacheBytes === undefined ? DEFAULT_CACHE_BYTES : options.cacheBytes,
      0,
    ),
  };
}

/** Of any realm: what it says counts. */
function workerUrlArgument(value: unknown): URL | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'string' || Object.prototype.toString.call(value) === '[object URL]') {
    const url = URL.parse(String(value));
    if (url !== null && ['file:', 'data:'].includes(url.protocol)) return url;
  }
  throw new TypeError('workerUrl must be a file: or data: URL, such as new URL("./seal-worker.js", import.meta.url)');
}
