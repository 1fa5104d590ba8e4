import { randomUUID } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import type { AbortOptions } from '../common/abort.ts';
import {
  abortOptionsArgument,
  described,
  integerArgument,
  plainObjectArgument,
  textArgument,
} from '../common/arguments.ts';
import type { BlockRange } from '../common/block-range.ts';
import { BackupError } from '../common/errors.ts';
import { hasBrand } from '../common/realms.ts';
import { type BlockDevice, hasSyncDoor, type SyncAccess, type SyncBlockDevice } from '../device/block-device.ts';
import { checkTransfer } from '../device/door.ts';
import { checkSpan } from '../device/span.ts';
import { underlyingDevice, type WrappingDevice } from '../device/underlying.ts';
import { WriteInterceptor } from './copy-before-write.ts';
import { freezeSync, freezeTogether, type SnapshotOptions } from './freeze.ts';
import { PreimageSpace, type PreimageUse } from './preimage-space.ts';
import { type OpenSpill, openSpill } from './spill-file.ts';
import { VolumeCore } from './volume-core.ts';
import { EventQueue, type VolumeEvents } from './volume-events.ts';
import {
  type CheckedVolumeOptions,
  checkVolumeOptions,
  type PreserveFailure,
  type VolumeOptions,
} from './volume-options.ts';
import type { VolumeSnapshot } from './volume-snapshot.ts';

/** An instant of one volume that changes can be asked against. Plain data: it may be kept anywhere. @public */
export interface ChangePoint {
  /** Which tracking the epoch belongs to: a volume that was not open the whole time has another one. */
  readonly trackingId: string;
  /** A serial number, never given out twice under one `trackingId`. */
  readonly epoch: number;
}

/** The synchronous door of a volume over a device that has one. @public */
export interface SyncVolumeAccess extends SyncAccess {
  /**
   * Freezes the volume at once.
   *
   * @throws `WRITES_IN_FLIGHT` while asynchronous writes are at the device, `SNAPSHOT_LIMIT`, `CLOSED`
   */
  createSnapshotSync(options?: SnapshotOptions): VolumeSnapshot;
}

/** What a second volume writes to a device the first one would not see. */
const devicesInUse = new WeakSet<BlockDevice>();

const BRAND = Symbol.for('cow-cloud-backup.CopyOnWriteVolume');

/** Whether `value` is a volume, of this or another copy of this package. */
export function isVolume(value: unknown): value is CopyOnWriteVolume {
  return hasBrand(value, BRAND);
}

/**
 * A device that sees every write before it lands: the host writes through it, and can freeze any instant.
 *
 * All writes to the device must go through the volume while it is open. It offers what the device offers: discard,
 * write-zeroes, extents, and a synchronous door.
 *
 * @public
 */
export class CopyOnWriteVolume implements BlockDevice, WrappingDevice {
  /** Bytes. */
  readonly size: number;
  /** Bytes; every offset and length is a multiple of it. */
  readonly sectorSize: number;
  readonly readOnly: boolean;
  /** The device's: a call goes to it in one piece. */
  readonly maxTransferBytes: number | undefined;
  /** Bytes that are tracked, preserved and stored together. */
  readonly blockSize: number;
  /** For diagnostics. */
  readonly name: string | undefined;
  /** Under which identity changes are tracked; see {@link ChangePoint}. */
  readonly trackingId: string;
  /** What happens to its snapshots; see {@link VolumeEvents}. */
  readonly events: EventEmitter<VolumeEvents>;
  readonly discard?: NonNullable<BlockDevice['discard']>;
  readonly writeZeroes?: NonNullable<BlockDevice['writeZeroes']>;
  readonly extents?: NonNullable<BlockDevice['extents']>;
  /** @internal */
  readonly [BRAND] = true;
  /** @internal */
  protected readonly core: VolumeCore;
  /** @internal */
  protected readonly interceptor: WriteInterceptor;
  readonly #spill: OpenSpill | undefined;
  readonly #closeDevice: boolean;
  #closing: Promise<void> | undefined;

