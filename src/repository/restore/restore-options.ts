import type { ByteRange } from '../../common/byte-range.ts';
import type { BackupError } from '../../common/errors.ts';
import type { CopyOnWriteVolume } from '../../volume/copy-on-write-volume.ts';
import type { Progress, ProgressOptions } from '../progress.ts';
import type { RequestBudget } from '../requests/request-meter.ts';

/** Options of `BackupRepository.restore`. @public */
export interface RestoreOptions extends ProgressOptions<Progress> {
  /**
   * Only these bytes, at any offsets; the rest of the device is left alone. They may overlap and come in any order.
   * Absent: all of the backup.
   */
  ranges?: readonly ByteRange[] | undefined;
  /**
   * What the device holds already: the id of a backup, or `'zeroes'`. Then only blocks that differ are fetched and
   * written. A sample of the others is read first; if one of them is not what it should be, all of the device is compared
   * with the backup, and a warning says so.
   */
  deviceHolds?: string | undefined;
  /**
   * Read what is on the device, and fetch and write only what differs: for going on with a restore that failed or was
   * aborted. @defaultValue false
   */
  resume?: boolean | undefined;
  /**
   * The volume that a backup on its way is made of: with it that backup can be restored too. Onto the volume itself this is a
   * rollback: what has been written since the instant is undone.
   */
  survivor?: CopyOnWriteVolume | undefined;
  /** Write zeroes where the backup has lost blocks, instead of failing before anything is written. @defaultValue false */
  allowLost?: boolean | undefined;
  /**
   * Read everything that was written back after the flush, and compare it with the backup. A system that answers from
   * memory what it has just been given can hide a failing medium from this. @defaultValue false
   */
  verifyWrites?: boolean | undefined;
  /** The most that it may ask of the target. */
  budget?: RequestBudget | undefined;
}

/** What a restore has done. @public */
export interface RestoreResult {
  /** Bytes that were written to the device, zeroes among them. */
  readonly writtenBytes: number;
  /** Bytes that the device held already, or was said to and not found wrong. */
  readonly skippedBytes: number;
  /** Bytes that came from the target. */
  readonly fetchedBytes: number;
  /** Requests made of the target. */
  readonly requests: number;
  /** `DEVICE_DIFFERS` where the device did not hold what `deviceHolds` said. */
  readonly warnings: readonly BackupError[];
}
