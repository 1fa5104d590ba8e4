import type { BlockEntry } from '../format/map-descriptor.ts';
import type { Codec, Location, PackName } from '../format/record.ts';

const ID_BYTES = 32;
/** Slots that are added at once. */
const CHUNK_SLOTS = 2 ** 12;
const NONE = -1;

/** Slots in flat arrays: 56 bytes each. */
class Chunk {
  readonly blocks = new Uint32Array(CHUNK_SLOTS);
  readonly next = new Int32Array(CHUNK_SLOTS);
  readonly ids = new Uint8Array(CHUNK_SLOTS * ID_BYTES);
  /** Number of the pack + 1 (0: zeroes), offset, stored length | codec << 24, raw length. */
  readonly locations = new Uint32Array(CHUNK_SLOTS * 4);
}

/**
 * The map entries of blocks that a job has stored or found to be zeroes, in any order. They take 56 bytes each, in flat
 * arrays, to which more are added without moving what there is. The map is written behind the sweep, one group (the blocks of one leaf) at a time. Groups that were taken for the
 * map are kept only while there is room for them, so that memory grows with what is stored out of order and not with the
 * volume.
 */
export class BlockEntries {
  readonly #groupBlocks: number;
  readonly #maxKept: number;
  /** For each group: its first slot. Slots of a group, and free slots, are linked by `next`. */
  readonly #heads: Int32Array;
  readonly #chunks: Chunk[] = [];
  #everUsed = 0;
  #free = NONE;
  #count = 0;
  readonly #taken: number[] = [];
  #takenAt = 0;
  readonly #packs: PackName[] = [];
  readonly #packNumbers = new Map<string, number>();

  /**
   * @param groupBlocks - the blocks of one leaf
   * @param maxKept - groups that were taken are dropped, the oldest first, while there are more entries than this
   */
  constructor(blockCount: number, groupBlocks: number, maxKept = 2 ** 18) {
    this.#groupBlocks = groupBlocks;
    this.#maxKept = maxKept;
    this.#heads = new Int32Array(Math.ceil(blockCount / groupBlocks)).fill(NONE);
  }

  /** The number of entries that are kept now. */
  get size(): number {
    return this.#count;
  }

  /** Adds the entry of a block, which must not have one yet; `undefined` for a block of zeroes. */
  add(block: number, entry: BlockEntry | undefined): void {
    const slot = this.#allocateSlot();
    const group = Math.floor(block / this.#groupBlocks);
    const { blocks, next, ids, locations } = this.#chunk(slot);
    const at = slot % CHUNK_SLOTS;
    blocks[at] = block;
    next[at] = this.#heads[group] as number;
    this.#heads[group] = slot;
    if (entry === undefined) {
      locations[at * 4] = 0;
      return;
    }
    const { pack, offset, storedLength, codec, rawLength } = entry.location;
    ids.set(entry.id, at * ID_BYTES);
    locations.set([this.#packNumber(pack) + 1, offset, storedLength | (codec << 24), rawLength], at * 4);
  }

  has(block: number): boolean {
    return this.#find(block) !== NONE;
  }

  /** The entry of a block; `undefined` for a block of zeroes and for a block without an entry. */
  get(block: number): BlockEntry | undefined {
    const slot = this.#find(block);
    return slot === NONE ? undefined : this.#entry(slot);
  }

  /** The entries of a group, in the order of blocks. From now on they may be dropped. */
  take(group: number): [block: number, entry: BlockEntry | undefined][] {
    const entries: [number, BlockEntry | undefined][] = [];
    for (let slot = this.#heads[group] as number; slot !== NONE; slot = this.#after(slot)) {
      // Copied: the slot may hold another block's entry before the map's writer uses this one.
      const entry = this.#entry(slot);
      entries.push([this.#block(slot), entry && { ...entry, id: Uint8Array.from(entry.id) }]);
    }
    if (entries.length > 0) this.#taken.push(group);
    while (this.#count > this.#maxKept && this.#takenAt < this.#taken.length) this.#dropGroup();
    return entries.sort(([a], [b]) => a - b);
  }

  #dropGroup(): void {
    const group = this.#taken[this.#takenAt++] as number;
    for (let slot = this.#heads[group] as number; slot !== NONE; ) {
      const next = this.#after(slot);
      this.#chunk(slot).next[slot % CHUNK_SLOTS] = this.#free;
      this.#free = slot;
      this.#count--;
      slot = next;
    }
    this.#heads[group] = NONE;
    if (this.#takenAt > 1024) {
      this.#taken.splice(0, this.#takenAt);
      this.#takenAt = 0;
    }
  }

  #find(block: number): number {
    let slot = this.#heads[Math.floor(block / this.#groupBlocks)] as number;
    while (slot !== NONE && this.#block(slot) !== block) slot = this.#after(slot);
    return slot;
  }

  #chunk(slot: number): Chunk {
    return this.#chunks[Math.floor(slot / CHUNK_SLOTS)] as Chunk;
  }

  #block(slot: number): number {
    return this.#chunk(slot).blocks[slot % CHUNK_SLOTS] as number;
  }

  /** The slot that is linked behind a slot. */
  #after(slot: number): number {
    return this.#chunk(slot).next[slot % CHUNK_SLOTS] as number;
  }

  #entry(slot: number): BlockEntry | undefined {
    const { ids, locations } = this.#chunk(slot);
    const at = slot % CHUNK_SLOTS;
    const pack = locations[at * 4] as number;
    if (pack === 0) return undefined;
    const lengthAndCodec = locations[at * 4 + 2] as number;
    const location: Location = {
      pack: this.#packs[pack - 1] as PackName,
      offset: locations[at * 4 + 1] as number,
      storedLength: lengthAndCodec & 0xffffff,
      codec: (lengthAndCodec >>> 24) as Codec,
      rawLength: locations[at * 4 + 3] as number,
    };
    return { id: ids.subarray(at * ID_BYTES, (at + 1) * ID_BYTES), location };
  }

  #packNumber(pack: PackName): number {
    const key = `${pack.session}/${pack.random}`;
    let number = this.#packNumbers.get(key);
    if (number === undefined) {
      number = this.#packs.push(pack) - 1;
      this.#packNumbers.set(key, number);
    }
    return number;
  }

  #allocateSlot(): number {
    this.#count++;
    if (this.#free !== NONE) {
      const slot = this.#free;
      this.#free = this.#after(slot);
      return slot;
    }
    if (this.#everUsed === this.#chunks.length * CHUNK_SLOTS) this.#chunks.push(new Chunk());
    return this.#everUsed++;
  }
}