  /** @internal */
  protected constructor(device: BlockDevice, options: CheckedVolumeOptions, spill: OpenSpill | undefined) {
    const events = new EventQueue(() => this);
    const space = new PreimageSpace(options.blockSize, options.memoryBytes, spill?.area);
    space.onPressure = () => events.pressure(() => space.use);
    this.core = new VolumeCore(device, options, space, events);
    this.interceptor = new WriteInterceptor(this.core);
    this.#spill = spill;
    this.#closeDevice = options.closeDevice;
    this.size = device.size;
    this.sectorSize = device.sectorSize;
    this.readOnly = device.readOnly ?? false;
    this.maxTransferBytes = device.maxTransferBytes;
    this.blockSize = options.blockSize;
    this.name = options.name;
    this.trackingId = randomUUID();
    this.events = events.emitter;
    const { discard, writeZeroes, extents } = device;
    if (discard !== undefined) this.discard = this.#otherWrite(discard.bind(device));
    if (writeZeroes !== undefined) this.writeZeroes = this.#otherWrite(writeZeroes.bind(device));
    if (extents !== undefined) {
      this.extents = (offset, length, options) => {
        this.core.requireOpen();
        checkSpan(this, offset, length);
        abortOptionsArgument(options);
        return extents.call(device, offset, length, options);
      };
    }
  }

