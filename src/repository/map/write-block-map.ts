import type { BlockRange } from '../../common/block-range.ts';
import { BackupError } from '../../common/errors.ts';
import type { MapDescriptor, RunChunkRef } from '../format/map-descriptor.ts';
import { MAX_LOST_RANGES } from '../format/map-descriptor-codec.ts';
import { MapGeometry } from '../format/map-geometry.ts';
import type { Location, RecordIds, RecordWriter } from '../format/record.ts';
import type { SortedEntries } from '../format/run-chunk.ts';
import type { BlockMap } from './block-map.ts';
import { type Change, ChangeBuffer, ChangeStream } from './changes.ts';
import { Overlay } from './overlay.ts';
import { decideRun, maxRunEntries, writeRun } from './runs.ts';
import { foldTree } from './tree-fold.ts';

export interface WriteBlockMapOptions {
  /** The map of the pinned base: what doesn't change is shared with it. */
  readonly previous?: BlockMap | undefined;
  /** Bytes of the volume. */
  readonly size: number;
  readonly blockSize: number;
  readonly fanOut: number;
  /**
   * Ascending by block; `undefined` for a block of zeroes. Without a base: all blocks that have content. With one: what
   * differs from it, and the last block if its length does. The bytes of
   * ids must not change afterwards.
   */
  readonly changes: AsyncIterable<Change> | Iterable<Change>;
  /** Blocks whose content could not be kept, in addition to those that the base lost and no change brings back. */
  readonly lost?: readonly BlockRange[] | undefined;
  readonly writer: RecordWriter;
  readonly ids: RecordIds;
  /** Whether a record of the base is in memory, so that reading it takes no request. @defaultValue all are */
  readonly isInMemory?: ((location: Location) => boolean) | undefined;
  /** Fold the runs and the changes into the tree, however few they are. @defaultValue false */
  readonly fold?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

type Parts = Pick<MapDescriptor, 'root' | 'runs'>;

const BATCH = 4096;

/**
 * Writes the map of a backup. Without a base it is a tree, built in one pass. With one it is a run of the changes, several
 * runs merged, or the tree with everything folded into it, as the limits and the bytes to write decide. The same arguments
 * write the same records in the same order.
 *
 * @throws `TypeError` for impossible changes, `LIMIT_EXCEEDED` for more ranges of lost blocks than a descriptor holds, what
 * reading the base's map throws, and what the writer throws
 */
export async function writeBlockMap(options: WriteBlockMapOptions): Promise<MapDescriptor> {
  const { size, blockSize, fanOut, previous } = options;
  const geometry = new MapGeometry(size, blockSize, fanOut);
  if (previous !== undefined && (previous.geometry.blockSize !== blockSize || previous.geometry.fanOut !== fanOut)) {
    throw new TypeError('a map shares with its base only if both have one block size and one fan-out');
  }
  const resized = resizedBlock(previous?.geometry, geometry);
  const stream = new ChangeStream(options.changes, geometry, options.lost ?? [], previous?.descriptor.lost, resized);
  try {
    const { root, runs } =
      previous === undefined
        ? { root: await fold(options, geometry, batchesOf(stream)), runs: [] }
        : await update(options, previous, geometry, stream, resized >= 0);
    if (resized >= 0 && !stream.sawWatched && (await previous?.lookup(resized, 1, options))?.entries[0] !== undefined) {
      throw new TypeError(`block ${resized} has another length than in the base, so it must be among the changes`);
    }
    const lost = stream.lost();
    if (lost.length > MAX_LOST_RANGES)
      throw new BackupError(
        'LIMIT_EXCEEDED',
        `the backup has lost blocks in ${lost.length} separate ranges, and at most ${MAX_LOST_RANGES} can be recorded`,
      );
    return { size, blockSize, root, runs, lost };
  } finally {
    await stream.close();
  }
}

/** The block that both volumes have but not in the same length; -1 if there is none. */
function resizedBlock(before: MapGeometry | undefined, now: MapGeometry): number {
  if (before === undefined) return -1;
  const last = Math.min(before.blockCount, now.blockCount) - 1;
  return last >= 0 && before.blockLength(last) !== now.blockLength(last) ? last : -1;
}

async function update(
  options: WriteBlockMapOptions,
  previous: BlockMap,
  geometry: MapGeometry,
  stream: ChangeStream,
  isResized: boolean,
): Promise<Parts> {
  const { root, runs } = previous.descriptor;
  const buffer = new ChangeBuffer(geometry);
  // Runs end where the volume ends, and a tree is as high as its volume needs: reshaping is the fold's work. So is a block
  // that has another length now: a reader checks the entries of a leaf or run by the lengths of its own volume, and would
  // refuse one that still has the old entry, although a newer run hides it.
  const reshaped =
    isResized ||
    geometry.blockCount < previous.geometry.blockCount ||
    geometry.rootLevel !== previous.geometry.rootLevel;
  if (!reshaped && options.fold !== true) {
    const sizes = runs.map(entriesOf);
    const room = maxRunEntries(geometry) - sizes.reduce((sum, size) => sum + size, 0);
    const complete = await fill(buffer, stream, room, options.signal);
    if (complete && buffer.count === 0) return { root, runs };
    // The base's runs are read only if the decision depends on them: a small backup takes no request for its map.
    const load = async (newest?: number) => Overlay.of([[buffer], ...(await previous.newestRuns(newest, options))]);
    const decision = complete && (await decideRun(geometry, buffer, sizes, load, warmRuns(runs, options)));
    if (decision && decision.kind === 'run') {
      const { newest } = decision;
      const entries = newest === 0 ? buffer : await load(newest);
      return { root, runs: [await writeRun(entries, options.writer, options.ids), ...runs.slice(newest)] };
    }
  }
  const { overlay } = await previous.runs(options);
  const changes = merged(batchesOf(stream, buffer), overlay, geometry.blockCount);
  return { root: await fold(options, geometry, changes), runs: [] };
}

/** How many of the newest runs are in memory. */
function warmRuns(runs: MapDescriptor['runs'], { isInMemory = () => true }: WriteBlockMapOptions): number {
  const cold = runs.findIndex((run) => !run.every(({ location }) => isInMemory(location)));
  return cold < 0 ? runs.length : cold;
}

function fold(
  { previous, writer, ids, signal }: WriteBlockMapOptions,
  geometry: MapGeometry,
  batches: AsyncIterable<readonly Change[]>,
): Promise<MapDescriptor['root']> {
  return foldTree(batches, { geometry, previous: previous?.tree, writer, ids, signal });
}

/** Reads changes until there are more than `most`. @returns whether these are all */
async function fill(buffer: ChangeBuffer, stream: ChangeStream, most: number, signal: AbortSignal | undefined) {
  while (buffer.count <= most) {
    signal?.throwIfAborted();
    const batch = await stream.next();
    if (batch.length === 0) return true;
    for (const change of batch) buffer.add(change);
  }
  return false;
}

/** The changes that were read from the stream before, and the rest of it. */
async function* batchesOf(stream: ChangeStream, before?: SortedEntries): AsyncGenerator<readonly Change[]> {
  if (before !== undefined) yield* slices(before, 0, Number.POSITIVE_INFINITY);
  for (let batch = await stream.next(); batch.length > 0; batch = await stream.next()) yield batch;
}

/** Changes over the base's runs, without entries past the end of the volume. */
async function* merged(
  batches: AsyncIterable<readonly Change[]>,
  overlay: Overlay,
  blockCount: number,
): AsyncGenerator<readonly Change[]> {
  let at = 0;
  const out: Change[] = [];
  for await (const batch of batches) {
    for (const change of batch) {
      for (; at < overlay.count && overlay.block(at) <= change[0]; at++) {
        if (overlay.block(at) < change[0]) out.push([overlay.block(at), overlay.entry(at)]);
        if (out.length >= BATCH) yield out.splice(0);
      }
      out.push(change);
      if (out.length >= BATCH) yield out.splice(0);
    }
  }
  yield out;
  yield* slices(overlay, at, blockCount);
}

/** Entries from `from` on, of blocks before `end`. */
function* slices(entries: SortedEntries, from: number, end: number): Generator<readonly Change[]> {
  let out: Change[] = [];
  for (let at = from; at < entries.count && entries.block(at) < end; at++) {
    out.push([entries.block(at), entries.entry(at)]);
    if (out.length >= BATCH) {
      yield out;
      out = [];
    }
  }
  yield out;
}

function entriesOf(run: readonly RunChunkRef[]): number {
  return run.reduce((sum, chunk) => sum + chunk.entries, 0);
}
