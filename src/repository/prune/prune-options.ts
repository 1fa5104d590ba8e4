import {
  booleanArgument,
  functionArgument,
  integerArgument,
  optionsArgument,
  signalArgument,
} from '../../common/arguments.ts';
import type { BackupError } from '../../common/errors.ts';
import { DEFAULT_PACK_BYTES } from '../pack/pack-sizes.ts';
import type { Progress, ProgressOptions } from '../progress.ts';
import type { DamagedBackup } from './damaged-backups.ts';
import { RESERVE_BYTES } from './reserve.ts';
import type { Unreferenced } from './unreferenced.ts';

/**
 * How a repository is pruned.
 *
 * What a newer run of a map hides of its tree counts as needed until runs are folded into it, so little is freed by forgetting
 * the base of a few small incrementals; it comes with the fold, at the latest when a sixteenth of the volume has changed.
 *
 * @public
 */
export interface PruneOptions extends ProgressOptions<Progress> {
  /** Only say what would be condemned and freed: nothing is written, nothing deleted. @defaultValue false */
  dryRun?: boolean | undefined;
  /**
   * How long what was condemned stays for those who read it still, in milliseconds. With 0 everything goes in one run,
   * and who has a forgotten backup open, or is restoring from a pack that is moved, gets `BACKUP_FORGOTTEN` or reads
   * on from its new place. @defaultValue 24 hours
   */
  graceMs?: number | undefined;
  /**
   * Sessions that have stored nothing for so long are given up, in milliseconds: the host that holds one may be dead. A
   * living one finds its backup fenced and has to begin again. Backups under way in this process are left alone.
   *
   * This and the other durations are measured on the store's clock where it has one, and never between the clocks of two
   * hosts. What lies ahead of now, or was dated by another host's clock, counts from the first prune that sees it. 0 means at once.
   * @defaultValue 30 days
   */
  fenceAfterMs?: number | undefined;
  /**
   * For how long, in milliseconds, what a session had stored is kept after it was given up: its host may come back and
   * adopt it. What the next session of the same host ended is not kept for that. @defaultValue 1 day
   */
  keepFencedMs?: number | undefined;
  /**
   * Packs of which less than this part is needed are repacked; 0: none. At one half a byte that is kept is moved once
   * for every byte or more that is freed. @defaultValue 0.5
   */
  repackBelow?: number | undefined;
  /** The most that one run moves, in bytes; 0: no repacking. The next run goes on. @defaultValue 4 GiB */
  maxRepackBytes?: number | undefined;
  /** Repacking begins once it frees so much, in bytes, or merges many small packs. @defaultValue 8 MiB */
  minRepackGainBytes?: number | undefined;
  /** Bytes of the packs that it fills. @defaultValue 32 MiB */
  packBytes?: number | undefined;
  /**
   * Ask the store of each pack whether an object lock holds before it is deleted or moved: a request each. Without, only
   * what a listing says of locks is known. @defaultValue true
   */
  checkLocks?: boolean | undefined;
  /**
   * Bytes of the object `reserve`: room that forgetting and pruning use for their log entry when the store is full. It is made
   * while there is room for it; 0: none is made. @defaultValue 1 MiB
   */
  reserveBytes?: number | undefined;
}

/**
 * What pruning did, or with `dryRun` would have done. Bytes are those of whole packs as stored.
 *
 * @public
 */
export interface PruneResult {
  /** Of what was deleted, and takes up no room any more; leftovers of killed writers included. */
  readonly freedBytes: number;
  /**
   * Of what was deleted where the store keeps deleted objects as old versions (a bucket with versioning): it frees nothing
   * until a lifecycle rule of the bucket removes them. `S3Target` with `deleteVersions` deletes the versions as well.
   */
  readonly keptAsVersionsBytes: number;
  /** What killed writers had left outside of objects, such as temporary files, and its bytes. */
  readonly leftoverCount: number;
  readonly leftoverBytes: number;
  /** Of what this run condemned: it is deleted once the grace is over, perhaps in this run. */
  readonly condemnedBytes: number;
  /** Of what waits for its grace or an object lock to end. */
  readonly waitingBytes: number;
  /** Of what was copied out of packs that are condemned now. */
  readonly repackedBytes: number;
  readonly deletedObjects: number;
  readonly condemnedPacks: number;
  readonly repackedPacks: number;
  /** Sessions given up. */
  readonly fencedSessions: number;
  /** Uploads that no backup refers to, as they were found before this run condemned any: of backups under way and of dead ones. */
  readonly unreferenced: Unreferenced;
  /**
   * Backups that can't be read in full. All that may be needed to read the rest of them stays, so much less is freed than
   * could be. The way out: restore what is left of them (`verify` says what is damaged), then forget them and prune again.
   */
  readonly damagedBackups: readonly DamagedBackup[];
  /** Why nothing was repacked, where that met something damaged or had no room: `verify` says what is damaged. */
  readonly repackError: BackupError | undefined;
}

type Waiting = Pick<PruneOptions, 'signal' | 'onProgress'>;

/** Every choice made. */
export type CheckedPruneOptions = Waiting & {
  readonly [Name in Exclude<keyof PruneOptions, keyof Waiting>]-?: NonNullable<PruneOptions[Name]>;
};

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const MIB = 2 ** 20;

/** Names of all options. */
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
