import { BackupError } from '../common/errors.ts';
import { preserveError } from './claims.ts';
import type { EpochMap, KeptPoint } from './epoch-map.ts';
import type { InTransit, Room } from './preimage-space.ts';
import type { Preimage, Preimages } from './preimages.ts';
import type { SnapshotRecord } from './snapshot-record.ts';
import type { EventQueue } from './volume-events.ts';
import type { PreserveFailure } from './volume-options.ts';

/** What a snapshot's user may say of blocks; see `VolumeSnapshot.mark`. @public */
export type BlockMark = 'storing' | 'stored' | 'failed' | 'inherited' | 'zero';

/**
 * The snapshots that are live, and what follows from there being any: which blocks must be preserved before they are
 * overwritten, whom a pre-image serves and when it goes, what becomes of a block that could not be preserved.
 * Everything here is synchronous, so each call is one step of the protocol.
 */
export class LiveSnapshots {
  readonly records: SnapshotRecord[] = [];
  /** Epoch of the newest live snapshot, 0 if none: the whole test of a write that needs nothing. Rule R1. */
  newestEpoch = 0;
  /** Called when blocks may no longer need a pre-image. */
  onReleased: () => void = () => {};
  readonly #epochs: EpochMap;
  readonly #preimages: Preimages;
  readonly #events: EventQueue;
  readonly #onFailure: PreserveFailure;

  constructor(epochs: EpochMap, preimages: Preimages, events: EventQueue, onFailure: PreserveFailure) {
    this.#epochs = epochs;
    this.#preimages = preimages;
    this.#events = events;
    this.#onFailure = onFailure;
  }

  // --- instants -----------------------------------------------------------------------------------------------

  /** @throws `SNAPSHOT_LIMIT` when `takePoint` could not follow */
  requireRoom(): void {
    this.#epochs.requireRoom();
  }

  takePoint(): KeptPoint {
    // @mutation preimages-renumbered
    const point = this.#epochs.advance((newEpoch) => this.#preimages.renumber(newEpoch));
    this.#findNewest();
    return point;
  }

  add(record: SnapshotRecord): void {
    record.point.holders++;
    this.records.push(record);
    this.#findNewest();
  }

  /** Ends a snapshot handle; what only it needed is freed. */
  retire(record: SnapshotRecord, status: 'broken' | 'closed', error?: BackupError): void {
    if (record.status === 'live') {
      this.records.splice(this.records.indexOf(record), 1);
      record.point.holders--;
      this.#findNewest();
      this.#preimages.freeUnless((preimage) => this.#isNeeded(preimage));
    }
    if (status === 'closed' && record.status !== 'closed' && record.isTold) {
      this.#events.snapshot('snapshotClosed', record.handle);
    }
    record.status = status;
    record.error ??= error;
    this.onReleased();
  }

  /** The instant has come about: its snapshot is told of. */
  begun(record: SnapshotRecord): void {
    record.isTold = true;
    this.#events.snapshot('snapshotBegun', record.handle);
  }

  /** Whether somebody stores blocks of a snapshot, perhaps between two of them just now: that brings room. */
  get areStored(): boolean {
    return this.records.some((record) => record.isStored);
  }

  // --- before an overwrite ------------------------------------------------------------------------------------

