import type { Steps } from '../../common/yield-to-event-loop.ts';
import type { EncodedRecord, EntryColumns } from './entry-columns.ts';
import { EntryTable } from './entry-table.ts';
import type { BlockEntry, RunChunkRef } from './map-descriptor.ts';
import { MAX_CHUNK_ENTRIES, type MapGeometry } from './map-geometry.ts';
import { PACK_NAME_BYTES } from './pack-list.ts';
import { MAX_RAW_LENGTH } from './record.ts';
import { CHECK_BYTES, LOCATION_BYTES, mapCorrupt, viewOf } from './record-parts.ts';

/** A run chunk: `docs/FORMAT.md`, section 7. */

const ENTRY_BYTES = 4 + 32 + LOCATION_BYTES;

/** Sorted entries by block: a run chunk, or changes that are not stored yet. */
export interface SortedEntries {
  readonly count: number;
  block(slot: number): number;
  has(slot: number): boolean;
  /** A view of the content id of a slot that is present. */
  id(slot: number): Uint8Array;
  entry(slot: number): BlockEntry | undefined;
}

/** Bytes of a chunk of so many entries, so many of them present, that names so many packs. */
export function chunkBytes(entries: number, present: number, packs: number): number {
  return (
    4 +
    4 * entries +
    Math.ceil(entries / 8) +
    present * (32 + LOCATION_BYTES) +
    2 +
    packs * PACK_NAME_BYTES +
    CHECK_BYTES
  );
}

/** Whether a chunk of so many entries may have so many raw bytes: what a reader is ready to take memory for. */
export function plausibleChunkBytes(entries: number, rawLength: number): boolean {
  const most = Math.min(MAX_RAW_LENGTH[4], chunkBytes(entries, entries, entries));
  return rawLength >= chunkBytes(entries, 0, 0) && rawLength <= most;
}

/** Whether one more entry and one more pack certainly fit beside what a chunk has. */
export function chunkHasRoom(entries: number, packs: number): boolean {
  return (
    entries < MAX_CHUNK_ENTRIES &&
    16 + (entries + 1) * (ENTRY_BYTES + 1) + (packs + 1) * PACK_NAME_BYTES <= MAX_RAW_LENGTH[4]
  );
}

export class RunChunk implements SortedEntries {
  readonly count: number;
  readonly identityLength: number;
  readonly #view: DataView;
  readonly #table: EntryTable;

  /** @throws `MAP_CORRUPT`, also when it is not what `ref` says */
  constructor(raw: Uint8Array, ref: RunChunkRef, geometry: MapGeometry) {
    this.#view = viewOf(raw);
    if (raw.length < 4) throw mapCorrupt('a run chunk is too short');
    this.count = this.#view.getUint32(0, true);
    if (this.count !== ref.entries)
      throw mapCorrupt('a run chunk has another number of entries than its descriptor says');
    const bitmapAt = 4 + this.count * 4;
    if (bitmapAt > raw.length) throw mapCorrupt('a run chunk is too short');
    let previous = -1;
    for (let slot = 0; slot < this.count; slot++) {
      const block = this.block(slot);
      if (block <= previous) throw mapCorrupt('a run is not in order');
      previous = block;
    }
    if (this.block(0) !== ref.firstBlock || previous !== ref.lastBlock || previous >= geometry.blockCount) {
      throw mapCorrupt('a run chunk covers other blocks than its descriptor says');
    }
    const lengthOf = (slot: number) => geometry.blockLength(this.block(slot));
    this.#table = new EntryTable(raw, bitmapAt, this.count, this.count, lengthOf);
    this.identityLength = this.#table.identityLength;
  }

  block(slot: number): number {
    return this.#view.getUint32(4 + slot * 4, true);
  }

  has(slot: number): boolean {
    return this.#table.has(slot);
  }

  id(slot: number): Uint8Array {
    return this.#table.id(slot);
  }

  entry(slot: number): BlockEntry | undefined {
    return this.#table.entry(slot);
  }
}

/** @param blocks - ascending, at least `count` */
export function* encodingRunChunk(blocks: Uint32Array, columns: EntryColumns, count: number): Steps<EncodedRecord> {
  const head = new Uint8Array(4 + count * 4);
  const view = viewOf(head);
  view.setUint32(0, count, true);
  for (let slot = 0; slot < count; slot++) view.setUint32(4 + slot * 4, blocks[slot] as number, true);
  return yield* columns.encoding(head, count);
}
