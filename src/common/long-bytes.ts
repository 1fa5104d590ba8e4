import { createHash } from 'node:crypto';
import type { Steps } from './yield-to-event-loop.ts';

/** The number of bytes that are hashed, encrypted or copied in one step, which takes well under a millisecond. */
export const PIECE_BYTES = 256 * 1024;

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
