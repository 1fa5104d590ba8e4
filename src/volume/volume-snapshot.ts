import type { EventEmitter } from 'node:events';
import { type AbortOptions, abortOptionsArgument } from '../common/abort.ts';
import { choiceArgument } from '../common/arguments.ts';
import { type BlockRange, blockRangeArgument } from '../common/block-range.ts';
import { BackupError } from '../common/errors.ts';
import { hasBrand } from '../common/realms.ts';
import { type BlockDevice, type Extent, underlyingDevice, type WrappingDevice } from '../device/block-device.ts';
import { checkBytes } from '../device/door.ts';
import { checkSpan } from '../device/span.ts';
import type { BlockStates } from '../state/block-state-map.ts';
import type { ChangePoint } from './epochs/epoch-map.ts';
import type { SnapshotOptions } from './freeze.ts';
import type { BlockMark } from './live-snapshots.ts';
import type { PreimageUse } from './preimage-buffers.ts';
import { SnapshotReader } from './snapshot-reader.ts';
import type { SnapshotRecord } from './snapshot-record.ts';
import type { CommittedInstant } from './state-directory/journal-records.ts';
import type { VolumeRecovery } from './state-directory/open-state.ts';
import type { VolumeCore } from './volume-core.ts';
import type { PreserveFailure } from './volume-options.ts';

/** The key under which a volume with a state directory has what it remembers of commits. */
export const commitMemory: unique symbol = Symbol.for('cow-cloud-backup.commitMemory') as never;

/** Which instants of a volume became which backups. Rule C20. */
export interface CommitMemory {
  readonly committed: readonly CommittedInstant[];
  commit(instant: CommittedInstant): void;
}

const MARKS: readonly BlockMark[] = ['storing', 'stored', 'failed', 'inherited', 'zero'];

const BRAND = Symbol.for('cow-cloud-backup.VolumeSnapshot');

/** Whether `value` is a snapshot, of this or another copy of this package. */
export function isVolumeSnapshot(value: unknown): value is VolumeSnapshot {
  return hasBrand(value, BRAND);
}

/**
 * The volume of a snapshot, which is always a {@link CopyOnWriteVolume}: its members are documented there.
 *
 * @public
 */
export interface Volume extends BlockDevice, WrappingDevice {
  readonly blockSize: number;
  readonly name: string | undefined;
  readonly trackingId: string;
  readonly events: EventEmitter<VolumeEvents>;
  readonly snapshots: readonly VolumeSnapshot[];
  readonly onPreserveFailure: PreserveFailure;
  readonly preimages: PreimageUse;
  readonly recovery: VolumeRecovery | undefined;
  createSnapshot(options?: SnapshotOptions): Promise<VolumeSnapshot>;
  changedSince(point: ChangePoint): Iterable<BlockRange> | undefined;
  close(): Promise<void>;
}

/**
 * The events of a volume, on `volume.events` and on `node:diagnostics_channel` channels named
 * `cow-cloud-backup:volume:snapshot-begun`, `...:block-preserved`, `...:block-lost`, `...:snapshot-broken`,
 * `...:snapshot-closed`, whose messages are `{ volume, snapshot, blocks?, error? }`, and `...:preimage-pressure` with
 * `{ volume, preimages }`, and `...:state-lost` with `{ volume, error }`.
 *
 * Events are emitted shortly after what they report, never in the middle of a write. There is no `error` event.
 *
 * @public
 */
export interface VolumeEvents {
  /** The volume was frozen at an instant. */
  snapshotBegun: [snapshot: VolumeSnapshot];
  /** A pre-image could not be kept under `break-snapshot`; `error` is `SNAPSHOT_BROKEN`. */
  snapshotBroken: [snapshot: VolumeSnapshot, error: BackupError];
  /** A snapshot was closed, by its own `close` or that of its volume. It may have been broken before. */
  snapshotClosed: [snapshot: VolumeSnapshot];
  /** Neighbouring `pending` blocks are about to be overwritten. They are `preserved` now, or `zero`. */
  blockPreserved: [snapshot: VolumeSnapshot, blocks: BlockRange];
  /**
   * Blocks have become `lost`, because their pre-images could not be kept under `lose-block`. If the spill fails, this may
   * follow a `blockPreserved`. A block that was `storing` at that moment may still arrive, and is lost only when it is marked
   * `failed`. `error` is `PRESERVE_FAILED` with its cause, or `SPILL_CORRUPT`.
   */
  blockLost: [snapshot: VolumeSnapshot, blocks: BlockRange, error: BackupError];
  /**
   * Pre-images take up half of their limit. Preserved blocks should be stored now, before writes have to wait for room.
   * It is emitted again only after usage has fallen to three eighths of the limit.
   */
  preimagePressure: [preimages: PreimageUse];
  /**
   * The state directory can't be written, and what is there was removed: the volume goes on without it, and the next process finds none.
   * `error` is `STATE_FAILED` with its cause.
   */
  stateLost: [error: BackupError];
}

/**
 * A volume as it was at one instant: a read-only device that can be read while the volume is written.
 *
 * It is a handle, and each handle has states of its own. A block that its user has marked `stored`, `inherited` or `zero`
 * is no longer preserved for it, and once overwritten reads as `BLOCK_RELEASED` (as zeroes, if it was marked `zero`).
 *
 * @public
 */
