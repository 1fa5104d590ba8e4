// This folder is copy before write: this file and volume-snapshot.ts are its face; the rest, from volume-core.ts down,
// the protocol.

import { randomUUID } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import { type AbortOptions, abortOptionsArgument } from '../common/abort.ts';
import { described, integerArgument, plainObjectArgument, textArgument } from '../common/arguments.ts';
import type { BlockRange } from '../common/block-range.ts';
import { BackupError } from '../common/errors.ts';
import { hasBrand } from '../common/realms.ts';
import {
  type BlockDevice,
  hasSyncDoor,
  type SyncAccess,
  type SyncBlockDevice,
  underlyingDevice,
} from '../device/block-device.ts';
import { checkTransfer } from '../device/door.ts';
import { checkSpan } from '../device/span.ts';
import { CopyBeforeWrite } from './copy-before-write.ts';
import type { ChangePoint } from './epochs/epoch-map.ts';
import { EventQueue } from './event-queue.ts';
import { freezeSync, freezeTogether, refuseStacked, type SnapshotOptions } from './freeze.ts';
import { PreimageBuffers, type PreimageUse } from './preimage-buffers.ts';
import { PendingCopies } from './preimage-copies.ts';
import type { SnapshotRecord } from './snapshot-record.ts';
import { openSpill, type Spill } from './spill.ts';
import { type OpenedState, openStateIn, type VolumeRecovery } from './state-directory/open-state.ts';
import { VolumeCore } from './volume-core.ts';
import {
  type CheckedVolumeOptions,
  checkVolumeOptions,
  type PreserveFailure,
  type VolumeOptions,
} from './volume-options.ts';
import {
  type CommitMemory,
  commitMemory,
  snapshotOf,
  type Volume,
  type VolumeEvents,
  type VolumeSnapshot,
} from './volume-snapshot.ts';

/**
 * `volume/` is a block device that sees every write before it lands and can freeze any instant (rules R1 to R11 and R13).
 *
 * This file and `volume-snapshot.ts` are its public face: they check arguments and pass calls on. The core below knows neither
 * of them. `copy-before-write.ts` is the path of every write, `preimage-copies.ts` copies what a write is about to overwrite,
 * `live-snapshots.ts` decides what must be copied and for whom, `freeze.ts` takes an instant, and `snapshot-reader.ts`
 * reads a snapshot while writes go on.
 */

/** The synchronous door of a volume over a device that has one. @public */
export interface SyncVolumeAccess extends SyncAccess {
  /**
   * Freezes the volume at once.
   *
   * @throws `WRITES_IN_FLIGHT` while asynchronous writes are at the device, `SNAPSHOT_LIMIT`, `CLOSED`
   */
  createSnapshotSync(options?: SnapshotOptions): VolumeSnapshot;
}

/** A device can have one volume only: what a second one wrote, the first would not see. */
const devicesInUse = new WeakSet<BlockDevice>();

const BRAND = Symbol.for('cow-cloud-backup.CopyOnWriteVolume');

/** Whether `value` is a volume, of this or another copy of this package. */
export function isVolume(value: unknown): value is CopyOnWriteVolume {
  return hasBrand(value, BRAND);
}

/**
 * A device that sees every write before it lands: the host writes through it, and can freeze any instant.
 *
 * While the volume is open, all writes to the device must go through it. It has discard, write-zeroes, extents and a
 * synchronous door if the device has them.
 *
 * @example
 * ```ts
 * await using device = await FileDevice.open('disk.img');
 * await using volume = await CopyOnWriteVolume.open(device);
 * await volume.write(0, new Uint8Array(4096).fill(1)); // All writes go through the volume.
 *
 * await using snapshot = await volume.createSnapshot();
 * await volume.write(0, new Uint8Array(4096).fill(2));
 * const before = new Uint8Array(4096);
 * await snapshot.read(0, before); // Full of ones: what the volume held when the snapshot was taken.
 * ```
 *
 * @public
 */
