import { MsgpackBytes } from '../../common/msgpack-writer.ts';
import { isBytes } from '../../common/realms.ts';
import type { Steps } from '../../common/yield-to-event-loop.ts';
import { idBytes, logCorrupt, logValue } from './decode-values.ts';
import type { PackFacts } from './log-state.ts';

/**
 * Names of packs, and packs with their sizes and hashes, as the byte strings that checkpoints have of them: `docs/FORMAT.md`,
 * section 9. There may be a hundred thousand in one string, so they are written in pieces and read in steps.
 */

/** The number of names of packs that are written or read in one step. */
const NAMES_AT_ONCE = 256;
export const NAME_BYTES = 16;
/** Name, size and SHA-256. */
export const PACK_BYTES = 52;

/** Names of packs, one after another. */
export function namesPlain(count: number, names: Iterable<string>): MsgpackBytes {
  return new MsgpackBytes(count * NAME_BYTES, namePieces(count, names));
}

function* namePieces(count: number, names: Iterable<string>): Iterable<Uint8Array> {
  if (count === 0) return;
  const piece = Buffer.alloc(Math.min(count, NAMES_AT_ONCE) * NAME_BYTES);
  let at = 0;
  for (const name of names) {
    piece.set(idBytes(name), at);
    at += NAME_BYTES;
    if (at < piece.length) continue;
    yield piece;
    at = 0;
  }
  yield piece.subarray(0, at);
}

/** Packs of one session with their sizes and hashes, one after another. */
export function packsPlain(packs: ReadonlyMap<string, PackFacts>): MsgpackBytes {
  return new MsgpackBytes(packs.size * PACK_BYTES, packPieces(packs));
}

function* packPieces(packs: ReadonlyMap<string, PackFacts>): Iterable<Uint8Array> {
  for (const [random, { size, sha256 }] of packs) {
    const piece = Buffer.alloc(PACK_BYTES);
    piece.set(idBytes(random));
    piece.writeUInt32LE(size, NAME_BYTES);
    piece.set(sha256, NAME_BYTES + 4);
    yield piece;
  }
}

/** @throws `LOG_CORRUPT` unless this is names of packs, of which none is cut */
export function nameBytes(value: unknown): Buffer {
  if (!isBytes(value) || value.length % NAME_BYTES !== 0) throw logCorrupt('names of packs are cut');
  return Buffer.from(value.buffer, value.byteOffset, value.length);
}

export function* eachName(names: Buffer, take: (name: string) => void): Steps<void> {
  for (let at = 0; at < names.length; at += NAME_BYTES) {
    take(names.toString('hex', at, at + NAME_BYTES));
    if (at % (NAMES_AT_ONCE * NAME_BYTES) === 0) yield;
  }
}

/** @throws `LOG_CORRUPT` unless this is packs, of which none is cut */
export function packBytes(value: unknown): Buffer {
  if (!isBytes(value) || value.length % PACK_BYTES !== 0) throw logCorrupt('known packs are cut');
  return Buffer.from(value.buffer, value.byteOffset, value.length);
}

/** @throws `LOG_CORRUPT` for a pack of no bytes */
export function* eachPack(packs: Buffer, take: (name: string, facts: PackFacts) => void): Steps<void> {
  for (let at = 0; at < packs.length; at += PACK_BYTES) {
    const size = logValue.int(packs.readUInt32LE(at + NAME_BYTES), 'size of a pack', 1);
    const sha256 = Uint8Array.from(packs.subarray(at + NAME_BYTES + 4, at + PACK_BYTES));
    take(packs.toString('hex', at, at + NAME_BYTES), { size, sha256 });
    if (at % (NAMES_AT_ONCE * PACK_BYTES) === 0) yield;
  }
}
