import { optionsArgument } from '../common/arguments.ts';
import { checkLevel, compress, compressOffThread, decompress, decompressOffThread } from '../common/compression.ts';
import { BackupError } from '../common/errors.ts';
import { yieldToEventLoop } from '../common/yield-to-event-loop.ts';
import type { BlockTransform } from './transform.ts';

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
