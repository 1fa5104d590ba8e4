import type { BackupPipeline } from 'cow-cloud-backup';
import { InterceptedBlocks } from './intercepted-blocks.ts';
import type { Moved } from './progress-view.ts';

/** What a pipeline has stored, and which way each block went. Bytes are those of the blocks, without what transforms add. */
export class Tally implements Moved {
  interceptedBlocks = 0;
  interceptedBytes = 0;
  sweptBlocks = 0;
  sweptBytes = 0;
  /** Calls of `store` that have failed. */
  failures = 0;
  readonly #pipeline: BackupPipeline;
  readonly #intercepted: InterceptedBlocks;

  /** @param pipeline - one that has just been started */
  constructor(pipeline: BackupPipeline) {
    this.#pipeline = pipeline;
    this.#intercepted = new InterceptedBlocks(pipeline.snapshot);
    pipeline.events
      .on('blockStored', (block) => this.#stored(block))
      .on('attemptFailed', () => this.failures++)
      .once('ended', () => this.#intercepted[Symbol.dispose]());
  }

  get storedBytes(): number {
    return this.interceptedBytes + this.sweptBytes;
  }

  isIntercepted(block: number): boolean {
    return this.#intercepted.has(block);
  }

  #stored(block: number): void {
    const { size, blockSize } = this.#pipeline.snapshot;
    const sizeBytes = Math.min(blockSize, size - block * blockSize);
    if (this.#intercepted.has(block)) {
      this.interceptedBlocks++;
      this.interceptedBytes += sizeBytes;
    } else {
      this.sweptBlocks++;
      this.sweptBytes += sizeBytes;
    }
  }
}
