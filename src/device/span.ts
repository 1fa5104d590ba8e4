import { described } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';

/**
 * The one place where ranges meet sectors and blocks: whether a range is allowed, and how an unaligned one falls
 * into a head, whole units and a tail.
 */

/** The part of a device that a call needs to know to check its range. */
export interface Bounds {
  readonly size: number;
  readonly sectorSize: number;
}

/** Throws `OUT_OF_RANGE` or `MISALIGNED` unless the range is whole sectors within the device. */
export function checkSpan(bounds: Bounds, offset: number, length: number): void {
  // One test for the usual case; what exactly is wrong is found out only when something is. By type first: `'0'`, `null`
  // and `[0]` compare like numbers.
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

/** Part of one unit: `length` bytes from byte `start` of the unit, at byte `offset` of the range's own buffer. */
export interface PartialUnit {
  readonly unit: number;
  readonly start: number;
  readonly length: number;
  readonly offset: number;
}

/** A range as units (sectors or blocks): a partly covered first one, whole ones, a partly covered last one. */
export interface Span {
  readonly head: PartialUnit | undefined;
  readonly firstWhole: number;
  readonly wholeCount: number;
  /** Where the whole units begin in the range's own buffer, in bytes. */
  readonly wholeOffset: number;
  readonly tail: PartialUnit | undefined;
}

/** Splits a range by units of `unitSize` bytes. A range within one unit that does not cover it is all head. */
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
