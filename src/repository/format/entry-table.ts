import { runAtOnce } from '../../common/yield-to-event-loop.ts';
import type { EncodedRecord, EntryColumns } from './entry-columns.ts';
import type { BlockEntry } from './map-descriptor.ts';
import type { MapGeometry } from './map-geometry.ts';
import { PackList } from './pack-list.ts';
import {
  checkLocationPart,
  codecOf,
  LOCATION_BYTES,
  locationFault,
  mapCorrupt,
  storedLengthOf,
  viewOf,
} from './record-parts.ts';

/** Leaves, and what run chunks have in common with them: `docs/FORMAT.md`, section 7. */

const NO_HEAD = new Uint8Array(0);

/** Slot i of leaf n is block n * fanOut + i. @throws `MAP_CORRUPT` */
export function decodeLeaf(raw: Uint8Array, index: number, geometry: MapGeometry): EntryTable {
  const { fanOut } = geometry;
  const lengthOf = (slot: number) => geometry.blockLength(index * fanOut + slot);
  const leaf = new EntryTable(raw, 0, fanOut, geometry.slots(0, index), lengthOf);
  if (leaf.present === 0) throw mapCorrupt('an empty leaf');
  return leaf;
}

export function encodeLeaf(columns: EntryColumns, fanOut: number): EncodedRecord {
  return runAtOnce(columns.encoding(NO_HEAD, fanOut));
}

/**
 * The part that leaves and run chunks have in common, kept as the bytes it came in: a presence bitmap, content ids, a
 * list of packs and locations. An entry is decoded when it is asked for.
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
  readonly #packs: PackList;
  readonly #locationsAt: number;
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
    this.#packs = new PackList(raw, this.#view, this.identityLength);
    this.#locationsAt = this.identityLength + this.#packs.byteLength;
    if (this.#locationsAt + this.present * LOCATION_BYTES !== end) throw mapCorrupt('a record has not its length');
    for (let slot = 0, at = this.#locationsAt; slot < count; slot++) {
      if (!this.has(slot)) continue;
      this.#checkLocation(slot, at);
      at += LOCATION_BYTES;
    }
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

  /** Whether a slot has the same id here and in another table, or is present in neither. */
  hasSameId(slot: number, other: EntryTable): boolean {
    if (!this.has(slot)) return !other.has(slot);
    if (!other.has(slot)) return false;
    const at = this.#idsAt + this.#bitmap.rank(slot) * 32;
    const otherAt = other.#idsAt + other.#bitmap.rank(slot) * 32;
    // Quicker than views and `Buffer.compare` for so few bytes.
    for (let index = 0; index < 32; index++) {
      if (this.#raw[at + index] !== other.#raw[otherAt + index]) return false;
    }
    return true;
  }

  /** A slot's entry, its id a view of this record. */
  entry(slot: number): BlockEntry | undefined {
    if (!this.has(slot)) return undefined;
    const at = this.#locationsAt + this.#bitmap.rank(slot) * LOCATION_BYTES;
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

  /** Copies the entries of slots 0 to `end`, without decoding them. */
  copyTo(columns: EntryColumns, end: number): void {
    for (let slot = 0, rank = 0; slot < end; ) {
      let past = slot;
      while (past < end && this.has(past)) past++;
      const count = past - slot;
      if (count > 0) {
        const idsAt = this.#idsAt + rank * 32;
        const at = this.#raw.byteOffset + this.#locationsAt + rank * LOCATION_BYTES;
        const locations = new DataView(this.#raw.buffer, at, count * LOCATION_BYTES);
        columns.copy(slot, this.#raw.subarray(idsAt, idsAt + count * 32), locations, (index) =>
          this.#packs.name(index),
        );
      }
      rank += count;
      slot = past + 1;
    }
  }

  #checkLocation(slot: number, at: number): void {
    this.#packs.check(this.#view.getUint16(at, true));
    const word = this.#view.getUint32(at + 6, true);
    const offset = this.#view.getUint32(at + 2, true);
    const fault = locationFault(offset, storedLengthOf(word), codecOf(word), this.#rawLength(slot));
    if (fault !== undefined) throw mapCorrupt(fault);
  }
}

/** Bits of each byte value. */
const BITS = Uint8Array.from({ length: 256 }, (_, byte) => {
  let bits = 0;
  for (let rest = byte; rest > 0; rest >>= 1) bits += rest & 1;
  return bits;
});

/** A presence bitmap inside a record: bit (i mod 8) of byte (i / 8) is slot i's. Ranks are found without a loop. */
export class Bitmap {
  /** How many slots are present. */
  readonly present: number;
  readonly #bytes: Uint8Array;
  /** Slots present before each byte. */
  readonly #before: Uint16Array;

  /** @param allowed - slots from here on must be absent */
  constructor(bytes: Uint8Array, allowed: number) {
    this.#bytes = bytes;
    this.#before = new Uint16Array(bytes.length);
    let present = 0;
    for (let i = 0; i < bytes.length; i++) {
      this.#before[i] = present;
      const byte = bytes[i] as number;
      present += BITS[byte] as number;
      if (byte >> Math.min(8, Math.max(0, allowed - i * 8)) !== 0) throw mapCorrupt('content past the end');
    }
    this.present = present;
  }

  has(slot: number): boolean {
    return (((this.#bytes[slot >> 3] as number) >> (slot & 7)) & 1) === 1;
  }

  /** How many of the slots before `slot` are present. */
  rank(slot: number): number {
    const below = (this.#bytes[slot >> 3] as number) & ((1 << (slot & 7)) - 1);
    return (this.#before[slot >> 3] as number) + (BITS[below] as number);
  }
}
