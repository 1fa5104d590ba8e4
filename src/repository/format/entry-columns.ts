import { ENTRIES_AT_ONCE, type Steps } from '../../common/yield-to-event-loop.ts';
import type { BlockEntry } from './map-descriptor.ts';
import { PackListBuilder } from './pack-list.ts';
import type { PackName } from './record.ts';
import {
  CHECK_BYTES,
  codecOf,
  LOCATION_BYTES,
  sealLocationPart,
  storedLengthOf,
  storedWord,
  viewOf,
} from './record-parts.ts';

/** A record that is ready to be stored. */
export interface EncodedRecord {
  readonly raw: Uint8Array;
  /** Where its identity part ends. */
  readonly identityLength: number;
}

/** Entries being gathered for a leaf or a run chunk, column by column: a million of them are no million objects. */
export class EntryColumns {
  #capacity: number;
  #ids: Uint8Array;
  #offsets: Uint32Array;
  #stored: Uint32Array;
  #packs: (PackName | undefined)[] = [];

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#ids = new Uint8Array(capacity * 32);
    this.#offsets = new Uint32Array(capacity);
    this.#stored = new Uint32Array(capacity);
  }

  /** Puts an entry, or zeroes, into a slot. Grows as needed. */
  set(slot: number, entry: BlockEntry | undefined): void {
    if (slot >= this.#capacity) this.#grow(Math.max(slot + 1, this.#capacity * 2));
    this.#packs[slot] = entry?.location.pack;
    if (entry === undefined) return;
    const ids = this.#ids;
    const { id } = entry;
    for (let i = 0, at = slot * 32; i < 32; i++, at++) ids[at] = id[i] as number; // Quicker than `set` for so few bytes.
    this.#offsets[slot] = entry.location.offset;
    this.#stored[slot] = storedWord(entry.location);
  }

  /**
   * Puts encoded entries into slots that follow each other: their ids and their locations as they are in a record.
   *
   * @param packOf - the pack of an index in a location
   */
  copy(slot: number, ids: Uint8Array, locations: DataView, packOf: (index: number) => PackName): void {
    const count = ids.length / 32;
    if (slot + count > this.#capacity) this.#grow(Math.max(slot + count, this.#capacity * 2));
    this.#ids.set(ids, slot * 32);
    for (let index = 0, at = 0; index < count; index++, at += LOCATION_BYTES) {
      this.#packs[slot + index] = packOf(locations.getUint16(at, true));
      this.#offsets[slot + index] = locations.getUint32(at + 2, true);
      this.#stored[slot + index] = locations.getUint32(at + 6, true);
    }
  }

  has(slot: number): boolean {
    return this.#packs[slot] !== undefined;
  }

  /** A view of the id of a slot that is present. */
  id(slot: number): Uint8Array {
    return this.#ids.subarray(slot * 32, slot * 32 + 32);
  }

  /** Its id is a view of these columns. */
  entry(slot: number, rawLength: number): BlockEntry | undefined {
    const pack = this.#packs[slot];
    if (pack === undefined) return undefined;
    const word = this.#stored[slot] as number;
    const offset = this.#offsets[slot] as number;
    const location = { pack, offset, storedLength: storedLengthOf(word), codec: codecOf(word), rawLength };
    return { id: this.id(slot), location };
  }

  /** Empties all slots. */
  clear(): void {
    this.#packs = [];
  }

  /** Adds up the stored bytes of slots 0 to `count` by pack, in the order of first use. */
  usage(count: number): { pack: PackName; bytes: number }[] {
    const packs = new PackListBuilder();
    const usage: { pack: PackName; bytes: number }[] = [];
    for (let slot = 0; slot < count; slot++) {
      const pack = this.#packs[slot];
      if (pack === undefined) continue;
      const index = packs.index(pack);
      const bytes = storedLengthOf(this.#stored[slot] as number);
      const known = usage[index];
      if (known === undefined) usage.push({ pack, bytes });
      else known.bytes += bytes;
    }
    return usage;
  }

  /** Encodes slots 0 to `count` behind `head`, as leaves and run chunks have them. */
  *encoding(head: Uint8Array, count: number): Steps<EncodedRecord> {
    const packs = new PackListBuilder();
    const indices = new Uint16Array(count);
    let present = 0;
    // The loops are functions of their own, because in a generator they run at half the speed.
    for (let first = 0; first < count; first += ENTRIES_AT_ONCE) {
      if (first > 0) yield;
      present += this.#indexPacks(packs, indices, first, Math.min(count, first + ENTRIES_AT_ONCE));
    }
    const idsAt = head.length + Math.ceil(count / 8);
    const identityLength = idsAt + present * 32;
    const raw = new Uint8Array(identityLength + packs.byteLength + present * LOCATION_BYTES + CHECK_BYTES);
    const view = viewOf(raw);
    raw.set(head);
    let at = yield* packs.writing(raw, view, identityLength);
    this.#copyIds(raw, idsAt, count);
    for (let first = 0; first < count; first += ENTRIES_AT_ONCE) {
      if (first > 0) yield;
      const end = Math.min(count, first + ENTRIES_AT_ONCE);
      for (let slot = first; slot < end; slot++) if (this.has(slot)) raw[head.length + (slot >> 3)]! |= 1 << (slot & 7);
      at = this.#writeLocations(view, at, indices, first, end);
    }
    sealLocationPart(raw, view, identityLength);
    return { raw, identityLength };
  }

  /** Finds the indices of the slots' packs, and returns how many slots are present. */
  #indexPacks(packs: PackListBuilder, indices: Uint16Array, first: number, end: number): number {
    let present = 0;
    for (let slot = first; slot < end; slot++) {
      const pack = this.#packs[slot];
      if (pack === undefined) continue;
      indices[slot] = packs.index(pack);
      present++;
    }
    return present;
  }

  /** Writes the slots' locations from `at` on, and returns where they end. */
  #writeLocations(view: DataView, at: number, indices: Uint16Array, first: number, end: number): number {
    for (let slot = first; slot < end; slot++) {
      if (this.#packs[slot] === undefined) continue;
      view.setUint16(at, indices[slot] as number, true);
      view.setUint32(at + 2, this.#offsets[slot] as number, true);
      view.setUint32(at + 6, this.#stored[slot] as number, true);
      at += LOCATION_BYTES;
    }
    return at;
  }

  /** Copies the ids of the slots that are present, a stretch of them at a time. */
  #copyIds(raw: Uint8Array, to: number, count: number): void {
    let at = to;
    for (let first = 0; first < count; ) {
      let end = first;
      while (end < count && this.#packs[end] !== undefined) end++;
      if (end > first) raw.set(this.#ids.subarray(first * 32, end * 32), at);
      at += (end - first) * 32;
      first = end + 1;
    }
  }

  #grow(capacity: number): void {
    const ids = new Uint8Array(capacity * 32);
    const offsets = new Uint32Array(capacity);
    const stored = new Uint32Array(capacity);
    ids.set(this.#ids);
    offsets.set(this.#offsets);
    stored.set(this.#stored);
    this.#capacity = capacity;
    this.#ids = ids;
    this.#offsets = offsets;
    this.#stored = stored;
  }
}
