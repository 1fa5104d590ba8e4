import type { AbortOptions } from '../../common/abort.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';

/** A block that is at hand: in a volume that survived, for one. */
export interface LiveBlock {
  /** Fills `into`, which is as long as the block. Called at most once; if it rejects, the next read looks again. */
  read(into: Uint8Array, options: AbortOptions): Promise<void>;
}

/** What stands in a block of an image. */
export type BlockContent = BlockEntry | LiveBlock | 'zero' | 'lost';

/** Content of an image that is in packs, by block. */
export interface StoredBlock {
  readonly block: number;
  readonly entry: BlockEntry;
}

export interface FetchImageOptions extends AbortOptions {
  readonly onFailed: (block: number, error: unknown) => void;
}

/**
 * What an image is of. To show some blocks from elsewhere, wrap one and answer for these in `lookup`.
 */
export interface ImageSource {
  /** Bytes. */
  readonly size: number;
  /** Bytes. */
  readonly blockSize: number;
  /** What stands in `count` blocks from `firstBlock` on, all of them within the image. */
  lookup(firstBlock: number, count: number, options: AbortOptions): Promise<readonly BlockContent[]>;
  /** Fetches blocks that `lookup` told of. Delivers each, as a view perhaps, or tells that it failed. */
  fetch(
    blocks: readonly StoredBlock[],
    deliver: (block: number, bytes: Uint8Array) => void,
    options: FetchImageOptions,
  ): Promise<void>;
}
