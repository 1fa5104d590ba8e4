import type { AbortOptions } from '../../common/abort.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { BlockMap } from '../map/block-map.ts';
import { forgottenOr } from './forgotten-or.ts';
import type { BlockContent, FetchImageOptions, ImageSource, StoredBlock } from './image-source.ts';

/** A committed backup as an image shows it. */
export class StoredImage implements ImageSource {
  readonly size: number;
  readonly blockSize: number;
  readonly #context: Pick<RepositoryContext, 'records' | 'log'>;
  readonly #backup: string;
  readonly #map: BlockMap;

  constructor(context: Pick<RepositoryContext, 'records' | 'log'>, backup: string, map: BlockMap) {
    this.#context = context;
    this.#backup = backup;
    this.#map = map;
    ({ size: this.size, blockSize: this.blockSize } = map.descriptor);
  }

  /** Loads what every lookup needs: whether it is there and sound shows early. */
  async load(options: AbortOptions): Promise<void> {
    await this.#explained(() => this.#map.load(options));
  }

  lookup(firstBlock: number, count: number, options: AbortOptions): Promise<readonly BlockContent[]> {
    return this.#explained(async () => {
      const { entries, lost } = await this.#map.lookup(firstBlock, count, options);
      const contents = entries.map((entry): BlockContent => entry ?? 'zero');
      for (const range of lost) {
        const from = range.firstBlock - firstBlock;
        contents.fill('lost', from, from + range.blockCount);
      }
      return contents;
    });
  }

  async fetch(
    blocks: readonly StoredBlock[],
    deliver: (block: number, bytes: Uint8Array) => void,
    { signal, onFailed }: FetchImageOptions,
  ): Promise<void> {
    const tally = { fetchedBytes: 0, requests: 0 };
    await this.#context.records.readBlocks(blocks, deliver, tally, {
      signal,
      onFailed: (block, error) => onFailed(block, this.#explain(error)),
    });
  }

  async #explained<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.#explain(error);
    }
  }

  #explain(error: unknown): unknown {
    return forgottenOr(this.#context.log.state, this.#backup, error);
  }
}
