import { createHash } from 'node:crypto';
import { BackupError } from '../common/errors.ts';
import { piecesOf } from '../common/long-bytes.ts';
import { runInSteps, type Steps } from '../common/yield-to-event-loop.ts';
import type { BlockTransform, TransformContext } from './transform.ts';

const LABEL = 'cow1 block checksum';
const HASH_BYTES = 32;

/**
 * Appends a SHA-256 of the block's number and bytes, and refuses what does not match it. It finds bytes that were damaged
 * and blocks that were mixed up. It does not stop an attacker, who can compute it too; {@link encryption} does.
 *
 * Stored bytes: `bytes || SHA-256('cow1 block checksum' || block as u64, big-endian || bytes)`.
 *
 * @public
 */
export function checksum(): BlockTransform {
  return {
    name: 'checksum',
    async apply(bytes, context) {
      const hash = await runInSteps(hashing(bytes, context));
      const stored = new Uint8Array(bytes.length + HASH_BYTES);
      stored.set(bytes);
      stored.set(hash, bytes.length);
      return stored;
    },
    async undo(stored, context) {
      const bytes = stored.subarray(0, Math.max(0, stored.length - HASH_BYTES));
      const hash = await runInSteps(hashing(bytes, context));
      if (Buffer.compare(hash, stored.subarray(bytes.length)) === 0) return bytes;
      throw new BackupError('BLOCK_CORRUPT', 'the checksum does not match');
    },
  };
}

function* hashing(bytes: Uint8Array, { block }: TransformContext): Steps<Uint8Array> {
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(BigInt(block));
  const hash = createHash('sha256').update(LABEL).update(number);
  for (const [, piece] of piecesOf(bytes)) {
    hash.update(piece);
    yield;
  }
  return hash.digest();
}
