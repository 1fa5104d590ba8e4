import { BackupError } from '../common/errors.ts';
import { runInSteps } from '../common/yield-to-event-loop.ts';
import { BLOCK_STATES } from '../state/block-state.ts';
import { maskOf, nextInStates } from '../state/block-state-map.ts';
import type { EpochMap, KeptPoint } from './epochs/epoch-map.ts';
import type { EventQueue } from './event-queue.ts';
import type { Allocation, InTransit } from './preimage-buffers.ts';
import { FREED_AT_ONCE, type Preimage, type Preimages, serves } from './preimages.ts';
import type { SnapshotRecord } from './snapshot-record.ts';
import type { PreserveFailure } from './volume-options.ts';

const PENDING = maskOf(['pending']);
const NOT_STORING = maskOf(BLOCK_STATES.filter((state) => state !== 'storing'));

/** How far the user of a snapshot reports a block to be; see `VolumeSnapshot.mark`. @public */
export type BlockMark = 'storing' | 'stored' | 'failed' | 'inherited' | 'zero';

/**
 * The live snapshots, and what depends on them: which blocks must be preserved before they are overwritten, which
 * snapshots a pre-image serves and when it is freed, and what happens to a block that could not be preserved. Everything
 * here is synchronous, so each call is one step of the protocol.
 */
export class LiveSnapshots {
  readonly records: SnapshotRecord[] = [];
  /** The epoch of the newest live snapshot, or 0. Most writes compare nothing else with their blocks' epochs. Rule R1. */
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

  /** Takes the point of a new instant, after `requireRoom` of the epochs. */
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

  /** Ends a snapshot. Pre-images that only it needed are freed. */
  retire(record: SnapshotRecord, status: 'broken' | 'closed', error?: BackupError): void {
    if (record.status === 'live') {
      this.records.splice(this.records.indexOf(record), 1);
      record.point.holders--;
      this.#findNewest();
      this.#preimages.freeUnless((preimage) => this.#isNeeded(preimage));
    }
    if (status === 'closed' && record.status !== 'closed' && record.isAnnounced) {
      this.#events.snapshot('snapshotClosed', record);
    }
    record.status = status;
    record.error ??= error;
    this.onReleased();
  }

  announce(record: SnapshotRecord): void {
    record.isAnnounced = true;
    this.#events.snapshot('snapshotBegun', record);
  }

