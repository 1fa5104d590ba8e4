import { crc32 } from 'node:zlib';
import { mapCorrupt } from './map-corrupt.ts';

/**
 * A record's id covers its identity part only, so that a record can move. What follows, the location part, ends with a
 * CRC-32 of itself: in a plain repository nothing else would show that a bit of it flipped, and a collector that reads a
 * wrong pack from it would condemn what is needed.
 */
export const CHECK_BYTES = 4;

/** Writes the check of the part that begins at `start` and ends where the check goes. */
export function sealLocationPart(raw: Uint8Array, view: DataView, start: number): void {
  const end = raw.length - CHECK_BYTES;
  view.setUint32(end, crc32(raw.subarray(start, end)), true);
}

/** Returns where the location part ends, without its check. */
export function checkLocationPart(raw: Uint8Array, view: DataView, start: number): number {
  const end = raw.length - CHECK_BYTES;
  if (end < start + 2) throw mapCorrupt('a record is too short');
  if (view.getUint32(end, true) !== crc32(raw.subarray(start, end)))
    throw mapCorrupt('a location part does not match its check');
  return end;
}

/** Whether what follows the identity part of a record is as it was written. A record that has nothing there is. */
export function isLocationPartSound(raw: Uint8Array, start: number): boolean {
  if (start === raw.length) return true;
  const end = raw.length - CHECK_BYTES;
  return end >= start && viewOf(raw).getUint32(end, true) === crc32(raw.subarray(start, end));
}

/** A view of all of `raw`. */
export function viewOf(raw: Uint8Array): DataView {
  return new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
}
