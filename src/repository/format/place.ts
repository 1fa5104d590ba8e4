import type { Codec, Location } from './record.ts';

/**
 * Where a sealed record stands inside its pack: the numbers of a `Location` that a node holds, and what makes them
 * believable. `docs/FORMAT.md`, sections 4 to 6.
 */

/** u16 index of the pack, u32 offset, u32 stored length | codec << 24. */
export const PLACE_BYTES = 10;
/** Nonce and tag of a sealed record; none in a plain repository. */
const MAX_SEAL_BYTES = 28;
/** Records follow the pack's magic. */
const FIRST_OFFSET = 8;
const PACK_LIMIT = 2 ** 32;
const MAX_STORED_LENGTH = 2 ** 24 - 1;

/** What is wrong with a place, `undefined` when nothing is. */
export function placeFault(offset: number, storedLength: number, codec: number, rawLength: number): string | undefined {
  if (codec !== 0 && codec !== 1) return `unknown codec ${codec}`;
  if (!(storedLength >= 1 && storedLength <= MAX_STORED_LENGTH)) return `no record is ${storedLength} bytes long`;
  if (!(offset >= FIRST_OFFSET && offset + storedLength < PACK_LIMIT)) return `no record stands at ${offset}`;
  // Compression is used only where it helps, so nothing is stored longer than it was.
  if (storedLength > rawLength + MAX_SEAL_BYTES) return `${storedLength} stored bytes for ${rawLength}`;
  if (codec === 0 && storedLength < rawLength) return `${storedLength} stored bytes for ${rawLength} uncompressed`;
  return undefined;
}

/** The last of a place's three numbers. */
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
