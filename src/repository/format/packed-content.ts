import { compressOffThread, decompressOffThread } from '../../common/compression.ts';
import { logCorrupt } from './decode-values.ts';
import { Codec } from './record.ts';

/** The bodies of checkpoints and pages: a codec, the length of the content, and the content: `docs/FORMAT.md`, section 9. */

/** The most bytes that each compressed byte may give beyond the first 64 KiB: a few KB must not become 64 MiB. */
const MAX_RATIO = 128;
export const CONTENT_HEAD_BYTES = 5;
/** Backups of one volume have most runs in common, and names of fields repeat: it pays to look a bit further. */
const LEVEL = 3;

/** The body. @param isTaken - whether the frame may be used; else the content is stored as it is */
export async function compressedContent(
  raw: Uint8Array,
  isTaken: (frame: Uint8Array) => boolean = () => true,
): Promise<Uint8Array<ArrayBuffer>> {
  const compressed = await compressOffThread(raw, LEVEL);
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
  if (body.length < CONTENT_HEAD_BYTES) throw logCorrupt(`${what} is cut short`);
  const length = new DataView(body.buffer, body.byteOffset).getUint32(1, true);
  const content = body.subarray(CONTENT_HEAD_BYTES);
  if (length > mostBytes) throw logCorrupt(`${what} is larger than it may be`);
  if (body[0] === Codec.raw && content.length === length) return content;
  if (body[0] !== Codec.zstd || content.length >= length || length > longestOf(content)) {
    throw logCorrupt(`the head of ${what} is wrong`);
  }
  try {
    return await decompressOffThread(content, length);
  } catch (cause) {
    throw logCorrupt(`${what} does not decompress`, cause);
  }
}

/** The longest content that a frame may hold. */
function longestOf(frame: Uint8Array): number {
  return 65_536 + MAX_RATIO * frame.length;
}
