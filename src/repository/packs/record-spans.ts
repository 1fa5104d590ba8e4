import { packKey } from '../format/object-keys.ts';
import type { Location, PackName, RecordKind } from '../format/record.ts';

/** Which requests it takes to read some records. */

/** Bytes that nobody asked for are read along when that saves a request. */
const MAX_GAP_BYTES = 128 * 1024;
/** The most bytes of one request, unless a single record is longer. */
const MAX_SPAN_BYTES = 8 * 1024 * 1024;

export interface WantedRecord {
  readonly kind: RecordKind;
  readonly id: Uint8Array;
  /** As a map or the log names it. */
  readonly location: Location;
}

/** A record and where it is now. */
export interface PlacedRecord<T extends WantedRecord> {
  readonly wanted: T;
  readonly pack: PackName;
  readonly offset: number;
}

/** Records that one request reads. */
export interface RecordSpan<T extends WantedRecord> {
  readonly pack: PackName;
  readonly offset: number;
  end: number;
  /** Ascending by offset. */
  readonly records: PlacedRecord<T>[];
}

/** Cuts what is wanted into requests: packs in the order in which they are first named, each from its beginning. */
export function spansOf<T extends WantedRecord>(placed: readonly PlacedRecord<T>[]): RecordSpan<T>[] {
  const spans: RecordSpan<T>[] = [];
  for (const records of byPack(placed, ({ pack }) => pack).values()) {
    records.sort((a, b) => a.offset - b.offset);
    let span: RecordSpan<T> | undefined;
    for (const record of records) {
      const { pack, offset } = record;
      const end = offset + record.wanted.location.storedLength;
      if (span !== undefined && offset - span.end <= MAX_GAP_BYTES && end - span.offset <= MAX_SPAN_BYTES) {
        span.records.push(record);
        span.end = Math.max(span.end, end);
      } else {
        span = { pack, offset, end, records: [record] };
        spans.push(span);
      }
    }
  }
  return spans;
}

/** Groups by the keys of packs. */
export function byPack<T>(items: readonly T[], packOf: (item: T) => PackName): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  let last: PackName | undefined;
  let group: T[] = [];
  for (const item of items) {
    const pack = packOf(item);
    // Entries that follow each other mostly name one pack, by one object.
    if (pack !== last) {
      last = pack;
      const key = packKey(pack);
      group = groups.get(key) ?? [];
      groups.set(key, group);
    }
    group.push(item);
  }
  return groups;
}
