import { createHash } from 'node:crypto';
import { opening, sealing } from '../common/aead.ts';
import { bytesArgument, optionsArgument, textArgument } from '../common/arguments.ts';
import { isZero } from '../common/bytes.ts';
import { checkLevel, compress, compressOffThread, decompress, decompressOffThread } from '../common/compression.ts';
import { BackupError } from '../common/errors.ts';
import { piecesOf } from '../common/long-bytes.ts';
import { runInSteps, type Steps, yieldToEventLoop } from '../common/yield-to-event-loop.ts';
import type { BlockTransform, TransformContext } from './transform.ts';

/* The transforms that this library has: compression, encryption and checksum. */

/** Options of {@link compression}. @public */
export interface CompressionOptions {
  /** The level of zstd, from -7 (fastest) to 22 (smallest). @defaultValue 1 */
  level?: number | undefined;
}

const HEAD_BYTES = 4;
const RAW = 0;
/** Shorter blocks are compressed on this thread: handing them over would take longer. */
const OFF_THREAD_BYTES = 32 * 1024;
/** Above this level even a short block takes up to a millisecond. */
const LAST_QUICK_LEVEL = 9;

/**
 * Compresses the bytes of each block with zstd. Bytes that would not become smaller are stored as they are.
 *
 * Stored bytes: the length before compression as u32, little-endian, and one zstd frame; for bytes that are stored as they
 * are, 0 instead of the length, and the bytes. Undoing it refuses to make more than twice the bytes of the block and 64
 * KiB.
 *
 * @public
 */
export function compression(options: CompressionOptions = {}): BlockTransform {
  const level = checkLevel(optionsArgument('options', options, { level: true }).level);
  return {
    name: 'compression',
    async apply(bytes) {
      const isQuick = bytes.length < OFF_THREAD_BYTES && level <= LAST_QUICK_LEVEL;
      if (isQuick) await yieldToEventLoop();
      const frame = isQuick ? compress(bytes, level) : await compressOffThread(bytes, level);
      const content = frame ?? bytes;
      const stored = new Uint8Array(HEAD_BYTES + content.length);
      new DataView(stored.buffer).setUint32(0, frame === undefined ? RAW : bytes.length, true);
      stored.set(content, HEAD_BYTES);
      return stored;
    },
    async undo(stored, { blockBytes }) {
      if (stored.length < HEAD_BYTES)
        throw new BackupError('BLOCK_CORRUPT', 'the bytes are too short for a compressed block');
      const content = stored.subarray(HEAD_BYTES);
      const length = new DataView(stored.buffer, stored.byteOffset).getUint32(0, true);
      if (length === RAW) return content;
      // Otherwise a few bytes from an attacker could claim gigabytes of memory.
      if (length > 2 * blockBytes + 64 * 1024)
        throw new BackupError('BLOCK_CORRUPT', `a block of ${blockBytes} bytes claims to hold ${length}`);
      await yieldToEventLoop();
      try {
        return length < OFF_THREAD_BYTES ? decompress(content, length) : await decompressOffThread(content, length);
      } catch (cause) {
        throw new BackupError('BLOCK_CORRUPT', 'the bytes are not a zstd frame of the length that they claim', {
          cause,
        });
      }
    },
  };
}

/** Options of {@link encryption}. @public */
export interface EncryptionOptions {
  /**
   * What each block is bound to beside its number, such as the name of the volume: a block can be decrypted with the same
   * text only.
   *
   * @defaultValue `''`
   */
  context?: string | undefined;
}

const KEY_BYTES = 32;

/**
 * Encrypts each block with AES-256-GCM under a key of the host's, bound to the number of the block. Without the key nobody
 * can read a block, change it unnoticed, or put it in the place of another one. An older version of the same block is not
 * recognized: if each run stores all blocks, a `context` for each run binds its blocks together.
 *
 * Stored bytes: `nonce (12) || ciphertext || tag (16)`. The additional data is the number of the block as u64, big-endian,
 * and the context in UTF-8. The nonce is a keyed hash of random bytes and of the content, so that two copies of one process
 * memory never encrypt two texts with one nonce. One key is good for 2^32 blocks (NIST SP 800-38D, 8.3).
 *
 * @param key - 32 bytes, not all zeroes; they are copied
 * @throws TypeError for wrong arguments
 * @public
 */
export function encryption(key: Uint8Array, options: EncryptionOptions = {}): BlockTransform {
  // Before anything quotes it: a string is a passphrase, or a key in hex or base64.
  if (typeof key === 'string' || bytesArgument('key', key).length !== KEY_BYTES || isZero(key))
    throw new TypeError(`key must be a Uint8Array of ${KEY_BYTES} bytes that are not all zeroes`);
  const { context = '' } = optionsArgument('options', options, { context: true });
  if (context !== '') textArgument('options.context', context);
  const secret = Uint8Array.from(key);
  return {
    name: 'encryption',
    apply: (bytes, { block }) => runInSteps(sealing(secret, boundTo(block, context), bytes)),
    async undo(stored, { block }) {
      const bytes = await runInSteps(opening(secret, boundTo(block, context), stored));
      if (bytes !== undefined) return bytes;
      throw new BackupError('BLOCK_CORRUPT', 'its bytes were not encrypted for this block with this key and context');
    },
  };
}

function boundTo(block: number, context: string): Uint8Array {
  const aad = Buffer.alloc(8 + Buffer.byteLength(context));
  aad.writeBigUInt64BE(BigInt(block));
  aad.write(context, 8);
  return aad;
}

const CHECKSUM_LABEL = 'cow1 block checksum';
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
  const hash = createHash('sha256').update(CHECKSUM_LABEL).update(number);
  for (const [, piece] of piecesOf(bytes)) {
    hash.update(piece);
    yield;
  }
  return hash.digest();
}
