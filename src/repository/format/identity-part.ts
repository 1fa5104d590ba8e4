import { BackupError } from '../../common/errors.ts';
import { ID_BYTES } from './derivation.ts';
import { RecordKind } from './record.ts';

/** Most entries of a run chunk. */
const MAX_RUN_ENTRIES = 65_536;

/**
 * The part of a node's, run's or table's raw bytes that its id covers (`docs/FORMAT.md`, section 7): everything up to
 * the ids of what is present. A block's is all of it.
 *
 * @throws `RECORD_CORRUPT` when the bytes end before that part does
 */
export function identityPart(kind: RecordKind, raw: Uint8Array, fanOut: number): Uint8Array {
  switch (kind) {
    case RecordKind.leaf:
      return throughIds(raw, 0, fanOut);
    case RecordKind.inner:
      return throughIds(raw, 1, fanOut);
    case RecordKind.runChunk: {
      if (raw.length < 4) throw tooShort();
      const entries = new DataView(raw.buffer, raw.byteOffset).getUint32(0, true);
      if (entries > MAX_RUN_ENTRIES) throw tooShort();
      return throughIds(raw, 4 + 4 * entries, entries);
    }
    default:
      return raw;
  }
}

/** @param entries - bits of the presence bitmap that count */
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
  return new BackupError('RECORD_CORRUPT', 'a node or run is shorter than it says');
}
