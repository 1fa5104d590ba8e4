import { Bitmap } from './bitmap.ts';
import { checkLocationPart, viewOf } from './location-part.ts';
import { mapCorrupt } from './map-corrupt.ts';
import type { BlockEntry } from './map-descriptor.ts';
import { PackTable } from './pack-list.ts';
import { codecOf, PLACE_BYTES, placeFault, storedLengthOf } from './place.ts';

/**
 * The part that leaves and run chunks have in common, kept as the bytes it came in: a presence bitmap, content ids, a
 * pack table and places. Entries are made when they are asked for.
 */
export class EntryTable {
  /** Entries, present or not. */
  readonly count: number;
  /** Entries that have content. */
  readonly present: number;
  /** Where the identity part ends. */
  readonly identityLength: number;
  readonly #raw: Uint8Array;
  readonly #view: DataView;
  readonly #bitmap: Bitmap;
  readonly #idsAt: number;
  readonly #packs: PackTable;
  readonly #placesAt: number;
  readonly #rawLength: (slot: number) => number;

  /**
   * @param at - where the bitmap begins
   * @param allowed - slots from here on lie past the end of the volume
   * @param rawLength - bytes of the block of a slot
   * @throws `MAP_CORRUPT`
   */
  constructor(raw: Uint8Array, at: number, count: number, allowed: number, rawLength: (slot: number) => number) {
    this.count = count;
    this.#raw = raw;
    this.#view = viewOf(raw);
    this.#rawLength = rawLength;
    this.#idsAt = at + Math.ceil(count / 8);
    if (this.#idsAt > raw.length) throw mapCorrupt('a record is too short');
    this.#bitmap = new Bitmap(raw.subarray(at, this.#idsAt), allowed);
    this.present = this.#bitmap.present;
    this.identityLength = this.#idsAt + this.present * 32;
    const end = checkLocationPart(raw, this.#view, this.identityLength);
    this.#packs = new PackTable(raw, this.#view, this.identityLength);
    this.#placesAt = this.identityLength + this.#packs.byteLength;
    if (this.#placesAt + this.present * PLACE_BYTES !== end) throw mapCorrupt('a record has not its length');
    for (let slot = 0; slot < count; slot++) if (this.has(slot)) this.#checkPlace(slot);
    this.#packs.checkAllNamed();
  }

  has(slot: number): boolean {
    return this.#bitmap.has(slot);
  }

  /** A view of the content id of a slot that is present. */
  id(slot: number): Uint8Array {
    const at = this.#idsAt + this.#bitmap.rank(slot) * 32;
    return this.#raw.subarray(at, at + 32);
  }

  /** A slot's entry, its id a view of this record. */
  entry(slot: number): BlockEntry | undefined {
    if (!this.has(slot)) return undefined;
    const at = this.#placesAt + this.#bitmap.rank(slot) * PLACE_BYTES;
    const word = this.#view.getUint32(at + 6, true);
    return {
      id: this.id(slot),
      location: {
        pack: this.#packs.name(this.#view.getUint16(at, true)),
        offset: this.#view.getUint32(at + 2, true),
        storedLength: storedLengthOf(word),
        codec: codecOf(word),
        rawLength: this.#rawLength(slot),
      },
    };
  }

  #checkPlace(slot: number): void {
    const at = this.#placesAt + this.#bitmap.rank(slot) * PLACE_BYTES;
    this.#packs.check(this.#view.getUint16(at, true));
    const word = this.#view.getUint32(at + 6, true);
    const offset = this.#view.getUint32(at + 2, true);
    const fault = placeFault(offset, storedLengthOf(word), codecOf(word), this.#rawLength(slot));
    if (fault !== undefined) throw mapCorrupt(fault);
  }
}
