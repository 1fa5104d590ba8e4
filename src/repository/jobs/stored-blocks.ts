import type { BlockEntry } from '../map/descriptor.ts';
import type { Codec, Location, PackName } from '../records/record.ts';

const ID_BYTES = 32;
const FIRST_CAPACITY = 1024;

/**
 * The entries of the blocks that a job has stored, in whatever order they came: 52 bytes each, in flat arrays. Packs are
 * kept once and referred to by number.
 */
export class StoredBlocks {
  #count = 0;
  #blocks = new Uint32Array(FIRST_CAPACITY);
  #ids = new Uint8Array(FIRST_CAPACITY * ID_BYTES);
  /** Per entry: number of the pack + 1 (0: zeroes), offset, stored length | codec << 24, raw length. */
  #places = new Uint32Array(FIRST_CAPACITY * 4);
  readonly #packs: PackName[] = [];
  readonly #packNumbers = new Map<string, number>();

  get size(): number {
    return this.#count;
  }

  /** Adds a block; each block once. `undefined`: it reads as zeroes. */
  add(block: number, entry: BlockEntry | undefined): void {
    if (this.#count === this.#blocks.length) this.#grow();
    const at = this.#count++;
    this.#blocks[at] = block;
    if (entry === undefined) return; // Memory that has just been grown into is zero.
    const { pack, offset, storedLength, codec, rawLength } = entry.location;
    this.#ids.set(entry.id, at * ID_BYTES);
    this.#places.set([this.#packNumber(pack) + 1, offset, storedLength | (codec << 24), rawLength], at * 4);
  }

  /** All entries, by block. */
  *sorted(): Generator<[block: number, entry: BlockEntry | undefined]> {
    const order = new Uint32Array(this.#count).map((_, index) => index);
    const blocks = this.#blocks;
    order.sort((a, b) => (blocks[a] as number) - (blocks[b] as number));
    for (const at of order) yield [blocks[at] as number, this.#entry(at)];
  }

  #entry(at: number): BlockEntry | undefined {
    const [pack, offset, lengthAndCodec, rawLength] = this.#places.subarray(at * 4, at * 4 + 4) as unknown as number[];
    if (pack === undefined || pack === 0) return undefined;
    const location: Location = {
      pack: this.#packs[pack - 1] as PackName,
      offset: offset as number,
      storedLength: (lengthAndCodec as number) & 0xffffff,
      codec: ((lengthAndCodec as number) >>> 24) as Codec,
      rawLength: rawLength as number,
    };
    return { id: this.#ids.subarray(at * ID_BYTES, (at + 1) * ID_BYTES), location };
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

  #grow(): void {
    const capacity = this.#blocks.length * 2;
    const blocks = new Uint32Array(capacity);
    blocks.set(this.#blocks);
    this.#blocks = blocks;
    const ids = new Uint8Array(capacity * ID_BYTES);
    ids.set(this.#ids);
    this.#ids = ids;
    const places = new Uint32Array(capacity * 4);
    places.set(this.#places);
    this.#places = places;
  }
}
