import { described } from './arguments.ts';
import { firstEndingAfter } from './block-range.ts';
import { BackupError } from './errors.ts';

/** A range of bytes. Its field names differ from those of a block range, so that the two are not confused. @public */
export interface ByteRange {
  /** Bytes from the start of the device or object. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/** The bytes of a volume that are to be restored, as ascending ranges that are not empty and do not touch. */
export class ByteRanges {
  readonly #ranges: readonly ByteRange[];
  readonly totalBytes: number;

  /** @throws `TypeError`; `OUT_OF_RANGE` for a range that does not lie within `size` */
  constructor(ranges: readonly ByteRange[], size: number) {
    const sorted = ranges.map((range) => checked(range, size)).sort((a, b) => a.offset - b.offset);
    const merged: { offset: number; length: number }[] = [];
    for (const { offset, length } of sorted) {
      if (length === 0) continue;
      const last = merged.at(-1);
      const end = last === undefined ? -1 : last.offset + last.length;
      if (last !== undefined && offset <= end) last.length = Math.max(end, offset + length) - last.offset;
      else merged.push({ offset, length });
    }
    this.#ranges = merged;
    this.totalBytes = merged.reduce((sum, { length }) => sum + length, 0);
  }

  /** The first byte after the last range. */
  get end(): number {
    const last = this.#ranges.at(-1);
    return last === undefined ? 0 : endOf(last);
  }

  [Symbol.iterator](): Iterator<ByteRange> {
    return this.#ranges[Symbol.iterator]();
  }

  /** The parts of the ranges that lie from byte `from` to before byte `end`. */
  within(from: number, end: number): ByteRange[] {
    const parts: ByteRange[] = [];
    for (let i = firstEndingAfter(this.#ranges, from, endOf); i < this.#ranges.length; i++) {
      const { offset, length } = this.#ranges[i] as ByteRange;
      if (offset >= end) break;
      const start = Math.max(from, offset);
      parts.push({ offset: start, length: Math.min(end, offset + length) - start });
    }
    return parts;
  }
}

function checked(range: ByteRange, size: number): ByteRange {
  const { offset, length } = range;
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length)) {
    throw new TypeError(
      `offset and length of a range must be integers, not ${described(offset)} and ${described(length)}`,
    );
  }
  if (offset < 0 || length < 0 || offset + length > size) {
    throw new BackupError(
      'OUT_OF_RANGE',
      `${length} bytes at ${offset} do not lie within the ${size} bytes of the backup`,
    );
  }
  return range;
}

function endOf({ offset, length }: ByteRange): number {
  return offset + length;
}
