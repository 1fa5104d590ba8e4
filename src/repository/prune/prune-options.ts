import {
  booleanArgument,
  functionArgument,
  integerArgument,
  optionsArgument,
  signalArgument,
} from '../../common/arguments.ts';
import type { BackupError } from '../../common/errors.ts';
import type { Progress, ProgressOptions } from '../context/progress.ts';
import { RESERVE_BYTES } from '../context/reserve.ts';
import { DEFAULT_PACK_BYTES } from '../packs/pack-sizes.ts';
import type { DamagedBackup } from './damaged-backups.ts';
import type { Unreferenced } from './unreferenced.ts';

/**
 * Options of `BackupRepository.prune`.
 *
 * Content of a block map's tree that a newer run hides counts as needed until the runs are folded into the tree. So forgetting
 * the base of a few small incremental backups frees little; the rest is freed after the fold, which happens at the latest when
 * a sixteenth of the volume has changed.
 *
 * @public
 */
export interface PruneOptions extends ProgressOptions<Progress> {
  /** Only report what would be condemned and freed; nothing is written or deleted. @defaultValue false */
  dryRun?: boolean | undefined;
  /**
   * The grace period: how long condemned packs are kept for readers that still use them, in milliseconds. With 0 they are
   * deleted in the same run. Then a reader of a forgotten backup gets `BACKUP_FORGOTTEN`, and a restore from a repacked pack
   * continues with the new pack. @defaultValue 24 hours
   */
  graceMs?: number | undefined;
  /**
   * Sessions that have stored nothing for this many milliseconds are fenced, because their host may be dead. A host that
   * is still alive gets `SESSION_FENCED` and has to start its backup again. Backups under way in this process are left alone.
   *
   * This and the other durations are measured on the store's clock where it has one, and never between the clocks of two
   * hosts. A time in the future, or one that another host's clock gave, counts from the first prune that sees it. 0 means at once.
   * @defaultValue 30 days
   */
  fenceAfterMs?: number | undefined;
  /**
   * How long a prune keeps the packs of a session that was fenced, in milliseconds: until then the next backup of its volume
   * uses what it has uploaded. @defaultValue 1 day
   */
  keepFencedMs?: number | undefined;
  /**
   * Packs of which less than this fraction is needed are repacked; 0 repacks none. With 0.5, at most one byte is copied for
   * each byte that is freed. @defaultValue 0.5
   */
  repackBelow?: number | undefined;
  /** The most that one run copies, in bytes; 0 turns repacking off. The next run continues. @defaultValue 4 GiB */
  maxRepackBytes?: number | undefined;
  /** Repacking begins once it frees at least this many bytes, or merges many small packs. @defaultValue 8 MiB */
  minRepackGainBytes?: number | undefined;
  /** Size of the packs that repacking writes, in bytes. @defaultValue 32 MiB */
  packBytes?: number | undefined;
  /**
   * Ask the store before a pack is deleted or repacked whether an object lock protects it, with one request for each pack.
   * With `false` only locks that a listing shows are respected. @defaultValue true
   */
  checkLocks?: boolean | undefined;
  /**
   * Size of the object `reserve` in bytes. Forgetting and pruning use its space for their log entry when the store is full. It
   * is created while there is space for it; 0 creates none. @defaultValue 1 MiB
   */
  reserveBytes?: number | undefined;
}

/**
 * What a prune did, or with `dryRun` would have done. Bytes are stored bytes of whole objects. With `dryRun` the old part of the
 * log does not count.
 *
 * @public
 */
