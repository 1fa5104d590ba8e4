import type { AbortOptions } from '../common/abort.ts';
import { abortOptionsArgument, choiceArgument } from '../common/arguments.ts';
import { type BlockRange, blockRangeArgument } from '../common/block-range.ts';
import { BackupError } from '../common/errors.ts';
import { hasBrand } from '../common/realms.ts';
import type { BlockDevice, Extent } from '../device/block-device.ts';
import { checkBytes } from '../device/door.ts';
import { checkSpan } from '../device/span.ts';
import { underlyingDevice, type WrappingDevice } from '../device/underlying.ts';
import { BLOCK_STATES } from '../state/block-state.ts';
import { type BlockStateMap, type BlockStates, maskOf, nextInStates } from '../state/block-state-map.ts';
import type { ChangePoint, CopyOnWriteVolume } from './copy-on-write-volume.ts';
import type { BlockMark } from './live-snapshots.ts';
import { readSnapshot, requireLive, snapshotExtents } from './snapshot-reader.ts';
import { SnapshotRecord } from './snapshot-record.ts';
import type { VolumeCore } from './volume-core.ts';

const PENDING = maskOf(['pending']);
const NOT_PENDING = maskOf(BLOCK_STATES.filter((state) => state !== 'pending'));
const ZERO = maskOf(['zero']);
const NOT_ZERO = maskOf(BLOCK_STATES.filter((state) => state !== 'zero'));

const MARKS: readonly BlockMark[] = ['storing', 'stored', 'failed', 'inherited', 'zero'];

const BRAND = Symbol.for('cow-cloud-backup.VolumeSnapshot');

/** Whether `value` is a snapshot, of this or another copy of this package. */
export function isVolumeSnapshot(value: unknown): value is VolumeSnapshot {
  return hasBrand(value, BRAND);
}

/**
 * A volume as it was at one instant: a read-only device that can be read while the volume is written.
 *
 * It is a handle. Each handle has its own states and its own wants: a block that its user has marked `stored`,
 * `inherited` or `zero` is no longer preserved for it, and after being overwritten reads as `BLOCK_RELEASED`
 * (`zero`: as zeroes).
 *
 * @public
 */
export class VolumeSnapshot implements BlockDevice, WrappingDevice {
  /** What it is a snapshot of. */
  readonly volume: CopyOnWriteVolume;
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
  /** What `volume.changedSince` takes to tell what was written since. */
  readonly point: ChangePoint;
  readonly #core: VolumeCore;
  readonly #record: SnapshotRecord;

  /** @internal */
  constructor(volume: CopyOnWriteVolume, core: VolumeCore, record: SnapshotRecord) {
    this.volume = volume;
    this.#core = core;
    this.#record = record;
    this.size = core.device.size;
    this.sectorSize = core.device.sectorSize;
    this.maxTransferBytes = core.device.maxTransferBytes;
    this.blockSize = core.blockSize;
    this.point = Object.freeze({ trackingId: volume.trackingId, epoch: record.point.serial });
    record.handle = this;
  }

