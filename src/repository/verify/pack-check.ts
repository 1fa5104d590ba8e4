import { createHash } from 'node:crypto';
import { BackupError, isDamage } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { PackRecord } from '../format/log-entry.ts';
import { packKey } from '../format/object-keys.ts';
import { type FooterRow, packHead } from '../format/pack-footer.ts';
import type { PackName } from '../format/record.ts';
import { readPackBytes, readPackFooter } from '../packs/pack-reader.ts';
import { openRecord } from '../packs/record-sealing.ts';

/** Which records of a pack are damaged. */
export interface BadRecords {
  /** All of them. */
  readonly isMissing?: boolean | undefined;
  /** Those that end after so many bytes: what there is of the pack. */
  readonly end?: number | undefined;
  /** Those that begin there. */
  readonly offsets?: Iterable<number> | undefined;
  /** Perhaps others too: only reading each one tells. */
  readonly areUnsure?: boolean | undefined;
}

export interface Damage extends BadRecords {
  readonly pack: PackName;
  readonly error: BackupError;
}

/** A pack as it should be, as far as that is known. */
export interface ExpectedPack {
  readonly pack: PackName;
  /** What a listing showed. */
  readonly listedBytes: number;
  readonly logged: Pick<PackRecord, 'size' | 'sha256'> | undefined;
}

const CHUNK_BYTES = 4 * 1024 * 1024;
/** Beside the one that is looked at. */
const CHUNKS_AHEAD = 2;

/**
 * Downloads a pack in pieces and checks all of it: its SHA-256 against the log's, its footer, and every record against its id.
 *
 * @param onBytes - told of every piece
 * @returns what is wrong, `undefined` when nothing is
 * @throws what the target gives, where that says nothing of the pack
 */
export async function checkPack(
  context: RepositoryContext,
  target: CloudTarget,
  expected: ExpectedPack,
  options: { readonly signal: AbortSignal | undefined; readonly onBytes: (bytes: number) => void },
): Promise<Damage | undefined> {
  const { pack, listedBytes, logged } = expected;
  const fault = lengthFault(expected);
  if (fault !== undefined) return { ...fault, areUnsure: true };
  const { signal } = options;
  try {
    const rows = await readPackFooter(target, pack, listedBytes, context.keys.footerKey, signal);
    const bad = new Set<number>();
    let firstError: BackupError | undefined;
    const note = (error: BackupError, offset?: number) => {
      firstError ??= error;
      if (offset !== undefined) bad.add(offset);
    };
    const hash = createHash('sha256');
    const read = async (chunk: Chunk) => ({
      ...chunk,
      bytes: await readPackBytes(target, pack, chunk.start, chunk.end - chunk.start, signal),
    });
    for await (const { start, bytes, rows: inChunk } of mapConcurrently(
      chunksOf(rows, listedBytes),
      read,
      CHUNKS_AHEAD,
    )) {
      signal?.throwIfAborted();
      hash.update(bytes);
      if (start === 0 && Buffer.compare(bytes.subarray(0, packHead().length), packHead()) !== 0) {
        note(corrupt(pack, 'it does not begin as a pack does'));
      }
      for (const row of inChunk) {
        await yieldToEventLoop();
        const stored = bytes.subarray(row.offset - start, row.offset - start + row.storedLength);
        const error = recordFault(context, row, stored);
        if (error !== undefined) note(error, row.offset);
      }
      options.onBytes(bytes.length);
    }
    // Perhaps all of it is another pack, sound in itself.
    const isAnother = logged !== undefined && Buffer.compare(hash.digest(), logged.sha256) !== 0;
    if (isAnother) note(corrupt(pack, 'its bytes are not those that were stored'));
    return firstError && { pack, error: firstError, offsets: bad, areUnsure: isAnother };
  } catch (error) {
    if (!isDamage(error)) throw error;
    const isMissing = BackupError.is(error.cause, 'OBJECT_NOT_FOUND');
    return { pack, error, isMissing, areUnsure: !isMissing };
  }
}

/** What the length of an object says. */
export function lengthFault({ pack, listedBytes, logged }: ExpectedPack): Damage | undefined {
  if (logged === undefined || logged.size === listedBytes) return undefined;
  const how = `it has ${listedBytes} bytes, and ${logged.size} were stored`;
  return { pack, error: corrupt(pack, how), end: listedBytes };
}

function recordFault({ keys, format }: RepositoryContext, row: FooterRow, stored: Uint8Array): BackupError | undefined {
  try {
    openRecord(keys, format.fanOut, row, stored);
    return undefined;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return error;
  }
}

export function corrupt(pack: PackName, how: string): BackupError {
  return new BackupError('PACK_CORRUPT', `${packKey(pack)} is damaged: ${how}`);
}

interface Chunk {
  readonly start: number;
  readonly end: number;
  readonly rows: readonly FooterRow[];
}

/** Pieces that together are all of a pack, each of whole records. */
function* chunksOf(rows: readonly FooterRow[], packBytes: number): Generator<Chunk> {
  let start = 0;
  let end = packHead().length;
  let inChunk: FooterRow[] = [];
  for (const row of rows) {
    const rowEnd = row.offset + row.storedLength;
    if (inChunk.length > 0 && rowEnd - start > CHUNK_BYTES) {
      yield { start, end, rows: inChunk };
      start = end;
      inChunk = [];
    }
    inChunk.push(row);
    end = rowEnd;
  }
  yield { start, end, rows: inChunk };
  yield { start: end, end: packBytes, rows: [] };
}