  /** Whether some snapshot would miss the block's content if it were overwritten now. */
  needsPreimage(block: number): boolean {
    const epoch = this.#epochs.bytes[block] as number;
    return epoch < this.newestEpoch && this.records.some((record) => this.#misses(record, block, epoch));
  }

  /** A pre-image has been read. Whom it serves is computed now, and again at the overwrite. Rule R6. */
  register(block: number, room: Room | InTransit | undefined): Preimage {
    const preimage = this.#preimages.add(block, this.#epochs.bytes[block] as number, room);
    this.#serve(preimage);
    return preimage;
  }

  /** The block is being overwritten: what its open pre-image serves ends here. */
  overwritten(block: number, epoch: number): void {
    const open = this.#preimages.findOpen(block);
    if (open === undefined) return;
    // @mutation interval-ends
    open.to = epoch;
    // @mutation served-again
    this.#serve(open);
  }

  /** A pre-image could not be kept: the host's choice, for the snapshots that want the block. */
  decide(block: number, error: BackupError): void {
    const epoch = this.#epochs.bytes[block] as number;
    const concerned = this.records.filter((record) => this.#misses(record, block, epoch));
    if (concerned.length === 0) return;
    if (this.#onFailure === 'fail-write') throw error;
    this.#giveUp(concerned, block, error);
  }

  /**
   * A pre-image did not arrive in the spill: the host's choice, for the snapshots that it serves. Writes have been let
   * go on the strength of it, so there is none left to refuse: under `fail-write` nothing is spilled behind.
   */
  decideInTransit(preimage: Preimage, error: BackupError): void {
    // @mutation freed-in-transit
    if (preimage.isFreed) return;
    const { block } = preimage;
    const concerned = this.records.filter((record) => serves(preimage, record) && record.wants(block));
    this.#preimages.free(preimage);
    this.#giveUp(concerned, block, error);
  }

  // --- afterwards ---------------------------------------------------------------------------------------------

  /** Moves blocks of a snapshot on, or back when storing failed. Does nothing on one that is not live. Rule R8. */
  mark(record: SnapshotRecord, first: number, count: number, to: BlockMark): void {
    // @mutation late-mark
    if (record.status !== 'live') return;
    if (to === 'failed') {
      this.#fallBack(record, first, count);
      this.onReleased();
      return;
    }
    record.states.set({ firstBlock: first, blockCount: count }, to);
    if (to === 'storing') {
      record.isStored = true;
      return;
    }
    for (let block = first; block < first + count; block++) this.#release(record, block);
    this.onReleased();
  }

  /** A kept pre-image does not read back as it was written. */
  loseUnreadable(preimage: Preimage, error: BackupError): void {
    if (preimage.isFreed) return;
    // Before the overwrite the device has the content still, and another copy of it will be made.
    const isGone = this.#preimages.findOpen(preimage.block) !== preimage;
    for (const record of this.records) {
      if (!isGone || !serves(preimage, record) || !record.wants(preimage.block)) continue;
      this.#giveUpOrLose(record, preimage.block, error);
    }
    this.#preimages.free(preimage);
  }

  #misses(record: SnapshotRecord, block: number, epoch: number): boolean {
    return (
      epoch < record.point.epoch && record.wants(block) && this.#preimages.find(block, record.point.epoch) === undefined
    );
  }

  /** Tells every snapshot that a pre-image now serves; drops one that nobody needs. */
  #serve(preimage: Preimage): void {
    const { block } = preimage;
    const reached = preimage.room === undefined ? 'zero' : 'preserved';
    for (const record of this.records) {
      if (serves(preimage, record) && record.states.get(block) === 'pending') {
        record.states.set(block, reached);
        this.#events.block('blockPreserved', record.handle, block);
      }
    }
    // @mutation unneeded-freed
    if (!this.#isNeeded(preimage)) this.#preimages.free(preimage);
  }

  #isNeeded(preimage: Preimage): boolean {
    return this.records.some((record) => serves(preimage, record) && record.wants(preimage.block));
  }

  /** Frees a record's pre-image of a block unless another snapshot needs it. */
  #release(record: SnapshotRecord, block: number): void {
    record.givenUp.delete(block);
    const preimage = this.#preimages.find(block, record.point.epoch);
    if (preimage !== undefined && !this.#isNeeded(preimage)) this.#preimages.free(preimage);
  }

  #fallBack(record: SnapshotRecord, first: number, count: number): void {
    for (let block = first; block < first + count; block++) {
      const state = record.states.get(block);
      if (state !== 'storing') {
        throw new BackupError(
          'INVALID_TRANSITION',
          `block ${block} is ${state}, so it can not have failed to be stored`,
        );
      }
    }
    for (let block = first; block < first + count; block++) {
      const { epoch } = record.point;
      const preimage = this.#preimages.find(block, epoch);
      if (preimage !== undefined) record.states.set(block, preimage.room === undefined ? 'zero' : 'preserved');
      else if ((this.#epochs.bytes[block] as number) < epoch) record.states.set(block, 'pending');
      else this.#lose(record, block, record.givenUp.get(block) ?? preserveError(block, undefined));
      this.#release(record, block);
    }
  }

  #giveUp(concerned: readonly SnapshotRecord[], block: number, error: BackupError): void {
    for (const record of concerned) {
      if (this.#onFailure === 'lose-block') this.#giveUpOrLose(record, block, error);
      else this.#break(record, error);
    }
  }

  /** On its way to the store a block may still arrive; nothing is lost before it is told to have failed. Rule R8. */
  #giveUpOrLose(record: SnapshotRecord, block: number, error: BackupError): void {
    if (record.states.get(block) === 'storing') record.givenUp.set(block, error);
    else this.#lose(record, block, error);
  }

  #lose(record: SnapshotRecord, block: number, error: BackupError): void {
    record.states.set(block, 'lost');
    this.#events.block('blockLost', record.handle, block, error);
  }

  #break(record: SnapshotRecord, cause: BackupError): void {
    const error = new BackupError('SNAPSHOT_BROKEN', `this snapshot can't be read any more: ${cause.message}`, {
      cause,
    });
    this.retire(record, 'broken', error);
    this.#events.snapshot('snapshotBroken', record.handle, error);
  }

  #findNewest(): void {
    this.newestEpoch = this.records.reduce((newest, record) => Math.max(newest, record.point.epoch), 0);
  }
}

function serves(preimage: Preimage, record: SnapshotRecord): boolean {
  return preimage.from < record.point.epoch && record.point.epoch <= preimage.to;
}
