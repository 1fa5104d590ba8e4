import { packKey } from '../format/object-keys.ts';
import type { Location, PackName, RecordKind } from '../format/record.ts';

/** Which requests it takes to read some records: neighbours in a pack share one. */

const KIB = 1024;
const MIB = 1024 * KIB;

export interface SpanLimits {
  /** So many bytes that nobody asked for are read along when that saves a request. */
  readonly maxGapBytes: number;
  /** The most bytes of one request, unless a single record is longer. */
  readonly maxSpanBytes: number;
}

/** Of backups that are restored, compared or pruned. */
export const READ_SPANS: SpanLimits = { maxGapBytes: 128 * KIB, maxSpanBytes: 8 * MIB };
/** Of packs that are repacked: most of their bytes are needed in the end. */
export const REPACK_SPANS: SpanLimits = { maxGapBytes: 256 * KIB, maxSpanBytes: 8 * MIB };
/** Of a verification, which goes on for hours beside other work. */
export const VERIFY_SPANS: SpanLimits = { maxGapBytes: 32 * KIB, maxSpanBytes: 4 * MIB };

export interface WantedRecord {
  readonly kind: RecordKind;
  readonly id: Uint8Array;
  /** As a map or the log names it. */
  readonly location: Location;
}

interface Extent {
  readonly offset: number;
  readonly storedLength: number;
}

/** Records of one pack that one request reads. */
export interface RecordSpan<T extends Extent> {
  readonly offset: number;
  end: number;
  /** Ascending by offset. */
  readonly records: T[];
}

/** Cuts records of one pack into requests, which ascend. */
export function spansOf<T extends Extent>(
  records: readonly T[],
  { maxGapBytes, maxSpanBytes }: SpanLimits,
): RecordSpan<T>[] {
  const spans: RecordSpan<T>[] = [];
  let span: RecordSpan<T> | undefined;
  for (const record of records.toSorted((a, b) => a.offset - b.offset)) {
    const { offset } = record;
    const end = offset + record.storedLength;
    if (span !== undefined && offset - span.end <= maxGapBytes && end - span.offset <= maxSpanBytes) {
      span.records.push(record);
      span.end = Math.max(span.end, end);
    } else {
      span = { offset, end, records: [record] };
      spans.push(span);
    }
  }
  return spans;
}

/** The bytes of a record within those of its span. */
export function storedIn({ offset }: { readonly offset: number }, record: Extent, bytes: Uint8Array): Uint8Array {
  return bytes.subarray(record.offset - offset, record.offset - offset + record.storedLength);
}

/** Items by the keys of their packs, in the order in which these are first named. */
export class PackGroups<T> {
  readonly groups = new Map<string, T[]>();
  #last: PackName | undefined;
  #group: T[] = [];

  add(pack: PackName, item: T): void {
    // Items that follow each other mostly name one pack, by one object.
    if (pack !== this.#last) {
      const key = packKey(pack);
      this.#last = pack;
      this.#group = this.groups.get(key) ?? [];
      this.groups.set(key, this.#group);
    }
    this.#group.push(item);
  }
}

export function byPack<T>(items: readonly T[], packOf: (item: T) => PackName): Map<string, T[]> {
  const by = new PackGroups<T>();
  for (const item of items) by.add(packOf(item), item);
  return by.groups;
}