  /** When, by this machine's clock. */
  get frozenAt(): Date {
    return new Date(this.#record.frozenAt); // A copy: the backup is dated by it.
  }

  /** What it stands on, for code that follows a stack of devices. */
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

  /** Where every block has got. Lives on; `clone` it to keep a record of a moment. */
  get states(): BlockStates {
    return this.#record.states;
  }

  /**
   * Bytes as of the instant.
   *
   * @throws `BLOCK_LOST`, `BLOCK_RELEASED`, `SNAPSHOT_BROKEN`, `CLOSED`, `SPILL_FAILED`, `SPILL_CORRUPT`, and whatever
   * the device gives
   */
  async read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void> {
    checkBytes('into', into);
    abortOptionsArgument(options);
    requireLive(this.#record);
    checkSpan(this, offset, into.length);
    await readSnapshot(this.#core, this.#record, offset, into, options);
  }

  /** Always rejects with `READ_ONLY`. */
  async write(): Promise<void> {
    throw new BackupError('READ_ONLY', 'a snapshot is read-only');
  }

  /** There is nothing to flush. */
  async flush(options?: AbortOptions): Promise<void> {
    abortOptionsArgument(options);
    requireLive(this.#record);
  }

  /** Which parts are known to be zeroes: as the device says, where it can, and by the blocks' states. */
  extents(offset: number, length: number, options?: AbortOptions): AsyncIterable<Extent> {
    checkSpan(this, offset, length);
    abortOptionsArgument(options);
    return snapshotExtents(this.#core, this.#record, offset, length, options);
  }

  /**
   * Says how far blocks have got: all of them, or none if one may not go there.
   *
   * - `storing`: on its way. If it is overwritten meanwhile it is preserved still
   * - `stored`, after `storing`: safe. It is no longer preserved and its pre-image is freed
   * - `failed`, after `storing`: it falls back to `preserved` or `pending`, to `lost` when its content is gone
   * - `inherited`: the base has it, so it is not wanted
   * - `zero`: it was read and is all zeroes
   *
   * May be called while `ranges` or `diff` of its states are being walked. Does nothing once the snapshot is closed or
   * broken: code that waits for blocks to become stored must also watch `status`.
   *
   * @throws `INVALID_TRANSITION`, `OUT_OF_RANGE`
   */
  mark(blocks: BlockRange | number, to: BlockMark): void {
    choiceArgument('to', to, MARKS);
    const { firstBlock, blockCount } = blockRangeArgument('blocks', blocks);
    this.#core.snapshots.mark(this.#record, firstBlock, blockCount, to);
  }

  /**
   * Another handle on the same instant, with wants and states of its own. Blocks whose content has been released and
   * overwritten by now are `lost` in it.
   *
   * @throws `SNAPSHOT_BROKEN`, `CLOSED`
   */
  share(): VolumeSnapshot {
    requireLive(this.#record);
    const { epochs, preimages, blockCount, snapshots } = this.#core;
    const own = this.#record;
    const record = new SnapshotRecord(own.point, blockCount, own.frozenAt);
    const { epoch } = own.point;
    const { blocks } = epochs;
    for (const block of preimages.blocksIn(0, blockCount)) {
      const preimage = blocks.get(block) < epoch ? undefined : preimages.find(block, epoch);
      if (preimage !== undefined) record.states.set(block, preimage.room === undefined ? 'zero' : 'preserved');
    }
    for (let end = 0; ; ) {
      const first = blocks.nextSince(epoch, end, blockCount);
      if (first === blockCount) break;
      end = blocks.nextBefore(epoch, first, blockCount);
      if (end === first + 1 && record.states.get(first) !== 'pending') continue; // It has a pre-image, as most have.
      shareOverwritten(own.states, record.states, first, end);
    }
    const handle = new VolumeSnapshot(this.volume, this.#core, record);
    snapshots.add(record);
    record.isTold = true;
    return handle;
  }

  /** Gives the snapshot up. What only this handle needed is freed. Idempotent. */
  async close(): Promise<void> {
    this.#core.snapshots.retire(this.#record, 'closed');
    await this.#core.preimages.freed();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Of blocks that have been overwritten since the instant and have no pre-image, only what they read as is known still. */
function shareOverwritten(own: BlockStateMap, shared: BlockStateMap, first: number, end: number): void {
  for (let block = nextInStates(shared, first, end, PENDING); block < end; ) {
    const isZero = own.get(block) === 'zero';
    // As far as neither map changes.
    const ends = [
      nextInStates(shared, block, end, NOT_PENDING),
      nextInStates(own, block, end, isZero ? NOT_ZERO : ZERO),
    ];
    const next = Math.min(...ends);
    shared.set({ firstBlock: block, blockCount: next - block }, isZero ? 'zero' : 'lost');
    block = nextInStates(shared, next, end, PENDING);
  }
}
