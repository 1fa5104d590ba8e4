import type { AbortOptions } from '../../common/abort.ts';
import type { BlockRange } from '../../common/block-range.ts';
import { openMap, type RepositoryContext } from '../context/repository-context.ts';
import type { StoredBackup } from '../format/log-state.ts';
import type { BlockEntry, MappedBlock } from '../format/map-descriptor.ts';
import type { BlockMap } from '../map/block-map.ts';
import type { Deliver } from '../packs/record-store.ts';
import { forgottenOr } from './forgotten-or.ts';

/** What is restored, by block. */
export interface RestoreSource {
  /** Bytes. */
  readonly size: number;
  /** Bytes. */
  readonly blockSize: number;
  /** Blocks that nobody has the content of; they are looked up as zeroes. */
  readonly lost: readonly BlockRange[];
  /** What stands in `count` blocks from `firstBlock` on; `undefined` for zeroes. */
  lookup(firstBlock: number, count: number, options: AbortOptions): Promise<readonly (BlockEntry | undefined)[]>;
  /** Delivers the content of blocks, in any order; rejects with what fails first. */
  fetch(blocks: readonly MappedBlock[], deliver: Deliver, options: AbortOptions): Promise<void>;
  /** The content id of a block that is not all zeroes. */
  contentId(bytes: Uint8Array): Uint8Array;
}

/** A committed backup. */
export class StoredSource implements RestoreSource {
  readonly size: number;
  readonly blockSize: number;
  readonly lost: readonly BlockRange[];
  readonly map: BlockMap;
  readonly #context: RepositoryContext;
  readonly #id: string;

  constructor(context: RepositoryContext, { id, descriptor }: StoredBackup) {
    this.#context = context;
    this.#id = id;
    this.map = openMap(context, descriptor);
    ({ size: this.size, blockSize: this.blockSize, lost: this.lost } = descriptor);
  }

  async lookup(firstBlock: number, count: number, options: AbortOptions): Promise<readonly (BlockEntry | undefined)[]> {
    return this.explaining(async () => (await this.map.lookup(firstBlock, count, options)).entries);
  }

  async fetch(blocks: readonly MappedBlock[], deliver: Deliver, { signal }: AbortOptions): Promise<void> {
    const tally = { fetchedBytes: 0, requests: 0 };
    await this.explaining(() => this.#context.records.readBlocks(blocks, deliver, tally, { signal }));
  }

  contentId(bytes: Uint8Array): Uint8Array {
    return this.#context.keys.contentId(bytes);
  }

  /** What is missing of a backup that others have forgotten meanwhile is not damage. */
  async explaining<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw forgottenOr(this.#context.log.state, this.#id, error);
    }
  }
}
