import type { MappedBlock } from '../map/block-map.ts';
import { readPackBytes } from '../pack/pack-reader.ts';
import { packKey, RecordKind } from '../records/record.ts';
import { openRecord } from '../records/seal.ts';
import type { RecordSource } from '../records/stored-records.ts';

/** Bytes that nobody asked for are read along when that saves a request. */
const MAX_GAP_BYTES = 128 * 1024;
/** The most bytes of one request. */
const MAX_REQUEST_BYTES = 8 * 1024 * 1024;

/** What fetching has cost. */
export interface FetchTally {
  fetchedBytes: number;
  requests: number;
}

/** Neighbouring records of one pack, to be read with one request. */
interface Request {
  readonly first: MappedBlock;
  readonly blocks: MappedBlock[];
  end: number;
}

/**
 * Fetches blocks, those that stand near each other in a pack together, opens them and checks each against its id.
 *
 * @param deliver - gets each block's content, in any order; awaited
 * @throws `PACK_MISSING`, `RECORD_CORRUPT`, and what the target gives
 */
export async function fetchBlocks(
  source: RecordSource,
  wanted: readonly MappedBlock[],
  deliver: (block: number, bytes: Uint8Array) => Promise<void> | void,
  tally: FetchTally,
  signal?: AbortSignal,
): Promise<void> {
  const { target, keys, fanOut } = source;
  for (const { first, blocks, end } of requestsFor(wanted)) {
    const { pack, offset } = first.entry.location;
    const bytes = await readPackBytes(target, pack, offset, end - offset, signal);
    tally.requests++;
    tally.fetchedBytes += bytes.length;
    for (const { block, entry } of blocks) {
      const { codec, rawLength, storedLength } = entry.location;
      const at = entry.location.offset - offset;
      const stored = bytes.subarray(at, at + storedLength);
      const record = { kind: RecordKind.block, id: entry.id, codec, rawLength };
      await deliver(block, openRecord(keys, fanOut, record, stored));
    }
  }
}

/** Cuts what is wanted into requests, in the order of packs and offsets. */
function requestsFor(wanted: readonly MappedBlock[]): Request[] {
  const keyed = wanted.map((mapped) => ({ mapped, key: packKey(mapped.entry.location.pack) }));
  keyed.sort(
    (a, b) =>
      (a.key < b.key ? -1 : Number(a.key > b.key)) || a.mapped.entry.location.offset - b.mapped.entry.location.offset,
  );
  const requests: Request[] = [];
  let lastKey: string | undefined;
  for (const { mapped, key } of keyed) {
    const { offset, storedLength } = mapped.entry.location;
    const last = requests.at(-1);
    const end = offset + storedLength;
    const joins =
      last !== undefined &&
      key === lastKey &&
      offset - last.end <= MAX_GAP_BYTES &&
      end - last.first.entry.location.offset <= MAX_REQUEST_BYTES;
    if (joins) {
      last.blocks.push(mapped);
      last.end = Math.max(last.end, end);
    } else {
      requests.push({ first: mapped, blocks: [mapped], end });
    }
    lastKey = key;
  }
  return requests;
}
