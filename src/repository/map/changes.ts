import {
  type BlockRange,
  Coalescer,
  clipRanges,
  inRanges,
  subtractRanges,
  unionRanges,
} from '../../common/block-range.ts';
import { isPromise } from '../../common/realms.ts';
import { EntryColumns } from '../format/entry-columns.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import type { MapGeometry } from '../format/map-geometry.ts';
import { locationFault } from '../format/record-parts.ts';
import type { SortedEntries } from '../format/run-chunk.ts';

/** What a block has now; `undefined` for zeroes. */
export type Change = readonly [block: number, entry: BlockEntry | undefined];

const BATCH = 4096;

/**
 * The changes of a backup, as the caller passes them: checked, and in batches, because awaiting each of millions by itself
 * would take longer than all the rest. Newly lost blocks are among them, as blocks without an entry.
 */
export class ChangeStream {
  /** Whether the watched block was among the changes. */
  sawWatched = false;
  readonly #watched: number;
  readonly #source: AsyncIterator<Change> | Iterator<Change>;
  readonly #geometry: MapGeometry;
  readonly #lost: readonly BlockRange[];
  /** Lost blocks that the base may have entries for. */
  readonly #newlyLost: Iterator<number>;
  readonly #wasLost: readonly BlockRange[];
  readonly #healed: BlockRange[] = [];
  readonly #healing = new Coalescer();
  #nextLost: IteratorResult<number>;
  #previous = -1;
  #ended = false;

  /**
   * @param wasLost - lost blocks of the base; `undefined` without one
   * @param watched - a block of which `sawWatched` says whether it changed
   */
  constructor(
    source: AsyncIterable<Change> | Iterable<Change>,
    geometry: MapGeometry,
    lost: readonly BlockRange[],
    wasLost: readonly BlockRange[] | undefined,
    watched = -1,
  ) {
    this.#source = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    this.#geometry = geometry;
    this.#lost = clipRanges(unionRanges(lost), 0, geometry.blockCount);
    this.#wasLost = clipRanges(wasLost ?? [], 0, geometry.blockCount);
    this.#watched = watched;
    this.#newlyLost = blocksOf(wasLost === undefined ? [] : subtractRanges(this.#lost, wasLost));
    this.#nextLost = this.#newlyLost.next();
  }

  /** Complete once all batches have been read: blocks that were lost and have not been stored again, and blocks lost now. */
  lost(): BlockRange[] {
    const last = this.#healing.end();
    if (last !== undefined) this.#healed.push(last);
    return unionRanges(this.#lost, subtractRanges(this.#wasLost, this.#healed));
  }

  /** The next changes, ascending; none when there are no more. */
  async next(): Promise<Change[]> {
    const batch: Change[] = [];
    while (!this.#ended && batch.length < BATCH) {
      const pulled = this.#source.next();
      const result = isPromise(pulled) ? await pulled : pulled;
      if (result.done === true) {
        this.#ended = true;
        break;
      }
      this.#check(result.value);
      this.#takeLost(batch, result.value[0]);
      if (this.#lost.length === 0 || !inRanges(this.#lost, result.value[0])) batch.push(result.value);
    }
    // Lost ranges may be long, so the rest of them comes in batches too.
    while (this.#ended && this.#nextLost.done !== true && batch.length < BATCH) this.#takeOneLost(batch);
    return batch;
  }

  /** Has to be called if the changes are not read to their end. */
  async close(): Promise<void> {
    if (!this.#ended) await this.#source.return?.();
    this.#ended = true;
  }

  #check([block, entry]: Change): void {
    if (!Number.isSafeInteger(block) || block <= this.#previous || block >= this.#geometry.blockCount) {
      throw new TypeError(`changes must ascend within the volume; ${block} came after ${this.#previous}`);
    }
    this.#previous = block;
    if (block === this.#watched) this.sawWatched = true;
    if (entry !== undefined) {
      const { offset, storedLength, codec, rawLength } = entry.location;
      const length = this.#geometry.blockLength(block);
      const fault =
        rawLength === length
          ? locationFault(offset, storedLength, codec, rawLength)
          : `${rawLength} bytes, not ${length}`;
      if (fault !== undefined || entry.id.length !== 32) throw new TypeError(`block ${block}: ${fault ?? 'not an id'}`);
      if (this.#lost.length > 0 && inRanges(this.#lost, block))
        throw new TypeError(`block ${block} is said to be lost`);
    }
    if (this.#wasLost.length > 0 && inRanges(this.#wasLost, block)) {
      const complete = this.#healing.add(block, 1);
      if (complete !== undefined) this.#healed.push(complete);
    }
  }

  #takeLost(batch: Change[], before: number): void {
    while (this.#nextLost.done !== true && this.#nextLost.value < before) this.#takeOneLost(batch);
  }

  #takeOneLost(batch: Change[]): void {
    batch.push([this.#nextLost.value, undefined]);
    if (this.#nextLost.value === this.#watched) this.sawWatched = true;
    this.#nextLost = this.#newlyLost.next();
  }
}

/** Changes that are kept until it is decided whether they become a run or are folded. */
export class ChangeBuffer implements SortedEntries {
  count = 0;
  #blocks = new Uint32Array(256);
  readonly #columns = new EntryColumns(256);
  readonly #geometry: MapGeometry;

  constructor(geometry: MapGeometry) {
    this.#geometry = geometry;
  }

  add([block, entry]: Change): void {
    if (this.count === this.#blocks.length) {
      const blocks = new Uint32Array(this.count * 2);
      blocks.set(this.#blocks);
      this.#blocks = blocks;
    }
    this.#blocks[this.count] = block;
    this.#columns.set(this.count++, entry);
  }

  block(slot: number): number {
    return this.#blocks[slot] as number;
  }

  has(slot: number): boolean {
    return this.#columns.has(slot);
  }

  id(slot: number): Uint8Array {
    return this.#columns.id(slot);
  }

  entry(slot: number): BlockEntry | undefined {
    return this.#columns.entry(slot, this.#geometry.blockLength(this.block(slot)));
  }
}

function* blocksOf(ranges: readonly BlockRange[]): Generator<number> {
  for (const { firstBlock, blockCount } of ranges) {
    for (let i = 0; i < blockCount; i++) yield firstBlock + i;
  }
}