  /**
   * Wraps a device. Over one with a synchronous door the volume has one too.
   *
   * @throws TypeError for options that are not as they should be; `DEVICE_BUSY` for a device that has an open volume
   * already, `LIMIT_EXCEEDED` when there is no memory for the maps, `DEVICE_EXISTS`, `PERMISSION_DENIED` and other file
   * errors for the spill file, `PREIMAGE_SPACE` where pre-images are to go to a spill only and there is no place for one
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
    const spill = await openSpill(device, checked).catch((error: unknown) => {
      devicesInUse.delete(device);
      throw error;
    });
    try {
      return hasSyncDoor(device)
        ? new SyncVolume(device, checked, spill)
        : new CopyOnWriteVolume(device, checked, spill);
    } catch (cause) {
      devicesInUse.delete(device);
      await spill?.close();
      throw new BackupError(
        'LIMIT_EXCEEDED',
        `there is not enough memory for a map of ${device.size / checked.blockSize} blocks: choose a larger blockSize`,
        {
          cause,
        },
      );
    }
  }

  /**
   * Freezes several volumes at one instant: writes to all are held until none is at any device.
   *
   * @throws `VOLUME_STACKED` when one volume stands on another of the group, `SNAPSHOT_LIMIT`, `CLOSED`, or what
   * `atInstant` throws; then no snapshot has been made
   */
  static async createSnapshots<const V extends readonly CopyOnWriteVolume[]>(
    volumes: V,
    options: SnapshotOptions = {},
  ): Promise<{ -readonly [K in keyof V]: VolumeSnapshot }> {
    if (!Array.isArray(volumes)) throw new TypeError(`volumes must be an array, not ${described(volumes)}`);
    const members = Array.from(volumes, (volume: V[number]) => {
      if (typeof volume === 'object' && volume !== null && #closeDevice in volume) return { volume, core: volume.core };
      throw new TypeError(`volumes must hold CopyOnWriteVolume objects only, not ${described(volume)}`);
    });
    const snapshots = await freezeTogether(members, options);
    return snapshots as { -readonly [K in keyof V]: VolumeSnapshot };
  }

  /** What it stands on, for code that follows a stack of devices. */
  get [underlyingDevice](): BlockDevice {
    return this.core.device;
  }

  /** The open snapshot handles. */
  get snapshots(): readonly VolumeSnapshot[] {
    return this.core.snapshots.records.map((record) => record.handle);
  }

  /** What happens when a pre-image can't be kept, as the volume was opened with. */
  get onPreserveFailure(): PreserveFailure {
    return this.core.onFailure;
  }

  /** How much room pre-images take up at this moment, and how much they may. */
  get preimages(): PreimageUse {
    return this.core.space.use;
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

  /** @throws `PRESERVE_FAILED` under `fail-write`, `CLOSED`, `READ_ONLY`, `OUT_OF_RANGE`, `MISALIGNED`, and what the device gives */
  write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void> {
    return this.interceptor.write(offset, from, options);
  }

  flush(options?: AbortOptions): Promise<void> {
    try {
      this.core.requireOpen();
      abortOptionsArgument(options);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.core.device.flush(options);
  }

  /**
   * Freezes the volume at an instant between this call and its return. Acknowledged writes are in the snapshot, held
   * ones are not; the hold lasts no longer than the slowest write at the device.
   *
   * @throws `SNAPSHOT_LIMIT`, `CLOSED`, or what `atInstant` throws; then no snapshot has been made
   */
  async createSnapshot(options: SnapshotOptions = {}): Promise<VolumeSnapshot> {
    const [snapshot] = await CopyOnWriteVolume.createSnapshots([this], options);
    return snapshot;
  }

  /**
   * The blocks written since an instant, ascending and coalesced in runs of up to 1 Mi blocks; perhaps more, never fewer.
   * `undefined` when that is not known: then contents have to be compared. An incremental backup of a later snapshot asks
   * once that snapshot exists, and also wants what its base has lost.
   *
   * They are looked up as they are asked for, so that each step takes a few milliseconds at most and no memory to speak of,
   * however large the volume; a host with much to go through lets its event loop turn in between. What is written while
   * it does so may show or not.
   *
   * @throws `CLOSED`; TypeError for what is no point. One that this volume has never given out is `undefined`
   */
  changedSince(point: ChangePoint): Iterable<BlockRange> | undefined {
    this.core.requireOpen();
    plainObjectArgument('point', point);
    textArgument('point.trackingId', point.trackingId);
    integerArgument('point.epoch', point.epoch, 0);
    return point.trackingId === this.trackingId ? this.core.epochs.changedSince(point.epoch) : undefined;
  }

  /**
   * Refuses new calls, and with `CLOSED` also writes that are still waiting for a pre-image or an instant; waits for all
   * that is at the device, closes all snapshots and lets go of the spill. Idempotent.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const { snapshots, gate, device } = this.core;
    this.core.close();
    for (const record of [...snapshots.records]) snapshots.retire(record, 'closed');
    await this.interceptor.claims.close();
    await gate.landed();
    try {
      await this.#spill?.close();
    } finally {
      devicesInUse.delete(device);
      if (this.#closeDevice) await device[Symbol.asyncDispose]();
    }
  }

  #otherWrite(call: (offset: number, length: number, options?: AbortOptions) => Promise<void>) {
    return (offset: number, length: number, options?: AbortOptions): Promise<void> =>
      this.interceptor.writeOtherwise(offset, length, options, () => call(offset, length, options));
  }
}

class SyncVolume extends CopyOnWriteVolume implements SyncVolumeAccess {
  readonly #device: SyncBlockDevice;

  constructor(device: SyncBlockDevice, options: CheckedVolumeOptions, spill: OpenSpill | undefined) {
    super(device, options, spill);
    this.#device = device;
  }

  readSync(offset: number, into: Uint8Array): void {
    this.core.requireOpen();
    checkTransfer(this.core, 'into', offset, into);
    this.#device.readSync(offset, into);
  }

  writeSync(offset: number, from: Uint8Array): void {
    this.interceptor.writeSync(this.#device, offset, from);
  }

  flushSync(): void {
    this.core.requireOpen();
    this.#device.flushSync();
  }

  createSnapshotSync(options: SnapshotOptions = {}): VolumeSnapshot {
    return freezeSync({ volume: this, core: this.core }, options);
  }
}
