import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import type { BlockEntry } from '../map/descriptor.ts';
import type { PackWriter } from '../pack/pack-writer.ts';
import { packKey, RecordKind } from '../records/record.ts';
import type { SealedBlock, SealPool } from '../workers/seal-pool.ts';
import type { SealSlot } from '../workers/seal-slot.ts';
import type { Batch, BlockFeed, Lane } from './block-feed.ts';
import type { KnownContents } from './known-contents.ts';
import type { PlacedBlocks } from './placed-blocks.ts';
import { isPressing } from './preimage-pressure.ts';

/** What a pipeline works with. */
export interface PipelineParts {
  readonly snapshot: VolumeSnapshot;
  readonly feed: BlockFeed;
  /** What stands in the base: what it has at the same place is not stored again. */
  readonly base: BaseContents | undefined;
  readonly pool: SealPool;
  readonly packs: Readonly<Record<Lane, PackWriter>>;
  readonly placed: PlacedBlocks;
  /** Contents that need not be stored again. */
  readonly known: KnownContents;
  /** Told whenever a block has got further. */
  readonly onMoved: () => void;
  readonly signal: AbortSignal;
}

/** The base's blocks, as far as it is worth while to know them. */
export interface BaseContents {
  /**
   * The content id of each block of a range; `undefined` for one of zeroes, `'unknown'` where it was lost, is damaged or
   * would cost more to find out than to store the block again.
   */
  idsOf(firstBlock: number, blockCount: number, options: AbortOptions): Promise<(Uint8Array | undefined | 'unknown')[]>;
  /** A block has been read and is as it was in the base. */
  same(block: number): void;
}

/** What a pipeline has done. */
export interface PipelineTally {
  readBytes: number;
  /** Sealed bytes of blocks that were not known. */
  newBytes: number;
  /** Blocks that differ from the base; without one, all that are not zeroes. */
  changedBlocks: number;
}

/**
 * read → zero test → id → known? → compress → encrypt → pack → upload, for a batch at a time in each of several loops. The
 * slots of the pool bound how much is under way; a pack writer that has too many packs on their way holds the loops up,
 * and so the sweep, never the host's writes.
 */
export class BlockPipeline {
  readonly tally: PipelineTally = { readBytes: 0, newBytes: 0, changedBlocks: 0 };
  readonly #parts: PipelineParts;
  /** Blocks that are safe once the store has a pack, by the pack's key. */
  readonly #awaiting = new Map<string, number[]>();
  readonly #storedPacks = new Set<string>();

  constructor(parts: PipelineParts) {
    this.#parts = parts;
  }

  /**
   * Stores what the feed gives until it gives nothing more. Several may run at once.
   *
   * @param lane - only blocks of this lane: a sweep that is held up by its uploads must not keep pre-images from being stored
   */
  async run(onIdle: () => void, lane?: 'intercepted'): Promise<void> {
    const { feed, pool, snapshot, signal } = this.#parts;
    const claim = (batch: Batch) => snapshot.mark(batch, 'storing');
    for (;;) {
      const batch = await feed.take(claim, onIdle, lane);
      if (batch === undefined) return;
      signal.throwIfAborted();
      using slot = await pool.acquire({ signal, leavesOne: batch.lane === 'swept' });
      await this.#store(batch, slot);
    }
  }

