import { BackupError } from '../../common/errors.ts';
import type { VolumeSnapshot } from '../../volume/volume-snapshot.ts';
import type { BlockMap } from '../map/block-map.ts';
import type { BlockEntry } from '../map/descriptor.ts';
import type { PackWriter } from '../pack/pack-writer.ts';
import { type Location, packKey, RecordKind } from '../records/record.ts';
import type { SealedBlock, SealPool } from '../workers/seal-pool.ts';
import type { SealSlot } from '../workers/seal-slot.ts';
import type { Batch, BlockFeed, Lane } from './block-feed.ts';
import type { StoredBlocks } from './stored-blocks.ts';

/** What a pipeline works with. */
export interface PipelineParts {
  readonly snapshot: VolumeSnapshot;
  readonly feed: BlockFeed;
  /** The base's map: what it has at the same place is not stored again. */
  readonly base: BlockMap | undefined;
  readonly pool: SealPool;
  readonly packs: Readonly<Record<Lane, PackWriter>>;
  readonly stored: StoredBlocks;
  readonly signal: AbortSignal;
}

/** What a pipeline has done. */
export interface PipelineTally {
  readBytes: number;
  /** Sealed bytes of blocks that were not known. */
  newBytes: number;
  /** Blocks that differ from the base. */
  changedBlocks: number;
}

/** Contents of this session that are remembered for being met again; a miss costs space, never correctness. */
const MAX_REMEMBERED = 2 ** 18;

/**
 * read → zero test → id → known? → compress → encrypt → pack → upload, for a batch at a time in each of several loops. The
 * slots of the pool bound how much is under way; a pack writer that has too many packs on their way holds the loops up,
 * and so the sweep, never the host's writes.
 */
export class BlockPipeline {
  readonly tally: PipelineTally = { readBytes: 0, newBytes: 0, changedBlocks: 0 };
  readonly #parts: PipelineParts;
  readonly #remembered = new Map<string, Location>();
  /** Blocks that are safe once the store has a pack, by the pack's key. */
  readonly #awaiting = new Map<string, number[]>();
  readonly #storedPacks = new Set<string>();

  constructor(parts: PipelineParts) {
    this.#parts = parts;
  }

  /** Stores what the feed gives until it gives nothing more. Several may run at once. */
  async run(onIdle: () => void): Promise<void> {
    for (;;) {
      const batch = await this.#parts.feed.take(onIdle);
      if (batch === undefined) return;
      this.#parts.signal.throwIfAborted();
      this.#parts.snapshot.mark(batch, 'storing');
      using slot = await this.#parts.pool.acquire({ signal: this.#parts.signal });
      await this.#store(batch, slot);
    }
  }

  /** The store has a pack: what waited for it is safe. */
  packStored(key: string): void {
    this.#storedPacks.add(key);
    for (const block of this.#awaiting.get(key) ?? []) this.#parts.snapshot.mark(block, 'stored');
    this.#awaiting.delete(key);
  }

  async #store(batch: Batch, slot: SealSlot): Promise<void> {
    const { snapshot, pool, signal } = this.#parts;
    const blocks = await this.#read(batch, slot);
    const inBase = await this.#parts.base?.lookup(batch.firstBlock, batch.blockCount, { signal });
    const lengths = Array.from({ length: batch.blockCount }, (_, index) => this.#lengthOf(batch.firstBlock + index));
    const ids = await pool.identify(slot, lengths, { signal });
    const fresh: number[] = [];
    for (const block of blocks) {
      const at = block - batch.firstBlock;
      const id = ids[at];
      const before = inBase?.entries[at];
      const wasLost = this.#parts.base?.isLost(block) === true;
      if (this.#parts.base !== undefined && !wasLost && isSame(id, before?.id)) {
        snapshot.mark(block, id === undefined ? 'zero' : 'stored');
      } else if (id === undefined) {
        this.#changed(block, undefined);
        snapshot.mark(block, 'zero');
      } else {
        const known = this.#remembered.get(keyOf(id));
        if (known === undefined) fresh.push(at);
        else this.#place(block, { id, location: known });
      }
    }
    for (const sealed of await pool.seal(slot, fresh, { signal })) {
      await this.#pack(batch, sealed, ids[sealed.block] as Uint8Array);
    }
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
    if (this.#remembered.size < MAX_REMEMBERED) this.#remembered.set(keyOf(id), location);
    this.#place(block, { id, location });
  }

  #place(block: number, entry: BlockEntry): void {
    this.#changed(block, entry);
    const key = packKey(entry.location.pack);
    if (this.#storedPacks.has(key)) {
      this.#parts.snapshot.mark(block, 'stored');
      return;
    }
    const awaiting = this.#awaiting.get(key);
    if (awaiting === undefined) this.#awaiting.set(key, [block]);
    else awaiting.push(block);
  }

  #changed(block: number, entry: BlockEntry | undefined): void {
    this.tally.changedBlocks++;
    this.#parts.stored.add(block, entry);
  }

  #lengthOf(block: number): number {
    const { blockSize, size } = this.#parts.snapshot;
    return Math.min(blockSize, size - block * blockSize);
  }
}

function isSame(id: Uint8Array | undefined, before: Uint8Array | undefined): boolean {
  if (id === undefined || before === undefined) return id === before;
  return Buffer.compare(id, before) === 0;
}

function keyOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.length).toString('latin1');
}
