import { runAtOnce } from '../../common/yield-to-event-loop.ts';
import type { EncodedRecord, EntryColumns } from './entry-columns.ts';
import { EntryTable } from './entry-table.ts';
import { mapCorrupt } from './map-corrupt.ts';
import type { MapGeometry } from './map-geometry.ts';

/** A leaf: `docs/FORMAT.md`, section 7. Slot i of leaf n is block n * fanOut + i. */

const NO_HEAD = new Uint8Array(0);

/** @throws `MAP_CORRUPT` */
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