  /** The store has a pack: what waited for it is safe. */
  packStored(key: string): void {
    this.#storedPacks.add(key);
    for (const block of this.#awaiting.get(key) ?? []) this.#parts.snapshot.mark(block, 'stored');
    this.#awaiting.delete(key);
    this.#parts.onMoved();
  }

  /** Bytes of blocks that are on their way in packs, as far as those have been sent. */
  get sentBytes(): number {
    const { snapshot, packs } = this.#parts;
    let blocks = 0;
    for (const [key, waiting] of this.#awaiting) {
      blocks += waiting.length * (packs.intercepted.sentShare(key) || packs.swept.sentShare(key));
    }
    return Math.floor(blocks * snapshot.blockSize);
  }

  /** Sends packs that are being filled where pre-images press: room for them comes back only with what is stored. */
  relieve(): void {
    const { snapshot, packs } = this.#parts;
    for (const lane of ['intercepted', 'swept'] as const) {
      const { filling } = packs[lane];
      if (filling === undefined) continue;
      const waiting = this.#awaiting.get(packKey(filling))?.length ?? 0;
      if (isPressing(snapshot.volume, lane, waiting * snapshot.blockSize)) packs[lane].hurry();
    }
  }

  async #store(batch: Batch, slot: SealSlot): Promise<void> {
    const { snapshot, pool, signal } = this.#parts;
    const blocks = await this.#read(batch, slot);
    const lengths = Array.from({ length: batch.blockCount }, (_, index) => this.#lengthOf(batch.firstBlock + index));
    const [before, ids] = await Promise.all([
      this.#parts.base?.idsOf(batch.firstBlock, batch.blockCount, { signal }),
      pool.identify(slot, lengths, { signal }),
    ]);
    const fresh: number[] = [];
    for (const block of blocks) {
      const at = block - batch.firstBlock;
      const id = ids[at];
      if (before !== undefined && isSame(id, before[at])) {
        this.#parts.base?.same(block);
        snapshot.mark(block, id === undefined ? 'zero' : 'stored');
        continue;
      }
      if (id === undefined) {
        this.#changed(block, undefined);
        snapshot.mark(block, 'zero');
      } else {
        const known = this.#parts.known.get(id);
        if (known === undefined) fresh.push(at);
        else this.#place(block, { id, location: known });
      }
    }
    this.#parts.onMoved();
    for (const sealed of await pool.seal(slot, fresh, { signal })) {
      await this.#pack(batch, sealed, ids[sealed.block] as Uint8Array);
    }
    this.#parts.onMoved();
  }

  /** Reads a batch into a slot; a block that has been lost meanwhile says so and is left out. */
  async #read(batch: Batch, slot: SealSlot): Promise<number[]> {
    const { snapshot, signal } = this.#parts;
    const { firstBlock, blockCount } = batch;
    const { blockSize, size } = snapshot;
    const start = firstBlock * blockSize;
    const length = Math.min(size, start + blockCount * blockSize) - start;
    const blocks = Array.from({ length: blockCount }, (_, index) => firstBlock + index);
    try {
      await snapshot.read(start, slot.input.subarray(0, length), { signal });
      this.tally.readBytes += length;
      return blocks;
    } catch (error) {
      if (!BackupError.is(error, 'BLOCK_LOST')) throw error;
    }
    const readable: number[] = [];
    for (const block of blocks) {
      const at = (block - firstBlock) * blockSize;
      const bytes = slot.input.subarray(at, at + this.#lengthOf(block));
      try {
        await snapshot.read(block * blockSize, bytes, { signal });
        this.tally.readBytes += bytes.length;
        readable.push(block);
      } catch (error) {
        if (!BackupError.is(error, 'BLOCK_LOST')) throw error;
        snapshot.mark(block, 'failed'); // There is no way back: it becomes lost.
      }
    }
    return readable;
  }

  async #pack(batch: Batch, sealed: SealedBlock, id: Uint8Array): Promise<void> {
    const block = batch.firstBlock + sealed.block;
    const location = await this.#parts.packs[batch.lane].add({
      kind: RecordKind.block,
      id,
      codec: sealed.codec,
      rawLength: this.#lengthOf(block),
      bytes: sealed.bytes,
      hint: block,
    });
    this.tally.newBytes += sealed.storedLength;
    this.#parts.known.add(id, location);
    this.#place(block, { id, location });
  }

  #place(block: number, entry: BlockEntry): void {
    this.#changed(block, entry);
    const key = packKey(entry.location.pack);
    if (this.#storedPacks.has(key) || this.#parts.known.isReferred(entry.location.pack)) {
      this.#parts.snapshot.mark(block, 'stored');
      return;
    }
    const awaiting = this.#awaiting.get(key);
    if (awaiting === undefined) this.#awaiting.set(key, [block]);
    else awaiting.push(block);
  }

  #changed(block: number, entry: BlockEntry | undefined): void {
    if (entry !== undefined || this.#parts.base !== undefined) this.tally.changedBlocks++;
    this.#parts.placed.add(block, entry);
  }

  #lengthOf(block: number): number {
    const { blockSize, size } = this.#parts.snapshot;
    return Math.min(blockSize, size - block * blockSize);
  }
}

function isSame(id: Uint8Array | undefined, before: Uint8Array | undefined | 'unknown'): boolean {
  if (before === 'unknown') return false;
  if (id === undefined || before === undefined) return id === before;
  return Buffer.compare(id, before) === 0;
}
