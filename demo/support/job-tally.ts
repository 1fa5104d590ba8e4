import type { BackupJob } from 'cow-cloud-backup';
import { InterceptedBlocks } from './intercepted-blocks.ts';
import type { Moved } from './progress-view.ts';

/** What a job has stored, and which blocks were intercepted. */
export class JobTally implements Moved, Disposable {
  readonly #job: BackupJob;
  readonly #intercepted: InterceptedBlocks;

  /** @param job - one that has not begun to sweep */
  constructor(job: BackupJob) {
    this.#job = job;
    this.#intercepted = new InterceptedBlocks(job.snapshot);
  }

  /** Bytes that were uploaded. */
  get storedBytes(): number {
    return this.#job.progress().transferredBytes;
  }

  get interceptedBlocks(): number {
    return this.#intercepted.storedBlocks;
  }

  isIntercepted(block: number): boolean {
    return this.#intercepted.has(block);
  }

  [Symbol.dispose](): void {
    this.#intercepted[Symbol.dispose]();
  }
}
