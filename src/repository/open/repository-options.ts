import type { AbortOptions } from '../../common/abort.ts';
import {
  booleanArgument,
  integerArgument,
  optionsArgument,
  signalArgument,
  textArgument,
} from '../../common/arguments.ts';
import type { JobSettings } from '../backup/backup-jobs.ts';
import { type CheckedUnlock, checkUnlock, type Unlock } from '../crypto/unlock.ts';
import type { LogPosition } from '../log/log-source.ts';
import { DEFAULT_PACK_BYTES, LEAST_PACK_BYTES, MOST_PACK_BYTES } from '../packs/pack-sizes.ts';
import { positionArgument } from './log-position.ts';

/**
 * How much memory, how many threads and how many parallel requests a repository may use. The defaults suit a process that
 * has other work to do.
 *
 * @public
 */
export interface RepositoryTuning {
  /** Worker threads that hash, compress and encrypt; with 0 the calling thread does it. @defaultValue one for each core, at most 8 */
  threads?: number | undefined;
  /** The level of zstd, from 1 (fast) to 22. Blocks that don't shrink are stored uncompressed. @defaultValue 1 */
  compressionLevel?: number | undefined;
  /** Memory for blocks that are being compressed and encrypted, in bytes, for each block size in use. @defaultValue 16 MiB */
  sealMemoryBytes?: number | undefined;
  /** The size of a full pack, in bytes, from 64 KiB to 1 GiB. @defaultValue 32 MiB and 64 KiB: 512 incompressible blocks of 64 KiB */
  packBytes?: number | undefined;
  /** How many packs of swept blocks are uploaded at the same time, from 1 to 64. @defaultValue 2 */
  parallelUploads?: number | undefined;
  /** Memory for cached map nodes, in bytes. @defaultValue 16 MiB */
  cacheBytes?: number | undefined;
  /**
   * A name for this program, for hosts that get a new name at each start (pods). Only one process at a time may use a name,
   * because it takes over the sessions that an earlier process with this name has left open. At most 512 characters in
   * percent-encoded form. @defaultValue the name of the host; then sessions of its dead processes are taken over
   */
  owner?: string | undefined;
  /**
   * Where a bundler has put the program of the worker threads (`cow-cloud-backup/seal-worker`), as a `file:` URL: see
   * `docs/guides/bundlers.md`. If it can't be started, the calling thread does the work, after a process warning.
   * @defaultValue `SEAL_WORKER_URL`
   */
  workerUrl?: URL | string | undefined;
}

/** Options that a repository is created with, and that can't be changed later. @public */
export interface NewRepositoryOptions {
  /**
   * The passphrase, key or provider that unlocks the repository. With `'none'` everybody who can read the store can read the
   * backups. Encryption can't be added or removed later; further keys can be added.
   */
  encryption: Unlock | 'none';
  /**
   * Create a repository that only one process at a time may write to. Stores that can't create an object only if it is absent
   * need this. @defaultValue false
   */
  singleWriter?: boolean | undefined;
}

/** Options of `BackupRepository.create`. @public */
export interface CreateOptions extends NewRepositoryOptions, RepositoryTuning {}

/** Options of `BackupRepository.open`. @public */
export interface OpenOptions extends AbortOptions, RepositoryTuning {
  /**
   * What unlocks an encrypted repository. If it is given, a repository without encryption is refused (`NOT_ENCRYPTED`), so
   * that a person who can write to the store can't cause backups to be stored unencrypted.
   * @defaultValue `createIfMissing.encryption`
   */
  unlock?: Unlock | undefined;
  /** Never write to the target. Can't be combined with `createIfMissing`. @defaultValue false */
  readOnly?: boolean | undefined;
  /**
   * Required for writing to a repository in single-writer mode: the host promises that no other process writes to it.
   * @defaultValue `createIfMissing.singleWriter`, else false
   */
  singleWriter?: boolean | undefined;
  /**
   * Create the repository if there is none, or if its creation was cut short. It is never created if `remembered` is given or
   * if the target has objects of a repository. `repository.wasCreated` says whether it was created.
   */
  createIfMissing?: NewRepositoryOptions | undefined;
  /**
   * A `repository.position` that this host has kept, or its text from `formatPosition`. If the repository is missing, is older
   * than that, or has another history, opening it fails with `REPOSITORY_ROLLED_BACK`. A host that remembers nothing can't
   * distinguish an old copy of the repository from the newest one.
   */
  remembered?: LogPosition | string | undefined;
}

const MIB = 1024 * 1024;
const DEFAULT_SEAL_MEMORY_BYTES = 16 * MIB;
const DEFAULT_CACHE_BYTES = 16 * MIB;

/** Checked {@link RepositoryTuning} with its defaults. */
export interface CheckedTuning extends JobSettings {
  readonly cacheBytes: number;
  readonly owner: string | undefined;
}

const MAX_OWNER = 512;

