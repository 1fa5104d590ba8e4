import type {
  BackupPipeline,
  BlockStates,
  BlocksAnswer,
  CloudTarget,
  CopyOnWriteVolume,
  RestoreBlocksProgress,
} from 'cow-cloud-backup';

/** What a backup is given in addition to the volume and the target: what to wait for, and where to report. */
export interface BackupShow {
  /** Aborts on Ctrl-C, and when the writer fails. */
  readonly signal: AbortSignal;
  /** Runs at the instant: copies the raw image, for the comparison at the end. */
  readonly atInstant: () => void;
  /** Shows the pipeline from now on. Resolves when it is time for the second instruction, or when nothing is left for it. */
  readonly interception: (pipeline: BackupPipeline) => Promise<void>;
  readonly answer: (answer: BlocksAnswer, states: BlockStates) => void;
}

/** The same for a restore. */
export interface RestoreShow {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: RestoreBlocksProgress) => void;
}

/** The method, both ways. */
export interface Method {
  readonly backUp: (volume: CopyOnWriteVolume, target: CloudTarget, show: BackupShow) => Promise<void>;
  readonly restore: (target: CloudTarget, path: string, show: RestoreShow) => Promise<void>;
}