export class CopyOnWriteVolume implements Volume {
  /** Bytes. */
  readonly size: number;
  /** Bytes; every offset and length is a multiple of it. */
  readonly sectorSize: number;
  readonly readOnly: boolean;
  /** As of the device, to which each call is passed in one piece. */
  readonly maxTransferBytes: number | undefined;
  /** Bytes that are tracked, preserved and stored together. */
  readonly blockSize: number;
  /** For diagnostics. */
  readonly name: string | undefined;
  /** Identifies the change tracking of this volume; see {@link ChangePoint}. */
  readonly trackingId: string;
  /** What was found in its state directory; `undefined` without one. */
  readonly recovery: VolumeRecovery | undefined;
  /** Events about its snapshots; see {@link VolumeEvents}. */
  readonly events: EventEmitter<VolumeEvents>;
  readonly discard?: NonNullable<BlockDevice['discard']>;
  readonly writeZeroes?: NonNullable<BlockDevice['writeZeroes']>;
  readonly extents?: NonNullable<BlockDevice['extents']>;
  /** @internal */
  readonly [BRAND] = true;
  /** @internal */
  protected readonly core: VolumeCore;
  /** @internal */
  protected readonly writes: CopyBeforeWrite;
  readonly #copies: PendingCopies;
  readonly #spill: Spill | undefined;
  readonly #closeDevice: boolean;
  #closing: Promise<void> | undefined;

