import type { BackupJob, BlockRange, CopyOnWriteVolume, VolumeSnapshot } from 'cow-cloud-backup';
import type { Moved } from './progress-view.ts';

/** What a job has stored, and which blocks were intercepted, by the events of the volume. */
export class JobTally implements Moved, Disposable {
  readonly #volume: CopyOnWriteVolume;
  readonly #job: BackupJob;
  readonly #intercepted = new Set<number>();
  readonly #onPreserved = (snapshot: VolumeSnapshot, blocks: BlockRange) => {
    if (snapshot === this.#job.snapshot) this.#add(blocks);
  };

  /** @param job - one that has not begun to sweep: what it has touched so far was intercepted */
  constructor(volume: CopyOnWriteVolume, job: BackupJob) {
    this.#volume = volume;
    this.#job = job;
    for (const range of job.states.ranges('preserved', 'storing', 'stored')) this.#add(range);
    volume.events.on('blockPreserved', this.#onPreserved);
  }

  /** Bytes that were uploaded. */
  get storedBytes(): number {
    return this.#job.progress().transferredBytes;
  }

  /** How many of the stored blocks were intercepted. */
  get interceptedBlocks(): number {
    let blocks = 0;
    for (const block of this.#intercepted) if (this.#job.states.get(block) === 'stored') blocks++;
    return blocks;
  }

  isIntercepted(block: number): boolean {
    return this.#intercepted.has(block);
  }

  [Symbol.dispose](): void {
    this.#volume.events.off('blockPreserved', this.#onPreserved);
  }

  #add({ firstBlock, blockCount }: BlockRange): void {
    for (let block = firstBlock; block < firstBlock + blockCount; block++) this.#intercepted.add(block);
  }
}