export class VolumeSnapshot implements BlockDevice, WrappingDevice {
  readonly volume: Volume;
  /** @internal */
  readonly [BRAND] = true;
  readonly readOnly = true;
  /** Bytes. */
  readonly size: number;
  /** Bytes. */
  readonly sectorSize: number;
  /** Bytes; the unit of `states` and `mark`. The last block may be short. */
  readonly blockSize: number;
  readonly maxTransferBytes: number | undefined;
  /** The instant, for `volume.changedSince`. */
  readonly point: ChangePoint;
  readonly #core: VolumeCore;
  readonly #record: SnapshotRecord;
  readonly #reader: SnapshotReader;

  /** @internal */
  constructor(volume: Volume, core: VolumeCore, record: SnapshotRecord) {
    this.volume = volume;
    this.#core = core;
    this.#record = record;
    this.#reader = new SnapshotReader(core, record);
    this.size = core.device.size;
    this.sectorSize = core.device.sectorSize;
    this.maxTransferBytes = core.device.maxTransferBytes;
    this.blockSize = core.blockSize;
    this.point = Object.freeze({ trackingId: volume.trackingId, epoch: record.point.serial });
  }

  /** The time of the instant by this machine's clock. */
  get frozenAt(): Date {
    return new Date(this.#record.frozenAt); // A copy, because a backup is dated by the original.
  }

  /** The volume, for code that follows a stack of devices. */
  get [underlyingDevice](): BlockDevice {
    return this.volume;
  }

  /** `broken`: a pre-image could not be kept, see `error`. */
  get status(): 'live' | 'broken' | 'closed' {
    return this.#record.status;
  }

  /** Why it is broken: `SNAPSHOT_BROKEN`, with what went wrong as its cause. */
  get error(): BackupError | undefined {
    return this.#record.error;
  }

  /** The state of every block. It changes as blocks do; `clone` it to keep the states of one moment. */
  get states(): BlockStates {
    return this.#record.states;
  }

  /**
   * Bytes as of the instant.
   *
   * @throws `BLOCK_LOST`, `BLOCK_RELEASED`, `SNAPSHOT_BROKEN`, `CLOSED`, `SPILL_FAILED`, `SPILL_CORRUPT`, and the
   * errors of the device
   */
  async read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void> {
    checkBytes('into', into);
    abortOptionsArgument(options);
    this.#record.requireLive();
    checkSpan(this, offset, into.length);
    await this.#reader.read(offset, into, options);
  }

  /** Always rejects with `READ_ONLY`. */
  async write(): Promise<void> {
    throw new BackupError('READ_ONLY', 'a snapshot is read-only');
  }

  /** Does nothing: there is nothing to flush. */
  async flush(options?: AbortOptions): Promise<void> {
    abortOptionsArgument(options);
    this.#record.requireLive();
  }

  /** Which parts are known to be zeroes, from the extents of the device, if it has them, and from the blocks' states. */
  extents(offset: number, length: number, options?: AbortOptions): AsyncIterable<Extent> {
    checkSpan(this, offset, length);
    abortOptionsArgument(options);
    return this.#reader.extents(offset, length, options);
  }

  /**
   * Moves blocks to another state: all of them, or none if one of them may not go there.
   *
   * - `storing`: the block is on its way to the store. If it is overwritten meanwhile, it is still preserved
   * - `stored`, after `storing`: the block is safe. It is no longer preserved, and its pre-image is freed
   * - `failed`, after `storing`: the block goes back to `preserved` or `pending`, or to `lost` if its content is gone
   * - `inherited`: the base has the block, so it is not wanted
   * - `zero`: the block was read and is all zeroes
   *
   * It may be called during an iteration over `ranges` or `diff` of the states. It does nothing once the snapshot is closed
   * or broken: code that waits for blocks to become stored must also watch `status`. It takes about a microsecond for each
   * pre-image in the range: mark a range with tens of thousands of them in parts.
   *
   * @throws `INVALID_TRANSITION`, `OUT_OF_RANGE`
   */
  mark(blocks: BlockRange | number, to: BlockMark): void {
    choiceArgument('to', to, MARKS);
    const { firstBlock, blockCount } = blockRangeArgument('blocks', blocks);
    this.#core.snapshots.mark(this.#record, firstBlock, blockCount, to);
  }

  /**
   * Another handle on the same instant, with states of its own. Blocks whose content has been released and overwritten by
   * now are `lost` in it. From the call on, what is overwritten is preserved for it too, also if this handle is closed in the
   * meantime.
   *
   * @throws `SNAPSHOT_BROKEN`, `CLOSED`
   */
  async share(): Promise<VolumeSnapshot> {
    const record = await this.#core.snapshots.share(this.#record);
    return snapshotOf(this.volume, this.#core, record);
  }

  /** Ends the snapshot. Pre-images that only this handle needed are freed. Idempotent. */
  async close(): Promise<void> {
    this.#core.snapshots.retire(this.#record, 'closed');
    await this.#core.preimages.freed();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const handles = new WeakMap<SnapshotRecord, VolumeSnapshot>();

/** The handle of a record, which is created when it is first asked for. */
export function snapshotOf(volume: Volume, core: VolumeCore, record: SnapshotRecord): VolumeSnapshot {
  const handle = handles.get(record) ?? new VolumeSnapshot(volume, core, record);
  handles.set(record, handle);
  return handle;
}
