import { corruptError } from '../../common/errors.ts';
import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import type { CommittedPack } from './log-entry.ts';
import { MAX_SEQ } from './object-keys.ts';
import { MAX_RAW_LENGTH } from './record.ts';

/** Tables of packs, kind 5: `docs/FORMAT.md`, section 8. u64 session, 16 random, u32 size, 32 SHA-256. */

const corrupt = corruptError('RECORD_CORRUPT', 'a table of packs');

const ROW_BYTES = 60;
/** The most packs that one table lists. */
export const MAX_TABLE_PACKS = Math.floor(MAX_RAW_LENGTH[5] / ROW_BYTES);

/** @param packs - at most {@link MAX_TABLE_PACKS} */
export function* encodingPackTable(packs: readonly CommittedPack[]): Steps<Uint8Array<ArrayBuffer>> {
  if (packs.length > MAX_TABLE_PACKS) throw new RangeError(`a table lists ${MAX_TABLE_PACKS} packs at most`);
  const raw = Buffer.alloc(packs.length * ROW_BYTES);
  const steps = new StepCounter();
  let at = 0;
  for (const { session, random, size, sha256 } of packs) {
    raw.writeBigUInt64LE(BigInt(session), at);
    raw.write(random, at + 8, 'hex');
    raw.writeUInt32LE(size, at + 24);
    raw.set(sha256, at + 28);
    at += ROW_BYTES;
    if (steps.isDue()) yield;
  }
  return new Uint8Array(raw.buffer, raw.byteOffset, raw.length);
}

/** @param count - what the table's entry says. @throws `RECORD_CORRUPT` for anything but so many valid rows, each pack once */
export function* decodingPackTable(raw: Uint8Array, count: number): Steps<CommittedPack[]> {
  if (raw.length !== count * ROW_BYTES || count > MAX_TABLE_PACKS) {
    throw corrupt(`${raw.length} bytes are not ${count} rows`);
  }
  const view = Buffer.from(raw.buffer, raw.byteOffset, raw.length);
  const packs: CommittedPack[] = [];
  const names = new Set<string>();
  const steps = new StepCounter();
  for (let at = 0; at < view.length; at += ROW_BYTES) {
    const session = view.readBigUInt64LE(at);
    if (session < 1n || session > BigInt(MAX_SEQ)) throw corrupt('there is no such session');
    const random = view.toString('hex', at + 8, at + 24);
    if (names.has(`${session}/${random}`)) throw corrupt('it lists a pack twice');
    names.add(`${session}/${random}`);
    const size = view.readUInt32LE(at + 24);
    packs.push({ session: Number(session), random, size, sha256: Uint8Array.from(view.subarray(at + 28, at + 60)) });
    if (steps.isDue()) yield;
  }
  return packs;
}
