import type { Codec, Location, PackName } from '../format/record.ts';

const ID_BYTES = 32;
const FIRST_CAPACITY = 1024;
/** For each entry: number of the pack, offset, stored length | codec << 24, raw length. */
const WORDS = 4;

/** What a row of a pack's footer says of a block, without its place in a list. */
export type StoredBlock = Omit<Location, 'pack'>;

/**
 * Where contents are, by their ids, in flat arrays: 56 bytes for each when it is full. Nothing is ever taken out. Content ids
 * are hashes, so that their first bytes say where to look.
 */
export class IdTable {
  readonly #packs: readonly PackName[];
  #ids = Buffer.alloc(FIRST_CAPACITY * ID_BYTES);
  #places = new Uint32Array(FIRST_CAPACITY * WORDS);
  /** Number of an entry + 1, or 0. There are twice as many from the start: finding new places for all takes too long for one step. */
  readonly #slots: Uint32Array;
  #size = 0;

  /**
   * @param packs - entries name packs by their numbers in this list, which may grow
   * @param mostEntries - what its owner puts into it at most
   */
  constructor(packs: readonly PackName[], mostEntries: number) {
    this.#packs = packs;
    this.#slots = new Uint32Array(mostEntries * 2);
  }

  get size(): number {
    return this.#size;
  }

  /** Adds a content, unless it is there. */
  add(id: Uint8Array, pack: number, { offset, storedLength, codec, rawLength }: StoredBlock): void {
    if (this.#size * WORDS === this.#places.length) this.#grow();
    const slot = this.#slotOf(id);
    if (this.#slots[slot] !== 0) return;
    const entry = this.#size++;
    this.#slots[slot] = entry + 1;
    this.#ids.set(id, entry * ID_BYTES);
    this.#places.set([pack, offset, storedLength | (codec << 24), rawLength], entry * WORDS);
  }

  find(id: Uint8Array): { readonly pack: number; readonly location: Location } | undefined {
    const entry = (this.#slots[this.#slotOf(id)] as number) - 1;
    if (entry < 0) return undefined;
    const [pack, offset, lengthAndCodec, rawLength] = this.#places.subarray(entry * WORDS) as unknown as number[];
    const storedLength = (lengthAndCodec as number) & 0xffffff;
    const codec = ((lengthAndCodec as number) >>> 24) as Codec;
    const name = this.#packs[pack as number] as PackName;
    return {
      pack: pack as number,
      location: { pack: name, offset: offset as number, storedLength, codec, rawLength: rawLength as number },
    };
  }

  /** The slot of an id, or the free one where it belongs. Half of all slots at least are free. */
  #slotOf(id: Uint8Array): number {
    const slots = this.#slots;
    const first = id[0] as number;
    let slot = ((first << 24) | ((id[1] as number) << 16) | ((id[2] as number) << 8) | (id[3] as number)) >>> 0;
    for (slot %= slots.length; ; slot = (slot + 1) % slots.length) {
      const entry = (slots[slot] as number) - 1;
      if (entry < 0 || this.#ids.compare(id, 0, ID_BYTES, entry * ID_BYTES, (entry + 1) * ID_BYTES) === 0) return slot;
    }
  }

  #grow(): void {
    const capacity = this.#size * 2;
    const [ids, places] = [this.#ids, this.#places];
    this.#ids = Buffer.alloc(capacity * ID_BYTES);
    this.#ids.set(ids);
    this.#places = new Uint32Array(capacity * WORDS);
    this.#places.set(places);
  }
}
