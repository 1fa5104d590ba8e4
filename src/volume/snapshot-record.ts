import { BackupError } from '../common/errors.ts';
import { StepCounter, type Steps } from '../common/yield-to-event-loop.ts';
import { BLOCK_STATES } from '../state/block-state.ts';
import { BlockStateMap, maskOf, nextInStates } from '../state/block-state-map.ts';
import type { EpochMap, KeptPoint } from './epochs/epoch-map.ts';
import { keysIn, type Preimages } from './preimages.ts';

/** The states of a block whose content may be wanted. */
const WANTED = maskOf(['pending', 'preserved', 'storing']);
const PENDING = maskOf(['pending']);
const NOT_PENDING = maskOf(BLOCK_STATES.filter((state) => state !== 'pending'));
const ZERO = maskOf(['zero']);
const NOT_ZERO = maskOf(BLOCK_STATES.filter((state) => state !== 'zero'));

/** What the volume keeps of one snapshot handle. */
export class SnapshotRecord {
  /** The instant. Its epoch may be renumbered, so it is read again after every await. Rule R10. */
  readonly point: KeptPoint;
  readonly states: BlockStateMap;
  readonly frozenAt: Date;
  /** Blocks that were given up while they were being stored, and why; marked `failed`, they become lost. Rule R8. */
  readonly givenUp = new Map<number, BackupError>();
  /** Whether the host knows the snapshot. If not, no event is emitted for its end. */
  isAnnounced = false;
  /** Whether its user has begun to store blocks. */
  isStored = false;
  status: 'live' | 'broken' | 'closed' = 'live';
  error: BackupError | undefined;

  constructor(point: KeptPoint, blockCount: number, frozenAt: Date) {
    this.point = point;
    this.states = new BlockStateMap(blockCount);
    this.frozenAt = frozenAt;
  }

  /** Throws unless the snapshot can be read. */
  requireLive(): void {
    if (this.status !== 'live') throw this.error ?? new BackupError('CLOSED', 'the snapshot is closed');
  }

  /** The first block from `from` on, and before `end`, that may be wanted; `end` if there is none. */
  nextWanted(from: number, end: number): number {
    return nextInStates(this.states, from, end, WANTED);
  }

  /** Whether the user of this snapshot still needs a block's content. Rule R8. */
  wants(block: number): boolean {
    const state = this.states.get(block);
    // @mutation storing-is-wanted
    return state === 'pending' || state === 'preserved' || (state === 'storing' && !this.givenUp.has(block));
  }

  forgetGivenUp(first: number, end: number): void {
    for (const block of keysIn(this.givenUp, first, end)) this.givenUp.delete(block);
  }

  /** Another record of the same instant, for a handle with states of its own. All of its blocks are `pending`. */
  share(): SnapshotRecord {
    const shared = new SnapshotRecord(this.point, this.states.blockCount, this.frozenAt);
    shared.isAnnounced = true;
    return shared;
  }

  /**
   * Gives the blocks that were overwritten before `from` shared the states that they have in it. `from` is another record of the
   * instant, and this one is live already: what is overwritten meanwhile is preserved for it, and what has a pre-image keeps it,
   * because it wants every block that is `pending`.
   */
  *adopting(from: SnapshotRecord, { blocks }: EpochMap, preimages: Preimages): Steps<void> {
    const { blockCount } = blocks;
    const steps = new StepCounter();
    for (const block of preimages.blocksIn(0, blockCount)) {
      if (steps.isDue()) yield;
      const { epoch } = this.point; // It may have been renumbered. Rule R10.
      const preimage = blocks.get(block) < epoch ? undefined : preimages.find(block, epoch);
      if (preimage === undefined || this.states.get(block) !== 'pending') continue;
      this.states.set(block, preimage.allocation === undefined ? 'zero' : 'preserved');
    }
    for (let end = 0; ; ) {
      if (steps.isDue()) yield;
      const { epoch } = this.point;
      const first = blocks.nextSince(epoch, end, blockCount);
      if (first === blockCount) return;
      end = blocks.nextBefore(epoch, first, blockCount);
      if (end === first + 1 && this.states.get(first) !== 'pending') continue; // It has a pre-image, as most have.
      shareOverwritten(from.states, this.states, first, end);
    }
  }
}

/** Blocks that were overwritten after the instant and have no pre-image are lost, unless they are known to be zero. */
function shareOverwritten(own: BlockStateMap, shared: BlockStateMap, first: number, end: number): void {
  for (let block = nextInStates(shared, first, end, PENDING); block < end; ) {
    const isZero = own.get(block) === 'zero';
    // The run ends where either map changes.
    const next = Math.min(
      nextInStates(shared, block, end, NOT_PENDING),
      nextInStates(own, block, end, isZero ? NOT_ZERO : ZERO),
    );
    shared.set({ firstBlock: block, blockCount: next - block }, isZero ? 'zero' : 'lost');
    block = nextInStates(shared, next, end, PENDING);
  }
}
