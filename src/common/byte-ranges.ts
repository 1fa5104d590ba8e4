import type { ByteRange } from './byte-range.ts';
import { BackupError } from './errors.ts';

/** Bytes of a volume that are to be restored: ascending, none of them empty, not touching. */
export class ByteRanges {
  readonly #ranges: readonly ByteRange[];
  readonly totalBytes: number;

  /** @throws TypeError; `OUT_OF_RANGE` for what does not lie within `size` */
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

  /** The first byte after all of them. */
  get end(): number {
    const last = this.#ranges.at(-1);
    return last === undefined ? 0 : last.offset + last.length;
  }

  [Symbol.iterator](): Iterator<ByteRange> {
    return this.#ranges[Symbol.iterator]();
  }

  /** What there is of it from `from` to before `end`. */
  within(from: number, end: number): ByteRange[] {
    const parts: ByteRange[] = [];
    for (let i = this.#firstEndingAfter(from); i < this.#ranges.length; i++) {
      const { offset, length } = this.#ranges[i] as ByteRange;
      if (offset >= end) break;
      const start = Math.max(from, offset);
      parts.push({ offset: start, length: Math.min(end, offset + length) - start });
    }
    return parts;
  }

  #firstEndingAfter(byte: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { offset, length } = this.#ranges[middle] as ByteRange;
      if (offset + length <= byte) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function checked(range: ByteRange, size: number): ByteRange {
  const { offset, length } = range;
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length)) {
    throw new TypeError(`a range has a whole number of bytes, not ${String(offset)} and ${String(length)}`);
  }
  if (offset < 0 || length < 0 || offset + length > size) {
    throw new BackupError(
      'OUT_OF_RANGE',
      `${length} bytes at ${offset} do not lie within the ${size} bytes of the backup`,
    );
  }
  return range;
}
