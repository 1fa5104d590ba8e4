import type { Location } from './record.ts';

/** What a block map consists of; part of a commit entry. `docs/FORMAT.md`, section 7. */
export interface MapDescriptor {
  /** Bytes of the volume. */
  readonly size: number;
  /** Bytes. */
  readonly blockSize: number;
  /** The tree, `undefined` where everything reads as zeroes. */
  readonly root: MapRoot | undefined;
  /** Newest first. A newer run hides an older one, which hides the tree. */
  readonly runs: readonly (readonly RunChunkRef[])[];
  /** Blocks whose content could not be kept. Ascending, coalesced. */
  readonly lost: readonly { readonly firstBlock: number; readonly blockCount: number }[];
}

export interface MapRoot {
  readonly level: number;
  readonly id: Uint8Array;
  readonly location: Location;
}

export interface RunChunkRef {
  readonly id: Uint8Array;
  readonly location: Location;
  readonly firstBlock: number;
  readonly lastBlock: number;
  readonly entries: number;
}

/** Most runs that a descriptor may have. */
export const MAX_RUNS = 8;

/** Where one block's content is: its content id and its record. `undefined` means zeroes. */
export interface BlockEntry {
  /** 32 bytes. */
  readonly id: Uint8Array;
  readonly location: Location;
}

/** A block that has content. Its id is a view: copy what is kept for long. */
export interface MappedBlock {
  readonly block: number;
  readonly entry: BlockEntry;
}
