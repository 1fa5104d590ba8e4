import { described, integerArgument } from '../common/arguments.ts';
import type { ByteRange } from '../common/byte-range.ts';
import { BackupError } from '../common/errors.ts';

export function checkRange(range: ByteRange | undefined): ByteRange | undefined {
  if (range === undefined) return undefined;
  if (typeof range !== 'object' || range === null) {
    throw new TypeError(`options.range must be an object with offset and length, not ${described(range)}`);
  }
  integerArgument('options.range.offset', range.offset, 0);
  integerArgument('options.range.length', range.length, 0, Number.MAX_SAFE_INTEGER - range.offset);
  return range;
}

/** Allocates the memory for a body. @throws `OBJECT_TOO_LARGE` if there is not enough */
export function roomFor(what: string, bytes: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw new BackupError(
      'OBJECT_TOO_LARGE',
      `${what}: there is not enough memory for ${bytes} bytes at once; read the object in ranges`,
      { cause },
    );
  }
}

/** The bytes of an object of `size` bytes that a `get` returns: all of them, or a range that must lie within the object. */
export function rangeWithin(key: string, size: number, range: ByteRange | undefined): ByteRange {
  if (range === undefined) return { offset: 0, length: size };
  if (range.offset + range.length > size) {
    throw new BackupError(
      'RANGE_UNSATISFIABLE',
      `bytes ${range.offset} to ${range.offset + range.length} do not lie within object ${key}, which has ${size} bytes`,
    );
  }
  return range;
}
