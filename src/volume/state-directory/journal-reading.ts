import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { GROUP_HEAD_BYTES, GROUP_MAGIC, GROUP_UNIT, groupCrc, type JournalPlace } from './journal.ts';
import { decodeRecords, type JournalRecord } from './journal-records.ts';
import type { StateFile } from './state-storage.ts';

/** What is read at a time, and the most bytes of a group that any writer makes. */
const READ_BYTES = 4 * 2 ** 20;
const MAX_RECORD_BYTES = 2 ** 28;

/** The journal is not one that a crash can have left: bytes that were durable are gone or have changed. */
export class JournalDamaged extends Error {}

interface Head {
  readonly recordBytes: number;
  readonly number: number;
  readonly durable: number;
  readonly before: number;
  readonly crc: number;
}

/**
 * Calls `take` with the records of one file of the journal, as far as the chain of its groups goes. Rule C14.
 *
 * @returns where the next file of the journal begins
 * @throws {@link JournalDamaged} if the chain is broken in front of a group that was known to be durable
 */
export async function readJournal(
  file: StateFile,
  place: JournalPlace,
  take: (record: JournalRecord) => void,
): Promise<JournalPlace> {
  const size = await file.size();
  let { group, crc } = place;
  let at = 0;
  for (;;) {
    await yieldToEventLoop();
    const head = await headAt(file, at, size);
    // @mutation groups-are-chained
    if (head === undefined || head.number !== group || head.before !== crc) break;
    const bytes = new Uint8Array(GROUP_HEAD_BYTES + head.recordBytes);
    if (at + bytes.length > size) break;
    await file.read(at, bytes);
    if (groupCrc(bytes, head.recordBytes) !== head.crc) break;
    for (const record of decodeRecords(bytes.subarray(GROUP_HEAD_BYTES))) take(record);
    group++;
    crc = head.crc;
    at += Math.ceil(bytes.length / GROUP_UNIT) * GROUP_UNIT;
  }
  await requireUnknown(file, { at, size, group });
  return { group, crc };
}

/** Throws if a later group of the file says that the one at which the chain ends was durable: then a crash has not cut it off. */
async function requireUnknown(
  file: StateFile,
  { at, size, group }: { at: number; size: number; group: number },
): Promise<void> {
  const bytes = new Uint8Array(Math.min(READ_BYTES, Math.max(0, size - at)));
  for (let from = at; from < size; from += bytes.length) {
    await yieldToEventLoop();
    const part = bytes.subarray(0, Math.min(bytes.length, size - from));
    await file.read(from, part);
    for (let head = 0; head + GROUP_HEAD_BYTES <= part.length; head += GROUP_UNIT) {
      const found = headIn(part.subarray(head, head + GROUP_HEAD_BYTES));
      if (found !== undefined && found.number > group && found.durable >= group) {
        // @mutation damage-is-refused
        throw new JournalDamaged(`group ${group} of the journal is damaged, and was durable`);
      }
    }
  }
}

async function headAt(file: StateFile, at: number, size: number): Promise<Head | undefined> {
  if (at + GROUP_HEAD_BYTES > size) return undefined;
  const bytes = new Uint8Array(GROUP_HEAD_BYTES);
  await file.read(at, bytes);
  return headIn(bytes);
}

function headIn(bytes: Uint8Array): Head | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== GROUP_MAGIC) return undefined;
  const head = {
    recordBytes: view.getUint32(4, true),
    number: Number(view.getBigUint64(8, true)),
    durable: Number(view.getBigUint64(16, true)),
    before: view.getUint32(24, true),
    crc: view.getUint32(28, true),
  };
  return head.recordBytes > MAX_RECORD_BYTES ? undefined : head;
}
