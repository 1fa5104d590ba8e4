import { described } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';

/**
 * The arithmetic of ranges, sectors and blocks: whether a range is allowed, and how an unaligned range is split into a head, whole
 * units and a tail.
 */

/** The facts about a device against which a range is checked. */
export interface Bounds {
  readonly size: number;
  readonly sectorSize: number;
}

/** Throws `OUT_OF_RANGE` or `MISALIGNED` unless the range is whole sectors within the device. */
export function checkSpan(bounds: Bounds, offset: number, length: number): void {
  // One test for the usual case; what exactly is wrong is found out only if it fails. The types come first, because `'0'`,
  // `null` and `[0]` compare like numbers.
  if (
    typeof offset === 'number' &&
    typeof length === 'number' &&
    offset >= 0 &&
    length >= 0 &&
    offset + length <= bounds.size &&
    isMultiple(offset, bounds.sectorSize) &&
    isMultiple(length, bounds.sectorSize)
  ) {
    return;
  }
  throw spanError(bounds, offset, length);
}

/**
 * Whether `value`, from 0 to 2^53, is an integer multiple of a unit. Not by `%`: for numbers that may be larger than 2^31 it
 * costs more than all other checks of a write together.
 */
export function isMultiple(value: number, unit: number): boolean {
  return unit === 1 ? Math.floor(value) === value : Math.floor(value / unit) * unit === value;
}

function spanError({ size, sectorSize }: Bounds, offset: number, length: number): Error {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length)) {
    return new TypeError(`offset and length must be integers, not ${described(offset)} and ${described(length)}`);
  }
  if (offset < 0 || length < 0 || offset + length > size) {
    return new BackupError('OUT_OF_RANGE', `${length} bytes at ${offset} do not lie within ${size} bytes`);
  }
  return new BackupError('MISALIGNED', `${length} bytes at ${offset} are not whole sectors of ${sectorSize} bytes`);
}

/** A part of one unit: `length` bytes from byte `start` of the unit, which are at byte `offset` of the range's buffer. */
export interface PartialUnit {
  readonly unit: number;
  readonly start: number;
  readonly length: number;
  readonly offset: number;
}

/** A range in units (sectors or blocks): a partly covered first one, whole ones, and a partly covered last one. */
export interface Span {
  readonly head: PartialUnit | undefined;
  readonly firstWhole: number;
  readonly wholeCount: number;
  /** The offset of the whole units in the range's buffer, in bytes. */
  readonly wholeOffset: number;
  readonly tail: PartialUnit | undefined;
}

/** Splits a range into units of `unitSize` bytes. A range that covers only a part of one unit is a head. */
export function splitSpan(offset: number, length: number, unitSize: number): Span {
  const end = offset + length;
  const firstUnit = Math.floor(offset / unitSize);
  const firstBoundary = firstUnit * unitSize;
  if (length === 0) {
    return { head: undefined, firstWhole: firstUnit, wholeCount: 0, wholeOffset: 0, tail: undefined };
  }
  let head: PartialUnit | undefined;
  let firstWhole = firstUnit;
  if (offset > firstBoundary || end < firstBoundary + unitSize) {
    const headLength = Math.min(end, firstBoundary + unitSize) - offset;
    head = { unit: firstUnit, start: offset - firstBoundary, length: headLength, offset: 0 };
    firstWhole = firstUnit + 1;
  }
  const wholeStart = firstWhole * unitSize;
  const wholeCount = Math.max(0, Math.floor((end - wholeStart) / unitSize));
  const tailStart = wholeStart + wholeCount * unitSize;
  const tail =
    end > tailStart
      ? { unit: firstWhole + wholeCount, start: 0, length: end - tailStart, offset: tailStart - offset }
      : undefined;
  return { head, firstWhole, wholeCount, wholeOffset: wholeStart - offset, tail };
}