  /** @internal */
  protected constructor(
    device: BlockDevice,
    options: CheckedVolumeOptions,
    spill: Spill | undefined,
    opened: OpenedState | undefined,
  ) {
    const events = new EventQueue({ volume: () => this, snapshotOf: (record) => this.snapshotOf(record) });
    const buffers = new PreimageBuffers(options.blockSize, options.memoryBytes, spill);
    buffers.onPressure = () => events.pressure(() => buffers.use);
    this.core = new VolumeCore(device, options, buffers, events, opened);
    this.recovery = opened?.recovery;
    if (opened !== undefined) opened.state.onLost = (error) => events.stateLost(error);
    this.#copies = new PendingCopies(this.core);
    this.writes = new CopyBeforeWrite(this.core, this.#copies);
    this.#spill = spill;
    this.#closeDevice = options.closeDevice;
    this.size = device.size;
    this.sectorSize = device.sectorSize;
    this.readOnly = device.readOnly ?? false;
    this.maxTransferBytes = device.maxTransferBytes;
    this.blockSize = options.blockSize;
    this.name = options.name;
    this.trackingId = opened?.trackingId ?? randomUUID();
    this.events = events.emitter as EventEmitter<VolumeEvents>;
    const { discard, writeZeroes, extents } = device;
    if (discard !== undefined) this.discard = this.#otherWrite(discard.bind(device));
    if (writeZeroes !== undefined) this.writeZeroes = this.#otherWrite(writeZeroes.bind(device));
    if (extents !== undefined) this.extents = this.#checked(extents.bind(device));
  }

  /**
   * Opens a volume over a device. If the device has a synchronous door, so has the volume.
   *
   * @example
   * ```ts
   * await using volume = await CopyOnWriteVolume.open(device, {
   *   blockSize: 64 * 1024,
   *   // Up to 256 MiB of pre-images in memory, more in a file; without room a block is lost, and writes go on.
   *   preserve: { memoryBytes: 256 * 2 ** 20, spillPath: '/var/tmp/disk.spill', onFailure: 'lose-block' },
   * });
   * volume.events.on('preimagePressure', ({ heldBytes, limitBytes }) => {
   *   console.warn(`pre-images take up ${heldBytes} of ${limitBytes} bytes`);
   * });
   * ```
   *
   * @throws TypeError for wrong options; `DEVICE_BUSY` if the device has an open volume already, `LIMIT_EXCEEDED` if there
   * is not enough memory for the maps, `DEVICE_EXISTS`, `PERMISSION_DENIED` and other file errors for the spill file and the state
   * directory, `DEVICE_BUSY` and `LOCK_UNAVAILABLE` for that,
   * `PREIMAGE_SPACE` if pre-images may go to a spill only and there is no folder for one
   */
  static open(device: SyncBlockDevice, options?: VolumeOptions): Promise<CopyOnWriteVolume & SyncVolumeAccess>;
  static open(device: BlockDevice, options?: VolumeOptions): Promise<CopyOnWriteVolume>;
  static async open(device: BlockDevice, options: VolumeOptions = {}): Promise<CopyOnWriteVolume> {
    const checked = checkVolumeOptions(device, options);
    if (devicesInUse.has(device))
      throw new BackupError(
        'DEVICE_BUSY',
        'the device already has an open volume: write through that volume, or close it first',
      );
    devicesInUse.add(device);
    let spill: Spill | undefined;
    let opened: OpenedState | undefined;
    try {
      spill = await openSpill(device, checked);
      const { stateDirectory, blockSize } = checked;
      if (stateDirectory !== undefined) opened = await openStateIn(stateDirectory, device, blockSize);
      return hasSyncDoor(device)
        ? new SyncVolume(device, checked, spill, opened)
        : new CopyOnWriteVolume(device, checked, spill, opened);
    } catch (error) {
      devicesInUse.delete(device);
      await opened?.state.close();
      await spill?.close();
      throw error;
    }
  }

  /**
   * Freezes several volumes at one instant: writes to all of them are held until none is at any device.
   *
   * @throws `VOLUME_STACKED` if one volume of the group stands on another, `SNAPSHOT_LIMIT`, `CLOSED`, or what `atInstant`
   * throws; then no snapshot has been created
   */
  static async createSnapshots<const V extends readonly CopyOnWriteVolume[]>(
    volumes: V,
    options: SnapshotOptions = {},
  ): Promise<{ -readonly [K in keyof V]: VolumeSnapshot }> {
    if (!Array.isArray(volumes)) throw new TypeError(`volumes must be an array, not ${described(volumes)}`);
    const members: CopyOnWriteVolume[] = Array.from(volumes);
    for (const volume of members) {
      if (typeof volume === 'object' && volume !== null && #closeDevice in volume) continue;
      throw new TypeError(`volumes must hold CopyOnWriteVolume objects only, not ${described(volume)}`);
    }
    refuseStacked(members);
    const cores = members.map(({ core }) => core);
    const records = await freezeTogether(cores, options);
    const snapshots = records.map((record, index) => members[index]?.snapshotOf(record));
    return snapshots as { -readonly [K in keyof V]: VolumeSnapshot };
  }

  /** The device, for code that follows a stack of devices. */
  get [underlyingDevice](): BlockDevice {
    return this.core.device;
  }

  /** @internal Which instants became backups, also in earlier processes; `undefined` without a state directory. */
  get [commitMemory](): CommitMemory | undefined {
    return this.core.state;
  }

  /** The open snapshot handles. */
  get snapshots(): readonly VolumeSnapshot[] {
    const { snapshots, state } = this.core;
    // Rule C4: an instant that is not sealed is shown to nobody.
    const shown = snapshots.records.filter(({ isAnnounced }) => isAnnounced || state === undefined);
    return shown.map((record) => this.snapshotOf(record));
  }

  /** The policy for a pre-image that can't be kept, as set when the volume was opened. */
  get onPreserveFailure(): PreserveFailure {
    return this.core.onFailure;
  }

  /** How much room pre-images take up at this moment, and how much they may take up. */
  get preimages(): PreimageUse {
    return this.core.buffers.use;
  }

  read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void> {
    try {
      this.core.requireOpen();
      checkTransfer(this.core, 'into', offset, into);
      abortOptionsArgument(options);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.core.device.read(offset, into, options);
  }

  /** @throws `PRESERVE_FAILED` under `fail-write`, `STATE_FAILED` (see {@link VolumeEvents}), `CLOSED`, `READ_ONLY`, `OUT_OF_RANGE`, `MISALIGNED`, and the device's errors */
  write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void> {
    return this.writes.write(offset, from, options);
  }

  async flush(options?: AbortOptions): Promise<void> {
    this.core.requireOpen();
    abortOptionsArgument(options);
    await this.core.device.flush(options);
  }

  /**
   * Freezes the volume at an instant between this call and its return. Acknowledged writes are in the snapshot, and held
   * ones are not. The hold lasts no longer than the slowest write at the device.
   *
   * With a state directory it resolves when the instant is durable: the device is flushed and the instant recorded, while writes go on.
   *
   * @throws `SNAPSHOT_LIMIT`, `CLOSED`, or what `atInstant` throws; with a state directory also `STATE_FAILED`, and what the flush of
   * the device throws. Then no snapshot has been created
   */
  async createSnapshot(options: SnapshotOptions = {}): Promise<VolumeSnapshot> {
    const [snapshot] = await CopyOnWriteVolume.createSnapshots([this], options);
    return snapshot;
  }

  /**
   * The blocks written since an instant, ascending, in runs of up to 1 Mi blocks. The result may contain blocks that were
   * not written, and always contains those that were. It is `undefined` if the changes are unknown: then contents must be
   * compared. For an incremental backup, ask after its snapshot was created, and also store the blocks that the base has lost.
   *
   * The map is examined during the iteration. Each step takes a few milliseconds at most and hardly any memory, however
   * large the volume is. Let the event loop turn during a long iteration; blocks written meanwhile may or may not show.
   *
   * @throws `CLOSED`; TypeError for a malformed point. A point of another volume gives `undefined`
   */
  changedSince(point: ChangePoint): Iterable<BlockRange> | undefined {
    this.core.requireOpen();
    plainObjectArgument('point', point);
    textArgument('point.trackingId', point.trackingId);
    integerArgument('point.epoch', point.epoch, 0);
    return point.trackingId === this.trackingId ? this.core.epochs.changedSince(point.epoch) : undefined;
  }

  /**
   * Refuses new calls, and writes that still wait for a pre-image or an instant, with `CLOSED`. Waits for the writes at the
   * device, closes all snapshots and removes the spill. Idempotent.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal */
  protected snapshotOf(record: SnapshotRecord): VolumeSnapshot {
    return snapshotOf(this, this.core, record);
  }

  async #close(): Promise<void> {
    const { snapshots, gate, device } = this.core;
    this.core.close();
    for (const record of [...snapshots.records]) snapshots.retire(record, 'closed');
    await this.#copies.close();
    await gate.landed();
    try {
      await this.core.state?.close();
      await this.#spill?.close();
    } finally {
      devicesInUse.delete(device);
      if (this.#closeDevice) await device[Symbol.asyncDispose]();
    }
  }

  #checked(extents: NonNullable<BlockDevice['extents']>): NonNullable<BlockDevice['extents']> {
    return (offset, length, options) => {
      this.core.requireOpen();
      checkSpan(this, offset, length);
      abortOptionsArgument(options);
      return extents(offset, length, options);
    };
  }

  #otherWrite(call: (offset: number, length: number, options?: AbortOptions) => Promise<void>) {
    return (offset: number, length: number, options?: AbortOptions): Promise<void> =>
      this.writes.writeWithCopies(offset, length, options, () => call(offset, length, options));
  }
}

class SyncVolume extends CopyOnWriteVolume implements SyncVolumeAccess {
  readonly #device: SyncBlockDevice;

  constructor(
    device: SyncBlockDevice,
    options: CheckedVolumeOptions,
    spill: Spill | undefined,
    opened: OpenedState | undefined,
  ) {
    super(device, options, spill, opened);
    this.#device = device;
  }

  readSync(offset: number, into: Uint8Array): void {
    this.core.requireOpen();
    checkTransfer(this.core, 'into', offset, into);
    this.#device.readSync(offset, into);
  }

  writeSync(offset: number, from: Uint8Array): void {
    this.writes.writeSync(this.#device, offset, from);
  }

  flushSync(): void {
    this.core.requireOpen();
    this.#device.flushSync();
  }

  createSnapshotSync(options: SnapshotOptions = {}): VolumeSnapshot {
    return this.snapshotOf(freezeSync(this.core, options, () => this.#device.flushSync()));
  }
}
