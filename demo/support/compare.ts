import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

const CHUNK_BYTES = 4 * 1024 * 1024;

/** The result of comparing two files. */
export interface Comparison {
  /** The first byte that differs, -1 when the files are equal byte for byte. */
  readonly firstDifference: number;
  /** SHA-256 of the second file up to where it was read, in hex. */
  readonly sha256: string;
}

/** Compares two files byte for byte. */
export async function compareFiles(
  path: string,
  referencePath: string,
  onProgress: (bytes: number) => void,
): Promise<Comparison> {
  await using file = await open(path);
  await using reference = await open(referencePath);
  const hash = createHash('sha256');
  for (let at = 0; ; ) {
    const [mine, theirs] = await Promise.all([chunk(file, at), chunk(reference, at)]);
    hash.update(theirs);
    if (!mine.equals(theirs)) return { firstDifference: at + differenceOf(mine, theirs), sha256: hash.digest('hex') };
    if (mine.length === 0) return { firstDifference: -1, sha256: hash.digest('hex') };
    at += mine.length;
    onProgress(at);
  }
}

/** A file's SHA-256, in hex. */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const bytes of createReadStream(path, { highWaterMark: CHUNK_BYTES })) hash.update(bytes);
  return hash.digest('hex');
}

/** Reads up to {@link CHUNK_BYTES} from `position` on, fewer only at the end of the file. */
async function chunk(file: FileHandle, position: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let length = 0;
  while (length < CHUNK_BYTES) {
    const { bytesRead } = await file.read(buffer, length, CHUNK_BYTES - length, position + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.subarray(0, length);
}

function differenceOf(a: Buffer, b: Buffer): number {
  for (let at = 0; ; at++) if (a[at] !== b[at]) return at;
}
