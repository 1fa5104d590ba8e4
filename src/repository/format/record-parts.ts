import { crc32 } from 'node:zlib';
import { AEAD_BYTES } from '../../common/aead.ts';
import { BackupError, corruptError } from '../../common/errors.ts';
import { ID_BYTES } from './derivation.ts';
import { MAX_CHUNK_ENTRIES } from './map-geometry.ts';
import { type Codec, type Location, MAX_STORED_LENGTH, RecordKind } from './record.ts';

/**
 * The two parts of a node, run chunk or table: `docs/FORMAT.md`, sections 4, 6 and 7.
 *
 * A record's id covers its identity part only, so that the records that it refers to can move without changing it. The
 * location part follows, and ends with a CRC-32 of itself: in a plain repository nothing else shows that one of its bits
 * flipped, and a collector that reads the wrong pack from it would condemn what is needed.
 */

export const mapCorrupt = corruptError('MAP_CORRUPT', 'the block map');

/** The CRC-32 at the end of a location part. */
export const CHECK_BYTES = 4;
/** A location in a location part: u16 index of the pack, u32 offset, u32 stored length | codec << 24. */
export const LOCATION_BYTES = 10;
/** The first record follows the pack's magic. */
export const FIRST_OFFSET = 8;
const PACK_LIMIT = 2 ** 32;

/** What is wrong with the numbers of a location, `undefined` where a record may be there. */
export function locationFault(
  offset: number,
  storedLength: number,
  codec: number,
  rawLength: number,
): string | undefined {
  if (codec !== 0 && codec !== 1) return `unknown codec ${codec}`;
  if (!isPlace(offset, storedLength)) return `no record of ${storedLength} bytes begins at offset ${offset}`;
  if (!(rawLength >= 1)) return 'no record is empty';
  // Compression is used only where it helps, so nothing is stored longer than it was.
  if (storedLength > rawLength + AEAD_BYTES) return `${storedLength} stored bytes for ${rawLength}`;
  if (codec === 0 && storedLength < rawLength) return `${storedLength} stored bytes for ${rawLength} uncompressed`;
  return undefined;
}

/** Whether a pack may have a record there. */
export function isPlace(offset: number, storedLength: number): boolean {
  const isLength = storedLength >= 1 && storedLength <= MAX_STORED_LENGTH;
  return isLength && offset >= FIRST_OFFSET && offset + storedLength < PACK_LIMIT;
}

/** The last of the three numbers of a location. */
export function storedWord(location: Location): number {
  return location.storedLength | (location.codec << 24);
}

export function storedLengthOf(word: number): number {
  return word & 0xffffff;
}

export function codecOf(word: number): Codec {
  return (word >>> 24) as Codec;
}

/** Whether two locations name the same bytes. */
export function sameLocation(a: Location, b: Location): boolean {
  return (
    a.offset === b.offset &&
    a.storedLength === b.storedLength &&
    a.codec === b.codec &&
    (a.pack === b.pack || (a.pack.session === b.pack.session && a.pack.random === b.pack.random))
  );
}

/** Writes the check at the end of the location part that begins at `start`. */
export function sealLocationPart(raw: Uint8Array, view: DataView, start: number): void {
  const end = raw.length - CHECK_BYTES;
  view.setUint32(end, crc32(raw.subarray(start, end)), true);
}

/** Returns where the location part ends, without its check. @throws `MAP_CORRUPT` */
export function checkLocationPart(raw: Uint8Array, view: DataView, start: number): number {
  const end = raw.length - CHECK_BYTES;
  if (end < start + 2) throw mapCorrupt('a record is too short');
  if (view.getUint32(end, true) !== crc32(raw.subarray(start, end)))
    throw mapCorrupt('a location part does not match its check');
  return end;
}

/** Whether the location part, where the record has one, matches its check. */
export function isLocationPartSound(raw: Uint8Array, start: number): boolean {
  if (start === raw.length) return true;
  const end = raw.length - CHECK_BYTES;
  return end >= start && viewOf(raw).getUint32(end, true) === crc32(raw.subarray(start, end));
}

/** A view of all of `raw`. */
export function viewOf(raw: Uint8Array): DataView {
  return new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
}

/**
 * The part of a record's raw bytes that its id covers: of nodes and run chunks all through the ids, of others everything.
 *
 * @throws `RECORD_CORRUPT` where the bytes end before that part does
 */
export function identityPart(kind: RecordKind, raw: Uint8Array, fanOut: number): Uint8Array {
  switch (kind) {
    case RecordKind.leaf:
      return throughIds(raw, 0, fanOut);
    case RecordKind.inner:
      return throughIds(raw, 1, fanOut);
    case RecordKind.runChunk: {
      if (raw.length < 4) throw tooShort();
      const entries = viewOf(raw).getUint32(0, true);
      if (entries > MAX_CHUNK_ENTRIES) throw tooShort();
      return throughIds(raw, 4 + 4 * entries, entries);
    }
    default:
      return raw;
  }
}

/** @param entries - how many bits of the presence bitmap count */
function throughIds(raw: Uint8Array, bitmapAt: number, entries: number): Uint8Array {
  const bitmapEnd = bitmapAt + Math.ceil(entries / 8);
  if (bitmapEnd > raw.length) throw tooShort();
  let present = 0;
  for (let entry = 0; entry < entries; entry++) {
    present += ((raw[bitmapAt + (entry >>> 3)] as number) >>> (entry & 7)) & 1;
  }
  const end = bitmapEnd + present * ID_BYTES;
  if (end > raw.length) throw tooShort();
  return raw.subarray(0, end);
}

function tooShort(): BackupError {
  return new BackupError('RECORD_CORRUPT', 'a node or run chunk is shorter than it says');
}
