import { promisify } from 'node:util';
import { constants, type Zlib, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { integerArgument } from './arguments.ts';
import { isArrayBuffer } from './realms.ts';

/** Fast: at higher levels a full backup is bound by the processor rather than by what reads and sends. */
export const DEFAULT_LEVEL = 1;

/**
 * The largest window that a frame may ask for, as a power of two: no record is longer than 16 MiB. Without a limit
 * a few bytes of a stranger's make the decoder allocate 128 MiB.
 */
const MAX_WINDOW_LOG = 24;
const MIN_CHUNK_BYTES = 64;

/** @throws TypeError unless it is a zstd level: from -7 (fastest) to 22 */
export function checkLevel(level: number = DEFAULT_LEVEL): number {
  return integerArgument('level', level, -7, 22);
}

/** The most bytes that a frame of so many takes: ZSTD_compressBound. */
export function compressBound(rawLength: number): number {
  return Math.max(
    MIN_CHUNK_BYTES,
    rawLength + (rawLength >>> 8) + (rawLength < 2 ** 17 ? (2 ** 17 - rawLength) >>> 11 : 0),
  );
}

/** One zstd frame in memory of its own, of `compressBound` bytes; `undefined` when it would not be smaller. */
export function compress(raw: Uint8Array, level: number): Uint8Array | undefined {
  if (raw.length === 0) return undefined;
  return smaller(zstdCompressSync(raw, compressing(raw.length, level)), raw.length);
}

/** As {@link compress}, off the event loop: for what is long. `raw` must not change meanwhile. */
export async function compressOffThread(raw: Uint8Array, level: number): Promise<Uint8Array | undefined> {
  if (raw.length === 0) return undefined;
  return smaller(await promisify(zstdCompress)(raw, compressing(raw.length, level)), raw.length);
}

function compressing(rawLength: number, level: number) {
  return {
    pledgedSrcSize: rawLength, // Fits the tables to the input, and lets readers see the length in the frame.
    chunkSize: compressBound(rawLength), // One output buffer, not a list of them to be joined.
    params: { [constants.ZSTD_c_compressionLevel]: level },
  };
}

function smaller(frame: Buffer, rawLength: number): Uint8Array | undefined {
  if (frame.length < rawLength) return frame;
  releaseBuffer(frame, compressBound(rawLength));
  return undefined;
}

/** What the frame holds. Throws when that is not exactly `rawLength` bytes, or when something follows the frame. */
export function decompress(frame: Uint8Array, rawLength: number): Uint8Array {
  // The types don't know what `info` does.
  return checked(zstdDecompressSync(frame, decompressing(rawLength)) as unknown as Decompressed, frame, rawLength);
}

/** As {@link decompress}, off the event loop: for what is long. `frame` must not change meanwhile. */
export async function decompressOffThread(frame: Uint8Array, rawLength: number): Promise<Uint8Array> {
  const done = await promisify(zstdDecompress)(frame, decompressing(rawLength));
  return checked(done as unknown as Decompressed, frame, rawLength);
}

interface Decompressed {
  readonly buffer: Buffer;
  readonly engine: Zlib;
}

function decompressing(rawLength: number) {
  return {
    maxOutputLength: Math.max(1, rawLength),
    chunkSize: Math.max(MIN_CHUNK_BYTES, rawLength + 1), // One more, so that the end is seen without a second buffer.
    params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG },
    info: true,
  };
}

function checked({ buffer, engine }: Decompressed, frame: Uint8Array, rawLength: number): Uint8Array {
  if (buffer.length !== rawLength) throw new RangeError('another length than expected');
  if (engine.bytesWritten !== frame.length) throw new RangeError('something follows the compressed frame');
  return buffer;
}

/**
 * Gives back the memory of a buffer that has no other user. Left to the garbage collector, the buffers of the blocks
 * that a thread seals come to some hundred megabytes before it looks at them.
 *
 * @param allocatedBytes - what was asked for when it was made: less than half of Node's pool comes out of the pool, which
 * others use
 */
export function releaseBuffer(bytes: Uint8Array | undefined, allocatedBytes: number): void {
  if (bytes === undefined || allocatedBytes < Buffer.poolSize >>> 1) return;
  if (isArrayBuffer(bytes.buffer)) bytes.buffer.transfer(0);
}
