import type { BlockRange, VolumeSnapshot } from 'cow-cloud-backup';

/** The blocks of a snapshot that were overwritten before they were stored, by the events of the volume. */
export class InterceptedBlocks implements Disposable {
  readonly #snapshot: VolumeSnapshot;
  readonly #blocks = new Set<number>();
  readonly #onPreserved = (snapshot: VolumeSnapshot, blocks: BlockRange) => {
    if (snapshot === this.#snapshot) this.#add(blocks);
  };

  /** @param snapshot - one whose sweep has not begun: what was touched so far was intercepted */
  constructor(snapshot: VolumeSnapshot) {
    this.#snapshot = snapshot;
    for (const range of snapshot.states.ranges('preserved', 'storing', 'stored')) this.#add(range);
    snapshot.volume.events.on('blockPreserved', this.#onPreserved);
  }

  /** How many of them are stored. */
  get storedBlocks(): number {
    let blocks = 0;
    for (const block of this.#blocks) if (this.#snapshot.states.get(block) === 'stored') blocks++;
    return blocks;
  }

  has(block: number): boolean {
    return this.#blocks.has(block);
  }

  [Symbol.dispose](): void {
    this.#snapshot.volume.events.off('blockPreserved', this.#onPreserved);
  }

  #add({ firstBlock, blockCount }: BlockRange): void {
    for (let block = firstBlock; block < firstBlock + blockCount; block++) this.#blocks.add(block);
  }
}
