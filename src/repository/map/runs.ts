import type { AbortOptions } from '../../common/abort.ts';
import { ownBytes } from '../../common/bytes.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { ENTRIES_AT_ONCE, runInSteps, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { EntryColumns } from '../format/entry-columns.ts';
import type { BlockEntry, RunChunkRef } from '../format/map-descriptor.ts';
import { MAX_CHUNK_ENTRIES, type MapGeometry } from '../format/map-geometry.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, type RecordIds, RecordKind, type RecordWriter } from '../format/record.ts';
import { mapCorrupt } from '../format/record-parts.ts';
import { chunkHasRoom, encodingRunChunk, RunChunk, type SortedEntries } from '../format/run-chunk.ts';
import type { RecordSource } from './map-tree.ts';

/** Reading and writing whole runs. */

const CHUNKS_AT_A_TIME = 8;

/** @throws `MAP_CORRUPT`, and what the reader of records throws */
export async function loadRuns(
  runs: readonly (readonly RunChunkRef[])[],
  geometry: MapGeometry,
  source: RecordSource,
  options: AbortOptions = {},
): Promise<RunChunk[][]> {
  const loaded: RunChunk[][] = runs.map(() => []);
  const chunks = runs.flatMap((run, index) => run.map((ref) => ({ ref, index })));
  const load = async ({ ref, index }: { ref: RunChunkRef; index: number }) => ({
    index,
    chunk: await loadChunk(ref, geometry, source, options),
  });
  for await (const { index, chunk } of mapConcurrently(chunks, load, CHUNKS_AT_A_TIME)) loaded[index]!.push(chunk);
  return loaded;
}

/** @throws as {@link loadRuns} */
export async function loadChunk(
  ref: RunChunkRef,
  geometry: MapGeometry,
  { records, ids }: RecordSource,
  { signal }: AbortOptions = {},
): Promise<RunChunk> {
  const raw = ownBytes(await records.read(RecordKind.runChunk, ref.id, ref.location, { signal }));
  if (raw.length !== ref.location.rawLength) throw mapCorrupt('a run chunk has not its length');
  await yieldToEventLoop();
  const chunk = new RunChunk(raw, ref, geometry);
  await yieldToEventLoop();
  const found = ids.recordId(RecordKind.runChunk, raw.subarray(0, chunk.identityLength));
  if (Buffer.compare(found, ref.id) !== 0) throw mapCorrupt('a run chunk is not what its id says');
  return chunk;
}

/** Stores entries as a run of as few chunks as their limits allow. */
export async function writeRun(entries: SortedEntries, writer: RecordWriter, ids: RecordIds): Promise<RunChunkRef[]> {
  const run: RunChunkRef[] = [];
  for (let from = 0; from < entries.count; ) {
    const blocks = new Uint32Array(Math.min(MAX_CHUNK_ENTRIES, entries.count - from));
    const columns = new EntryColumns(blocks.length);
    const packs = new Set<string>();
    let last: BlockEntry['location']['pack'] | undefined;
    let count = 0;
    for (; from + count < entries.count && chunkHasRoom(count, packs.size); count++) {
      const entry = entries.entry(from + count);
      blocks[count] = entries.block(from + count);
      columns.set(count, entry);
      if (entry !== undefined && entry.location.pack !== last) {
        last = entry.location.pack;
        packs.add(packKey(last));
      }
      if (count % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
    }
    const { raw, identityLength } = await runInSteps(encodingRunChunk(blocks, columns, count));
    await yieldToEventLoop();
    const id = ids.recordId(RecordKind.runChunk, raw.subarray(0, identityLength));
    const firstBlock = blocks[0] as number;
    const location: Location = await writer.write(RecordKind.runChunk, id, raw, firstBlock);
    run.push({ id, location, firstBlock, lastBlock: blocks[count - 1] as number, entries: count });
    from += count;
  }
  return run;
}
