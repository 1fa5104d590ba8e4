import type { BackupError } from '../common/errors.ts';
import { BlockStateMap, maskOf, nextInStates } from '../state/block-state-map.ts';
import type { KeptPoint } from './epoch-map.ts';
import type { VolumeSnapshot } from './volume-snapshot.ts';

/** The states of a block whose content may be wanted. */
const WANTED = maskOf(['pending', 'preserved', 'storing']);

/** What the volume keeps of one snapshot handle. */
export class SnapshotRecord {
  /** The instant; its epoch may be renumbered, so it is looked up afresh after every await. Rule R10. */
  readonly point: KeptPoint;
  readonly states: BlockStateMap;
  readonly frozenAt: Date;
  /** Blocks given up while they were being stored, and why; `failed` then means lost. Rule R8. */
  readonly givenUp = new Map<number, BackupError>();
  /** Whether its listeners have heard that it began: they hear of its end then, and of nothing otherwise. */
  isTold = false;
  /** Whether its user has begun to store blocks. */
  isStored = false;
  status: 'live' | 'broken' | 'closed' = 'live';
  error: BackupError | undefined;
  /** The host's handle. */
  handle!: VolumeSnapshot;

  constructor(point: KeptPoint, blockCount: number, frozenAt: Date) {
    this.point = point;
    this.states = new BlockStateMap(blockCount);
    this.frozenAt = frozenAt;
  }

  /** The first block from `from` on, and before `end`, that may be wanted; `end` if there is none. */
  nextWanted(from: number, end: number): number {
    return nextInStates(this.states, from, end, WANTED);
  }

  /** Whether the user of this snapshot would miss a block's content. Rule R8. */
  wants(block: number): boolean {
    const state = this.states.get(block);
    // @mutation storing-is-wanted
    return state === 'pending' || state === 'preserved' || (state === 'storing' && !this.givenUp.has(block));
  }
}
