import type { AbortOptions } from '../../common/abort.ts';
import { ownBytes } from '../../common/bytes.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { ENTRIES_AT_ONCE, runInSteps, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { EntryColumns } from '../format/entry-columns.ts';
import { type BlockEntry, MAX_RUNS, type RunChunkRef } from '../format/map-descriptor.ts';
import { MAX_RUN_ENTRIES } from '../format/map-descriptor-codec.ts';
import { MAX_CHUNK_ENTRIES, type MapGeometry } from '../format/map-geometry.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, type RecordIds, RecordKind, type RecordWriter } from '../format/record.ts';
import { mapCorrupt } from '../format/record-parts.ts';
import { chunkHasRoom, encodingRunChunk, RunChunk, type SortedEntries } from '../format/run-chunk.ts';
import type { RecordSource } from './map-tree.ts';

/** Reading and writing whole runs, and deciding when a map gets another one. */

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

/** What becomes of a backup's changes. */
export type RunDecision =
  | { readonly kind: 'fold' }
  /** A run of the changes and of the `newest` runs before. */
  | { readonly kind: 'run'; readonly newest: number };

const FOLD: RunDecision = { kind: 'fold' };
/** From this many runs on, runs that are in memory are merged. Others are merged only if a map can have no further run. */
const WARM_RUNS = 6;
/** Runs are loaded whole when a backup is opened: they stay a small part of the tree. */
const PART_OF_TREE = 16;
/** About how many bytes an entry and a child take in a record. */
const ENTRY_BYTES = 46.2;
const LEAF_SLOT_BYTES = 42.2;
const CHILD_BYTES = 54;
const RECORD_BYTES = 64;

/** The most entries that the runs of a map may have together before they are folded into its tree. */
export function maxRunEntries(geometry: MapGeometry): number {
  return Math.min(MAX_RUN_ENTRIES, Math.floor(geometry.blockCount / PART_OF_TREE));
}

/**
 * Decides between a run and a fold.
 *
 * @param changes - what the backup changed
 * @param runSizes - entries of the base's runs, newest first
 * @param all - the changes over all runs of the base: what a fold would put into the tree
 * @param warm - how many of the newest runs are in memory. Reading each of the others takes a request, so they
 * are merged as late as possible
 */
export async function decideRun(
  geometry: MapGeometry,
  changes: SortedEntries,
  runSizes: readonly number[],
  all: () => Promise<SortedEntries>,
  warm = runSizes.length,
): Promise<RunDecision> {
  const total = runSizes.reduce((sum, size) => sum + size, changes.count);
  if (total > maxRunEntries(geometry)) return FOLD;
  const newest = newestToMerge([changes.count, ...runSizes], warm);
  let merged = changes.count;
  for (const size of runSizes.slice(0, newest)) merged += size;
  const mayLook = warm === runSizes.length || newest > warm;
  if (mayLook && (await foldIsNoLarger(geometry, runBytes(merged), all))) return FOLD;
  return { kind: 'run', newest };
}

/** @param sizes - of the changes, and of the runs, newest first */
function newestToMerge(sizes: readonly number[], warm: number): number {
  const runs = sizes.length - 1;
  if (runs < WARM_RUNS) return 0;
  const wanted = runsToMerge(sizes) - 1;
  if (wanted <= warm || warm > 0) return Math.min(wanted, warm);
  return runs < MAX_RUNS ? 0 : wanted;
}

/**
 * How many of the newest runs to merge into one: as few as together are no larger than the next older run, otherwise all. Merging
 * all of them every time would rewrite each entry some sixty times over a thousand equal backups; this does five times.
 */
export function runsToMerge(sizes: readonly number[]): number {
  let sum = sizes[0] ?? 0;
  for (let count = 2; count < sizes.length; count++) {
    sum += sizes[count - 1] as number;
    if (sum <= (sizes[count] as number)) return count;
  }
  return sizes.length;
}

function runBytes(entries: number): number {
  return entries * ENTRY_BYTES + RECORD_BYTES * Math.max(1, Math.ceil(entries / MAX_CHUNK_ENTRIES));
}

/** Whether rewriting the touched leaves and their ancestors writes no more than `bytes`: then it leaves no run behind. */
async function foldIsNoLarger(
  geometry: MapGeometry,
  bytes: number,
  all: () => Promise<SortedEntries>,
): Promise<boolean> {
  const { fanOut, rootLevel, blockCount } = geometry;
  const leafBytes = Math.min(fanOut, blockCount) * LEAF_SLOT_BYTES + RECORD_BYTES;
  if (bytes < leafBytes) return false;
  const entries = await all();
  let foldBytes = 0;
  const last = new Array(rootLevel + 1).fill(-1);
  for (let i = 0; i < entries.count; i++) {
    let index = Math.floor(entries.block(i) / fanOut);
    for (let level = 0; level <= rootLevel && last[level] !== index; level++) {
      last[level] = index;
      foldBytes += level === 0 ? leafBytes : geometry.slots(level, index) * CHILD_BYTES + RECORD_BYTES;
      index = Math.floor(index / fanOut);
    }
    if (i % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
    if (foldBytes > bytes) return false;
  }
  return true;
}
