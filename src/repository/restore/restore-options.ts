import type { AbortOptions } from '../../common/abort.ts';
import {
  booleanArgument,
  described,
  functionArgument,
  integerArgument,
  optionsArgument,
  plainObjectArgument,
  signalArgument,
  textArgument,
} from '../../common/arguments.ts';
import type { ByteRange } from '../../common/byte-range.ts';
import type { BackupError } from '../../common/errors.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import type { RequestBudget } from '../../targets/decorators/request-meter.ts';
import { type CopyOnWriteVolume, isVolume } from '../../volume/copy-on-write-volume.ts';
import type { Progress, ProgressOptions } from '../context/progress.ts';

/** Options of `BackupRepository.restore`. @public */
export interface RestoreOptions extends ProgressOptions<Progress> {
  /**
   * Only these bytes, at any offsets; the rest of the device is left alone. They may overlap and come in any order.
   * Absent: all of the backup.
   */
  ranges?: readonly ByteRange[] | undefined;
  /**
   * What the device already holds: the id of a backup, or `'zeroes'`. Only blocks that differ from it are then fetched and
   * written. A sample of the other blocks is read first; if one of them differs, the whole device is compared with the backup,
   * and a warning says so.
   */
  deviceHolds?: string | undefined;
  /**
   * Read the device, and fetch and write only what differs. This continues a restore that failed or was
   * aborted. @defaultValue false
   */
  resume?: boolean | undefined;
  /**
   * The volume of a backup that is still under way: with it that backup can be restored before it is complete. A restore onto
   * the volume itself is a rollback, which undoes everything that was written since the instant.
   */
  liveVolume?: CopyOnWriteVolume | undefined;
  /** Write zeroes where the backup has lost blocks, instead of failing before anything is written. @defaultValue false */
  allowLost?: boolean | undefined;
  /**
   * Read back everything that was written, after the flush, and compare it with the backup. A system that answers reads from
   * its memory can hide a failing medium from this check. @defaultValue false
   */
  verifyWrites?: boolean | undefined;
  /** The most requests and bytes that the restore may use. */
  budget?: RequestBudget | undefined;
}

/** Options of `BackupRepository.restoreToFile`. @public */
export interface RestoreToFileOptions
  extends Pick<RestoreOptions, 'signal' | 'onProgress' | 'allowLost' | 'verifyWrites' | 'budget'> {
  /** Replace an existing file, in one step at the end. @defaultValue false */
  overwrite?: boolean | undefined;
}

/** Options of `BackupRepository.openBackup`. @public */
export interface OpenBackupOptions extends AbortOptions {
  /** The volume of a backup that is still under way: with it that backup can be opened before it is complete. */
  liveVolume?: CopyOnWriteVolume | undefined;
  /** Read blocks whose content could not be kept as zeroes instead of `BLOCK_LOST`. @defaultValue false */
  allowLost?: boolean | undefined;
  /** Size of the cache for content that is read again, in bytes. @defaultValue 32 MiB */
  cacheBytes?: number | undefined;
}

/** A backup, opened as a read-only device. @public */
export interface OpenedBackup extends BlockDevice {
  readonly readOnly: true;
  /** Ends the fetches that are under way: their readers get `CLOSED`. Idempotent. */
  close(): Promise<void>;
}

/** The result of a restore. @public */
export interface RestoreResult {
  /** Bytes that were written to the device, zeroes included. */
  readonly writtenBytes: number;
  /** Bytes that were not written because the device held them already, as it was compared or as `deviceHolds` said. */
  readonly skippedBytes: number;
  /** Bytes received from the target. */
  readonly fetchedBytes: number;
  /** Requests made of the target. */
  readonly requests: number;
  /** `DEVICE_DIFFERS` if the device did not hold what `deviceHolds` said. */
  readonly warnings: readonly BackupError[];
}

const RESTORE_OPTIONS = {
  ranges: true,
  deviceHolds: true,
  resume: true,
  liveVolume: true,
  allowLost: true,
  verifyWrites: true,
  budget: true,
  onProgress: true,
  signal: true,
} as const satisfies Record<keyof RestoreOptions, true>;

const TO_FILE_OPTIONS = {
  overwrite: true,
  allowLost: true,
  verifyWrites: true,
  budget: true,
  onProgress: true,
  signal: true,
} as const satisfies Record<keyof RestoreToFileOptions, true>;

/** Ranges beyond the end of the backup are refused later, when its size is known. @throws TypeError */
export function checkRestoreOptions(options: RestoreOptions): RestoreOptions {
  optionsArgument('options', options, RESTORE_OPTIONS);
  const { ranges, deviceHolds, resume, liveVolume } = options;
  checkLiveVolume(liveVolume);
  if (deviceHolds !== undefined) textArgument('deviceHolds', deviceHolds);
  if (resume !== undefined) booleanArgument('resume', resume);
  if (ranges !== undefined) {
    if (!Array.isArray(ranges)) throw new TypeError('ranges must be an array of byte ranges');
    for (const range of ranges) {
      plainObjectArgument('each of ranges', range);
      integerArgument('the offset of each of ranges', range.offset, Number.MIN_SAFE_INTEGER);
      integerArgument('the length of each of ranges', range.length, Number.MIN_SAFE_INTEGER);
    }
  }
  checkCommon(options);
  return options;
}

/** @throws TypeError */
export function checkRestoreToFileOptions(options: RestoreToFileOptions): RestoreToFileOptions {
  optionsArgument('options', options, TO_FILE_OPTIONS);
  if (options.overwrite !== undefined) booleanArgument('overwrite', options.overwrite);
  checkCommon(options);
  return options;
}

/** @throws TypeError */
export function checkOpenBackupOptions(options: OpenBackupOptions): void {
  const known = { liveVolume: true, allowLost: true, cacheBytes: true, signal: true } as const;
  const { allowLost, cacheBytes, signal, liveVolume } = optionsArgument('options', options, known);
  checkLiveVolume(liveVolume);
  if (allowLost !== undefined) booleanArgument('allowLost', allowLost);
  if (cacheBytes !== undefined) integerArgument('cacheBytes', cacheBytes, 0);
  signalArgument('signal', signal);
}

function checkLiveVolume(liveVolume: unknown): void {
  if (liveVolume === undefined || isVolume(liveVolume)) return;
  throw new TypeError(`liveVolume must be a CopyOnWriteVolume, not ${described(liveVolume)}`);
}

function checkCommon(options: Pick<RestoreOptions, 'allowLost' | 'verifyWrites' | 'onProgress' | 'signal'>): void {
  const { allowLost, verifyWrites, onProgress, signal } = options;
  if (allowLost !== undefined) booleanArgument('allowLost', allowLost);
  if (verifyWrites !== undefined) booleanArgument('verifyWrites', verifyWrites);
  if (onProgress !== undefined) functionArgument('onProgress', onProgress);
  signalArgument('signal', signal);
}