  /** Another handle on the same instant. Its states are found in turns, because there may be any number of pre-images. */
  async share(record: SnapshotRecord): Promise<SnapshotRecord> {
    record.requireLive();
    const shared = record.share();
    // From here on nothing that it wants is given up.
    // @mutation shared-is-live
    this.add(shared);
    // @mutation shared-states
    await runInSteps(shared.adopting(record, this.#epochs, this.#preimages));
    shared.requireLive();
    return shared;
  }

  /** Whether the blocks of a snapshot are being stored, though perhaps none at this moment. Storing frees room. */
  get areStored(): boolean {
    return this.records.some((record) => record.isStored);
  }

  /** Whether a snapshot would lose the block's content if the block were overwritten now. */
  needsPreimage(block: number): boolean {
    const epoch = this.#epochs.blocks.get(block);
    return epoch < this.newestEpoch && this.records.some((record) => this.#misses(record, block, epoch));
  }

  /**
   * The first block from `from` on, and before `end`, that needs a pre-image; `end` if there is none. Ranges that were
   * overwritten after the newest instant, or that no snapshot wants, are skipped as a whole.
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

  /**
   * Adds a pre-image that was read; `allocation` is `undefined` if it is all zeroes. Which snapshots it serves is computed
   * now, and again at the overwrite. Rule R6.
   */
  register(block: number, allocation: Allocation | InTransit | undefined): Preimage {
    const preimage = this.#preimages.add(block, this.#epochs.blocks.get(block), allocation);
    this.#serve(preimage);
    return preimage;
  }

  /** Blocks are being overwritten: the intervals of their open pre-images end. */
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

  /** A block could not be preserved: applies the host's policy to the snapshots that need it. Throws to refuse the write. */
  decide(block: number, cause: unknown): void {
    const error = preserveError(block, cause);
    const epoch = this.#epochs.blocks.get(block);
    const concerned = this.records.filter((record) => this.#misses(record, block, epoch));
    if (concerned.length === 0) return;
    if (this.#onFailure === 'fail-write') throw error;
    this.#giveUp(concerned, block, error);
  }

  /**
   * A pre-image could not be written to the spill: applies the host's policy to the snapshots that it serves. The write
   * has already continued and can't be refused, which is why nothing is spilled behind under `fail-write`.
   */
  decideInTransit(preimage: Preimage, cause: unknown): void {
    // @mutation freed-in-transit
    if (preimage.isFreed) return;
    const { block } = preimage;
    const concerned = this.records.filter((record) => needs(record, preimage));
    this.#preimages.free(preimage);
    this.#giveUp(concerned, block, preserveError(block, cause));
  }

  /** Moves blocks to another state, or back when storing failed. Does nothing if the snapshot is not live. Rule R8. */
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

  /** A pre-image does not read back as it was written. */
  loseUnreadable(preimage: Preimage, error: BackupError): void {
    if (preimage.isFreed) return;
    // Before the overwrite the device still has the content, and the block will be copied again.
    const isGone = this.#preimages.findOpen(preimage.block) !== preimage;
    for (const record of this.records) {
      if (isGone && needs(record, preimage)) this.#giveUpOrLose(record, preimage.block, error);
    }
    this.#preimages.free(preimage);
  }

  #misses(record: SnapshotRecord, block: number, epoch: number): boolean {
    return (
      epoch < record.point.epoch && record.wants(block) && this.#preimages.find(block, record.point.epoch) === undefined
    );
  }

  /** Moves the block to its next state in every snapshot that the pre-image serves; frees it if none needs it. */
  #serve(preimage: Preimage): void {
    const { block } = preimage;
    const reached = preimage.allocation === undefined ? 'zero' : 'preserved';
    for (const record of this.records) {
      if (serves(preimage, record.point.epoch) && record.states.get(block) === 'pending') {
        record.states.set(block, reached);
        this.#events.block('blockPreserved', record, block);
      }
    }
    // @mutation unneeded-freed
    if (!this.#isNeeded(preimage)) this.#preimages.free(preimage);
  }

  #isNeeded(preimage: Preimage): boolean {
    return this.records.some((record) => needs(record, preimage));
  }

  /** Frees a record's pre-images of blocks unless another snapshot needs them; a large number in later turns. */
  #release(record: SnapshotRecord, first: number, count: number): void {
    const end = first + count;
    record.forgetGivenUp(first, end);
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
    if (count > 0) states.get(end - 1); // Throws if it is out of range.
    const other = nextInStates(states, first, end, NOT_STORING);
    if (other < end) {
      throw new BackupError(
        'INVALID_TRANSITION',
        `block ${other} is ${states.get(other)}, and only blocks in the state storing can be marked failed`,
      );
    }
    // All of them become `pending` at once, and then those with a pre-image are corrected: one step for each of these.
    states.set({ firstBlock: first, blockCount: count }, 'pending');
    const { epoch } = record.point;
    for (const block of this.#preimages.blocksIn(first, end)) {
      const preimage = this.#preimages.find(block, epoch);
      if (preimage === undefined) continue;
      states.set(block, preimage.allocation === undefined ? 'zero' : 'preserved');
      if (!this.#isNeeded(preimage)) this.#preimages.free(preimage);
    }
    // A block that was overwritten and has no pre-image is lost.
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
    record.forgetGivenUp(first, end);
  }

  #giveUp(concerned: readonly SnapshotRecord[], block: number, error: BackupError): void {
    for (const record of concerned) {
      if (this.#onFailure === 'lose-block') this.#giveUpOrLose(record, block, error);
      else this.#break(record, error);
    }
  }

  /** A block on its way to the store may still arrive: it is lost only when it is marked `failed`. Rule R8. */
  #giveUpOrLose(record: SnapshotRecord, block: number, error: BackupError): void {
    if (record.states.get(block) === 'storing') record.givenUp.set(block, error);
    else this.#lose(record, block, error);
  }

  #lose(record: SnapshotRecord, block: number, error: BackupError): void {
    record.states.set(block, 'lost');
    this.#events.block('blockLost', record, block, error);
  }

  #break(record: SnapshotRecord, cause: BackupError): void {
    const error = new BackupError('SNAPSHOT_BROKEN', `this snapshot can't be read any more: ${cause.message}`, {
      cause,
    });
    this.retire(record, 'broken', error);
    this.#events.snapshot('snapshotBroken', record, error);
  }

  #findNewest(): void {
    this.newestEpoch = this.records.reduce((newest, record) => Math.max(newest, record.point.epoch), 0);
  }
}

function needs(record: SnapshotRecord, preimage: Preimage): boolean {
  return serves(preimage, record.point.epoch) && record.wants(preimage.block);
}

/** The error for writers and listeners. Its cause is the error of the device, of the spill or of the limits. */
function preserveError(block: number, cause: unknown): BackupError {
  const why = BackupError.is(cause, 'PREIMAGE_SPACE') ? `: ${cause.message}` : '';
  return new BackupError('PRESERVE_FAILED', `the pre-image of block ${block} could not be preserved${why}`, {
    cause,
    retryable: true,
  });
}
