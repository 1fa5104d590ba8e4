import { createHash } from 'node:crypto';
import { runInSteps, type Steps } from './yield-to-event-loop.ts';

/** The number of bytes that are hashed, encrypted or copied in one step, which takes well under a millisecond. */
export const PIECE_BYTES = 256 * 1024;

/** The number of bytes of a caller that are copied at once. That takes some 3 ms, because the system has to give memory for the copy. */
const COPIED_AT_ONCE = 8 * 1024 * 1024;

/** The pieces of long bytes, each with its offset. */
export function* piecesOf(bytes: Uint8Array): Iterable<[number, Uint8Array]> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield [at, bytes.subarray(at, at + PIECE_BYTES)];
}

/** The SHA-256 of a label and long bytes. */
export function* sha256InSteps(bytes: Uint8Array, label = ''): Steps<Uint8Array<ArrayBuffer>> {
  const hash = createHash('sha256').update(label);
  for (const [, piece] of piecesOf(bytes)) {
    hash.update(piece);
    yield;
  }
  return new Uint8Array(hash.digest());
}

/** The parts one after another, in memory of their own and not in Node's pool. */
export function* joinInSteps(parts: readonly Uint8Array[]): Steps<Uint8Array<ArrayBuffer>> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    for (const [from, piece] of piecesOf(part)) {
      whole.set(piece, at + from);
      yield;
    }
    at += part.length;
  }
  return whole;
}

/**
 * A copy of a caller's bytes, so that what is checked is what is used. Up to 8 MiB are copied before this returns, and the
 * caller must not change longer ones until then.
 */
export async function ownCopy(bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  return bytes.length <= COPIED_AT_ONCE ? Uint8Array.from(bytes) : runInSteps(joinInSteps([bytes]));
}
