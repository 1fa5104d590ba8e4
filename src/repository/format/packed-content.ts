import { compress, compressOffThread, decompress, decompressOffThread } from '../../common/compression.ts';
import { logCorrupt } from './decode-values.ts';
import { Codec } from './record.ts';

/** The bodies of entries, checkpoints and pages: a codec, the length of the content, and the content: `docs/FORMAT.md`, section 9. */

/** The most bytes that each compressed byte may give beyond the first 64 KiB: a few KB must not become 64 MiB. */
const MAX_RATIO = 128;
export const CONTENT_HEAD_BYTES = 5;
/** Longer content takes milliseconds to compress. */
export const AT_ONCE_BYTES = 2 ** 20;
/** Backups of one volume have most runs in common, and names of fields repeat: it pays to look a bit further. */
const LEVEL = 3;

/** The body. @param isTaken - whether the frame may be used; else the content is stored as it is */
export async function compressedContent(
  raw: Uint8Array,
  isTaken?: (frame: Uint8Array) => boolean,
): Promise<Uint8Array<ArrayBuffer>> {
  return bodyOf(raw, await compressOffThread(raw, LEVEL), isTaken);
}

/** As {@link compressedContent}, at once. What is longer than {@link AT_ONCE_BYTES} is stored as it is. */
export function compressContent(raw: Uint8Array): Uint8Array<ArrayBuffer> {
  return bodyOf(raw, raw.length > AT_ONCE_BYTES ? undefined : compress(raw, LEVEL));
}

function bodyOf(
  raw: Uint8Array,
  compressed: Uint8Array | undefined,
  isTaken: (frame: Uint8Array) => boolean = () => true,
): Uint8Array<ArrayBuffer> {
  const isFrame = compressed !== undefined && raw.length <= longestOf(compressed) && isTaken(compressed);
  const content = isFrame ? compressed : raw;
  const body = new Uint8Array(CONTENT_HEAD_BYTES + content.length);
  body[0] = isFrame ? Codec.zstd : Codec.raw;
  new DataView(body.buffer).setUint32(1, raw.length, true);
  body.set(content, CONTENT_HEAD_BYTES);
  return body;
}

/** The content of a body. @throws `LOG_CORRUPT` */
export async function contentOf(body: Uint8Array, what: string, mostBytes: number): Promise<Uint8Array> {
  const { frame, content, length } = partsOf(body, what, mostBytes);
  if (frame === undefined) return content;
  try {
    return await decompressOffThread(frame, length);
  } catch (cause) {
    throw notDecompressed(what, cause);
  }
}

/** As {@link contentOf}, at once, of what {@link compressContent} returns. */
export function readContent(body: Uint8Array, what: string, mostBytes: number): Uint8Array {
  const { frame, content, length } = partsOf(body, what, mostBytes);
  if (frame === undefined) return content;
  if (length > AT_ONCE_BYTES) throw logCorrupt(`${what} is too long to be compressed`);
  try {
    return decompress(frame, length);
  } catch (cause) {
    throw notDecompressed(what, cause);
  }
}

/** The frame is `undefined` if the content is not compressed. */
function partsOf(body: Uint8Array, what: string, mostBytes: number) {
  if (body.length < CONTENT_HEAD_BYTES) throw logCorrupt(`${what} is cut short`);
  const length = new DataView(body.buffer, body.byteOffset).getUint32(1, true);
  const content = body.subarray(CONTENT_HEAD_BYTES);
  if (length > mostBytes) throw logCorrupt(`${what} is larger than it may be`);
  if (body[0] === Codec.raw && content.length === length) return { frame: undefined, content, length };
  if (body[0] !== Codec.zstd || content.length >= length || length > longestOf(content)) {
    throw logCorrupt(`the head of ${what} is wrong`);
  }
  return { frame: content, content, length };
}

function notDecompressed(what: string, cause: unknown): Error {
  return logCorrupt(`${what} does not decompress`, cause);
}

/** The longest content that a frame may hold. */
function longestOf(frame: Uint8Array): number {
  return 65_536 + MAX_RATIO * frame.length;
}