/** @throws TypeError */
export function checkTuning(options: RepositoryTuning): CheckedTuning {
  const { threads, compressionLevel, sealMemoryBytes = DEFAULT_SEAL_MEMORY_BYTES, owner } = options;
  const { packBytes = DEFAULT_PACK_BYTES, parallelUploads = 2, cacheBytes = DEFAULT_CACHE_BYTES } = options;
  if (threads !== undefined) integerArgument('threads', threads, 0, 256);
  if (compressionLevel !== undefined) integerArgument('compressionLevel', compressionLevel, 1, 22);
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
    sealMemoryBytes: integerArgument('sealMemoryBytes', sealMemoryBytes, MIB),
    packBytes: integerArgument('packBytes', packBytes, LEAST_PACK_BYTES, MOST_PACK_BYTES),
    parallelPuts: integerArgument('parallelUploads', parallelUploads, 1, 64),
    cacheBytes: integerArgument('cacheBytes', cacheBytes, 0),
  };
}

/** A URL may come from another realm, so its tag and its text count, not its class. */
function workerUrlArgument(value: unknown): URL | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'string' || Object.prototype.toString.call(value) === '[object URL]') {
    const url = URL.parse(String(value));
    if (url !== null && ['file:', 'data:'].includes(url.protocol)) return url;
  }
  throw new TypeError('workerUrl must be a file: or data: URL, such as new URL("./seal-worker.js", import.meta.url)');
}

const TUNING_KEYS: Readonly<Record<keyof RepositoryTuning, true>> = {
  threads: true,
  compressionLevel: true,
  sealMemoryBytes: true,
  packBytes: true,
  parallelUploads: true,
  cacheBytes: true,
  owner: true,
  workerUrl: true,
};
const NEW_KEYS: Readonly<Record<keyof NewRepositoryOptions, true>> = { encryption: true, singleWriter: true };
const CREATE_KEYS: Readonly<Record<keyof (CreateOptions & AbortOptions), true>> = {
  ...TUNING_KEYS,
  ...NEW_KEYS,
  signal: true,
};
const OPEN_KEYS: Readonly<Record<keyof OpenOptions, true>> = {
  ...TUNING_KEYS,
  signal: true,
  unlock: true,
  readOnly: true,
  singleWriter: true,
  createIfMissing: true,
  remembered: true,
};

/** Checked {@link NewRepositoryOptions}. */
export interface CheckedNewRepository {
  /** `undefined` for a plain repository. */
  readonly unlock: CheckedUnlock | undefined;
  readonly singleWriter: boolean;
}

/** Checked {@link OpenOptions}. */
export interface CheckedOpen {
  readonly unlock: CheckedUnlock | undefined;
  readonly readOnly: boolean;
  readonly singleWriter: boolean;
  readonly createIfMissing: CheckedNewRepository | undefined;
  readonly remembered: LogPosition | undefined;
  readonly signal: AbortSignal | undefined;
}

/** @throws TypeError */
export function checkCreateOptions(options: CreateOptions & AbortOptions): CheckedNewRepository {
  const { encryption, singleWriter, signal } = optionsArgument('options', options, CREATE_KEYS);
  signalArgument('signal', signal);
  return checkNewRepository('', { encryption, singleWriter });
}

/** @throws TypeError */
export function checkOpenOptions(options: OpenOptions): CheckedOpen {
  const checked = optionsArgument('options', options, OPEN_KEYS);
  const { unlock, readOnly = false, singleWriter, createIfMissing, remembered, signal } = checked;
  booleanArgument('readOnly', readOnly);
  if (singleWriter !== undefined) booleanArgument('singleWriter', singleWriter);
  const given = unlock === undefined ? undefined : checkUnlock(unlock);
  const missing =
    createIfMissing === undefined
      ? undefined
      : checkNewRepository(
          'createIfMissing.',
          optionsArgument('createIfMissing', createIfMissing, NEW_KEYS),
          singleWriter,
        );
  if (missing !== undefined && readOnly) throw new TypeError('readOnly and createIfMissing exclude each other');
  if (missing !== undefined && missing.unlock === undefined && given !== undefined) {
    throw new TypeError("unlock is given, so createIfMissing.encryption must not be 'none'");
  }
  return {
    unlock: given ?? missing?.unlock,
    readOnly,
    singleWriter: singleWriter ?? missing?.singleWriter ?? false,
    createIfMissing: missing,
    remembered: remembered === undefined ? undefined : positionArgument('remembered', remembered),
    signal: signalArgument('signal', signal),
  };
}

function checkNewRepository(
  path: string,
  { encryption, singleWriter }: NewRepositoryOptions,
  singleWriterByDefault = false,
): CheckedNewRepository {
  if (encryption === undefined) {
    throw new TypeError(`${path}encryption is required: a passphrase, a key, a provider, or 'none'`);
  }
  return {
    unlock: encryption === 'none' ? undefined : checkUnlock(encryption, `${path}encryption`),
    singleWriter: booleanArgument(`${path}singleWriter`, singleWriter ?? singleWriterByDefault),
  };
}
