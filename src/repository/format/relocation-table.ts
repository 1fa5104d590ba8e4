import { corruptError } from '../../common/errors.ts';
import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import { MAX_SEQ } from './object-keys.ts';
import { MAX_RAW_LENGTH, type PackName, RecordKind } from './record.ts';
import { FIRST_OFFSET, isPlace } from './record-parts.ts';

/** Relocation tables (kind 6), which say where the records of a condemned pack are now: `docs/FORMAT.md`, section 8. */

const corrupt = corruptError('RECORD_CORRUPT', 'a relocation table');

/** One record that was moved. Its bytes, codec and lengths are what they were. */
export interface RelocationRow {
  /** Its offset in the old pack, in bytes. */
  readonly offset: number;
  readonly to: { readonly pack: PackName; readonly offset: number; readonly storedLength: number };
}

/** u32 old offset, u64 session and 16 random of the new pack, u32 new offset, u32 stored length. */
const ROW_BYTES = 36;
/** The most rows that a table has. */
export const MAX_RELOCATION_ROWS = Math.floor(MAX_RAW_LENGTH[RecordKind.relocation] / ROW_BYTES);

/** @param rows - ascending by offset, each offset once */
export function* encodingRelocationTable(rows: readonly RelocationRow[]): Steps<Uint8Array<ArrayBuffer>> {
  if (rows.length === 0 || rows.length > MAX_RELOCATION_ROWS)
    throw new RangeError(`${rows.length} rows of a relocation table`);
  const raw = Buffer.alloc(rows.length * ROW_BYTES);
  const steps = new StepCounter();
  let last = -1;
  let at = 0;
  for (const { offset, to } of rows) {
    if (offset <= last) throw new RangeError('the rows of a relocation table ascend');
    last = offset;
    raw.writeUInt32LE(offset, at);
    raw.writeBigUInt64LE(BigInt(to.pack.session), at + 4);
    raw.write(to.pack.random, at + 12, 'hex');
    raw.writeUInt32LE(to.offset, at + 28);
    raw.writeUInt32LE(to.storedLength, at + 32);
    at += ROW_BYTES;
    if (steps.isDue()) yield;
  }
  return new Uint8Array(raw.buffer, raw.byteOffset, raw.length);
}

/** @throws `RECORD_CORRUPT` */
export function* decodingRelocationTable(raw: Uint8Array): Steps<RelocationRow[]> {
  if (raw.length === 0 || raw.length % ROW_BYTES !== 0 || raw.length > MAX_RELOCATION_ROWS * ROW_BYTES) {
    throw corrupt(`${raw.length} bytes are not rows of ${ROW_BYTES}`);
  }
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  const rows: RelocationRow[] = [];
  const steps = new StepCounter();
  let last = -1;
  for (let at = 0; at < raw.length; at += ROW_BYTES) {
    const row = rowAt(raw, view, at);
    if (row.offset <= last || !(leads(row) || isNowhere(row, raw))) {
      throw corrupt(`row ${rows.length} is not valid`);
    }
    last = row.offset;
    rows.push(row);
    if (steps.isDue()) yield;
  }
  return rows;
}

function leads({ offset, to }: RelocationRow): boolean {
  return offset >= FIRST_OFFSET && isSession(to.pack.session) && isPlace(to.offset, to.storedLength);
}

/** The only row of a table of which nothing is needed any more. */
function isNowhere({ offset, to }: RelocationRow, raw: Uint8Array): boolean {
  return offset === 0 && raw.length === ROW_BYTES && isSession(to.pack.session);
}

function isSession(session: number): boolean {
  return session >= 1 && session <= MAX_SEQ;
}

/** Where a table leads from an old offset. @param raw - that {@link decodingRelocationTable} has accepted */
export function findRelocation(raw: Uint8Array, offset: number): RelocationRow['to'] | undefined {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  let low = 0;
  let high = raw.length / ROW_BYTES;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (view.getUint32(middle * ROW_BYTES, true) < offset) low = middle + 1;
    else high = middle;
  }
  const at = low * ROW_BYTES;
  if (at >= raw.length || view.getUint32(at, true) !== offset) return undefined;
  return rowAt(raw, view, at).to;
}

function rowAt(raw: Uint8Array, view: DataView, at: number): RelocationRow {
  const session = Number(view.getBigUint64(at + 4, true));
  const random = Buffer.from(raw.buffer, raw.byteOffset + at + 12, 16).toString('hex');
  return {
    offset: view.getUint32(at, true),
    to: {
      pack: { session, random },
      offset: view.getUint32(at + 28, true),
      storedLength: view.getUint32(at + 32, true),
    },
  };
}
