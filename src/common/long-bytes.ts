import { createHash } from 'node:crypto';
import type { InSteps } from './event-loop-turns.ts';

/** So many bytes are hashed, encrypted or copied in one step: well under a millisecond. */
export const PIECE_BYTES = 256 * 1024;

/** Where each piece begins, and the piece. */
export function* piecesOf(bytes: Uint8Array): Iterable<[number, Uint8Array]> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield [at, bytes.subarray(at, at + PIECE_BYTES)];
}

/** SHA-256 of the bytes, after a label where there is one. */
export function* hashing(bytes: Uint8Array, label = ''): InSteps<Uint8Array<ArrayBuffer>> {
  const hash = createHash('sha256').update(label);
  for (const [, piece] of piecesOf(bytes)) {
    hash.update(piece);
    yield;
  }
  return new Uint8Array(hash.digest());
}
