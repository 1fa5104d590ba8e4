import { BackupError } from '../common/errors.ts';
import { BLOCK_STATES } from '../state/block-state.ts';
import { maskOf, nextInStates } from '../state/block-state-map.ts';
import type { EpochMap, KeptPoint } from './epoch-map.ts';
import { keysIn } from './keys-in.ts';
import { preserveError } from './preimage-copies.ts';
import type { InTransit, Room } from './preimage-space.ts';
import { FREED_AT_ONCE, type Preimage, type Preimages } from './preimages.ts';
import type { SnapshotRecord } from './snapshot-record.ts';
import type { EventQueue } from './volume-events.ts';
import type { PreserveFailure } from './volume-options.ts';

const PENDING = maskOf(['pending']);
const NOT_STORING = maskOf(BLOCK_STATES.filter((state) => state !== 'storing'));

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
    const epoch = this.#epochs.blocks.get(block);
    return epoch < this.newestEpoch && this.records.some((record) => this.#misses(record, block, epoch));
  }

  /**
   * The first block from `from` on, and before `end`, that needs a pre-image; `end` if there is none. Stretches that have
   * been overwritten since the newest instant, or that nobody wants, are passed over.
   */
  nextNeeding(from: number, end: number): number {
    for (let block = from; ; ) {
      block = this.#epochs.blocks.nextBefore(this.newestEpoch, block, end);
      if (block === end || this.needsPreimage(block)) return block;
      block++;
      let wanted = end;
      for (const record of this.records) wanted = Math.min(wanted, record.nextWanted(block, wanted));
      block = wanted;
    }
  }

  /** A pre-image has been read. Whom it serves is computed now, and again at the overwrite. Rule R6. */
  register(block: number, room: Room | InTransit | undefined): Preimage {
    const preimage = this.#preimages.add(block, this.#epochs.blocks.get(block), room);
    this.#serve(preimage);
    return preimage;
  }

  /** Blocks are being overwritten: what their open pre-images serve ends here. */
  overwritten(first: number, end: number, epoch: number): void {
    for (const block of this.#preimages.blocksIn(first, end)) {
      const open = this.#preimages.findOpen(block);
      if (open === undefined) continue;
      // @mutation interval-ends
      open.to = epoch;
      // @mutation served-again
      this.#serve(open);
    }
  }

  /** A pre-image could not be kept: the host's choice, for the snapshots that want the block. */
  decide(block: number, error: BackupError): void {
    const epoch = this.#epochs.blocks.get(block);
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
    this.#release(record, first, count);
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

  /** Frees a record's pre-images of blocks unless another snapshot needs them; very many in later turns. */
  #release(record: SnapshotRecord, first: number, count: number): void {
    const end = first + count;
    forgetGivenUp(record, first, end);
    if (Math.min(count, this.#preimages.blockCount) > FREED_AT_ONCE) {
      this.#preimages.freeUnless((preimage) => this.#isNeeded(preimage));
      return;
    }
    for (const block of this.#preimages.blocksIn(first, end)) {
      const preimage = this.#preimages.find(block, record.point.epoch);
      if (preimage !== undefined && !this.#isNeeded(preimage)) this.#preimages.free(preimage);
    }
  }

  #fallBack(record: SnapshotRecord, first: number, count: number): void {
    const { states } = record;
    const end = first + count;
    if (count > 0) states.get(end - 1); // Refuses what is no block.
    const other = nextInStates(states, first, end, NOT_STORING);
    if (other < end) {
      throw new BackupError(
        'INVALID_TRANSITION',
        `block ${other} is ${states.get(other)}, and only blocks in the state storing can be marked failed`,
      );
    }
    // All are where most of them are, and then each of the others is put right: that is one step a pre-image.
    states.set({ firstBlock: first, blockCount: count }, 'pending');
    const { epoch } = record.point;
    for (const block of this.#preimages.blocksIn(first, end)) {
      const preimage = this.#preimages.find(block, epoch);
      if (preimage === undefined) continue;
      states.set(block, preimage.room === undefined ? 'zero' : 'preserved');
      if (!this.#isNeeded(preimage)) this.#preimages.free(preimage);
    }
    // What has been overwritten and has no pre-image is gone.
    const { blocks } = this.#epochs;
    for (let at = first; ; ) {
      const overwritten = blocks.nextSince(epoch, at, end);
      if (overwritten === end) break;
      at = blocks.nextBefore(epoch, overwritten, end);
      for (let block = overwritten; ; block++) {
        block = nextInStates(states, block, at, PENDING);
        if (block === at) break;
        this.#lose(record, block, record.givenUp.get(block) ?? preserveError(block, undefined));
      }
    }
    forgetGivenUp(record, first, end);
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

function forgetGivenUp({ givenUp }: SnapshotRecord, first: number, end: number): void {
  for (const block of keysIn(givenUp, first, end)) givenUp.delete(block);
}

function serves(preimage: Preimage, record: SnapshotRecord): boolean {
  return preimage.from < record.point.epoch && record.point.epoch <= preimage.to;
}