export interface PruneResult {
  /** Bytes of deleted objects that take up no space any more, including leftovers of killed writers. */
  readonly freedBytes: number;
  /**
   * Bytes of deleted objects that the store keeps as old versions (a bucket with versioning): they take up space until a
   * lifecycle rule of the bucket removes them. `S3Target` with `deleteVersions` deletes the versions as well.
   */
  readonly keptAsVersionsBytes: number;
  /** Number of leftovers of killed writers that are not objects, such as temporary files. */
  readonly leftoverCount: number;
  /** Bytes of those leftovers. */
  readonly leftoverBytes: number;
  /** Bytes that this run condemned. They are deleted once the grace period is over, perhaps in this run. */
  readonly condemnedBytes: number;
  /** Bytes of condemned packs whose grace period or object lock has not ended. */
  readonly waitingBytes: number;
  /** Bytes that were copied out of packs that are condemned now. */
  readonly repackedBytes: number;
  /** Number of deleted objects: packs, old entries, checkpoints and pages of the log, and leftovers of tests of the store. */
  readonly deletedObjects: number;
  /** Number of packs that this run condemned. */
  readonly condemnedPacks: number;
  /** Number of packs whose live records this run copied into new packs. */
  readonly repackedPacks: number;
  /** Number of sessions that were fenced. */
  readonly fencedSessions: number;
  /** Uploads that no backup refers to, of backups under way and of failed ones, as found before this run condemned any. */
  readonly unreferenced: Unreferenced;
  /**
   * Backups that can't be read in full. Everything that may be needed to read the rest of them is kept, so that much less is
   * freed. To free more, restore what is left of them (`verify` says what is damaged), then forget them and prune again.
   */
  readonly damagedBackups: readonly DamagedBackup[];
  /** Why nothing was repacked, if repacking found damage or a full store. `verify` says what is damaged. */
  readonly repackError: BackupError | undefined;
}

type Waiting = Pick<PruneOptions, 'signal' | 'onProgress'>;

/** The options with their defaults. */
export type CheckedPruneOptions = Waiting & {
  readonly [Name in Exclude<keyof PruneOptions, keyof Waiting>]-?: NonNullable<PruneOptions[Name]>;
};

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const MIB = 2 ** 20;

/** The names of all options. */
export const PRUNE_OPTIONS: Readonly<Record<keyof PruneOptions, true>> = {
  dryRun: true,
  graceMs: true,
  fenceAfterMs: true,
  keepFencedMs: true,
  repackBelow: true,
  maxRepackBytes: true,
  minRepackGainBytes: true,
  packBytes: true,
  checkLocks: true,
  reserveBytes: true,
  signal: true,
  onProgress: true,
};

/** @throws TypeError */
export function checkPruneOptions(given: PruneOptions): CheckedPruneOptions {
  const options = optionsArgument('options', given, PRUNE_OPTIONS);
  const { dryRun = false, checkLocks = true, repackBelow = 0.5, onProgress } = options;
  const integer = (name: keyof PruneOptions, otherwise: number, min = 0, max?: number) =>
    integerArgument(name, options[name] === undefined ? otherwise : options[name], min, max);
  if (!(typeof repackBelow === 'number' && repackBelow >= 0 && repackBelow <= 1)) {
    throw new TypeError(`repackBelow must be a number from 0 to 1, not ${String(repackBelow)}`);
  }
  return {
    dryRun: booleanArgument('dryRun', dryRun),
    graceMs: integer('graceMs', DAY_MS),
    fenceAfterMs: integer('fenceAfterMs', 30 * DAY_MS),
    keepFencedMs: integer('keepFencedMs', DAY_MS),
    repackBelow,
    maxRepackBytes: integer('maxRepackBytes', 4096 * MIB),
    minRepackGainBytes: integer('minRepackGainBytes', 8 * MIB),
    packBytes: integer('packBytes', DEFAULT_PACK_BYTES, 4096, 2 ** 31),
    checkLocks: booleanArgument('checkLocks', checkLocks),
    reserveBytes: integer('reserveBytes', RESERVE_BYTES, 0, 2 ** 30),
    signal: signalArgument('signal', options.signal),
    onProgress: onProgress === undefined ? undefined : functionArgument('onProgress', onProgress),
  };
}
