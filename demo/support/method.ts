import type { BlockState, BlockStates, CloudTarget, CopyOnWriteVolume, VolumeSnapshot } from 'cow-cloud-backup';
import type { Tally } from './tally.ts';

/** What a backup is given in addition to the volume and the target: what to wait for, and where to report. */
export interface Backup {
  /** Aborts on Ctrl-C and after {@link Backup.fail}. */
  readonly signal: AbortSignal;
  /** How long to go by interception alone, before the second instruction. */
  readonly lazyMs: number;
  readonly tally: Tally;
  /** Runs at the instant: copies the raw image, for the comparison at the end. */
  readonly copyReference: () => void;
  readonly frozen: (snapshot: VolumeSnapshot, baseline: BlockStates) => void;
  readonly asked: (counts: BlockStates['counts'], stateOf: (block: number) => BlockState) => void;
  readonly fail: (error: unknown) => void;
}

/** The same for a restore. */
export interface Restore {
  readonly signal: AbortSignal;
  /** One more block of `total` is back. */
  readonly restored: (total: number) => void;
  readonly fail: (error: unknown) => void;
}

/** The method, both ways. */
export interface Method {
  readonly backUp: (volume: CopyOnWriteVolume, target: CloudTarget, demo: Backup) => Promise<void>;
  readonly restore: (target: CloudTarget, path: string, demo: Restore) => Promise<void>;
}
