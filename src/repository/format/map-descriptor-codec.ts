import type { BlockRange } from '../../common/block-range.ts';
import { locationPlain, logCorrupt, logValue } from './decode-values.ts';
import { ID_BYTES } from './derivation.ts';
import { MAX_RUNS, type MapDescriptor, type MapRoot, type RunChunkRef } from './map-descriptor.ts';
import { isPowerOfTwo, MAX_BLOCK_SIZE, MAX_BLOCKS, MAX_CHUNK_ENTRIES, MIN_BLOCK_SIZE } from './map-geometry.ts';
import { plausibleChunkBytes } from './run-chunk.ts';

/**
 * The descriptor of a block map, as a commit entry has it: `docs/FORMAT.md`, section 7. Every number of a descriptor is
 * checked here and nowhere else, except that the level of its root goes with the fan-out.
 */

/** Most entries that all runs of a descriptor have together: a reader keeps them in memory. */
export const MAX_RUN_ENTRIES = 2 ** 20;
/**
 * Most chunks of a run. A writer ends a chunk only where it is full or the run ends, which gives a few dozen: so many are
 * decoded in one step.
 */
export const MAX_RUN_CHUNKS = 1024;
/** Most ranges of lost blocks. */
export const MAX_LOST_RANGES = 65_536;
/** The least fan-out and the most blocks give the highest tree. */
const MAX_LEVEL = 10;

export function encodeDescriptor(descriptor: MapDescriptor): unknown {
  const { size, blockSize, root, runs, lost } = descriptor;
  return {
    size,
    blockSize,
    root: root === undefined ? null : [root.level, root.id, locationPlain(root.location)],
    runs: runs.map((run) =>
      run.map((chunk) => [chunk.id, locationPlain(chunk.location), chunk.firstBlock, chunk.lastBlock, chunk.entries]),
    ),
    lost: lost.map(({ firstBlock, blockCount }) => [firstBlock, blockCount]),
  };
}

/** @throws `LOG_CORRUPT` unless `value` is a descriptor that makes sense in every number */
export function decodeDescriptor(value: unknown): MapDescriptor {
  const fields = logValue.map(value, 'a descriptor');
  const size = logValue.int(fields.size, 'the size of a volume');
  const blockSize = logValue.int(fields.blockSize, 'a block size', MIN_BLOCK_SIZE, MAX_BLOCK_SIZE);
  if (!isPowerOfTwo(blockSize)) throw logCorrupt('a block size is not a power of two');
  const blockCount = Math.ceil(size / blockSize);
  if (blockCount > MAX_BLOCKS) throw logCorrupt('a descriptor has more blocks than there can be');
  const root = logValue.optional(fields.root, decodeRoot);
  if (root !== undefined && blockCount === 0) throw logCorrupt('a descriptor without blocks has a tree');
  return {
    size,
    blockSize,
    root,
    runs: decodeRuns(fields.runs, blockCount),
    lost: decodeLost(fields.lost, blockCount),
  };
}

function decodeRoot(value: unknown): MapRoot {
  const [level, id, location] = logValue.tuple(value, 3, 'the root of a map');
  return {
    level: logValue.int(level, 'the level of a root', 0, MAX_LEVEL),
    id: logValue.bytes(id, "a root's id", ID_BYTES),
    location: logValue.location(location, 'a root'),
  };
}

function decodeRuns(value: unknown, blockCount: number): RunChunkRef[][] {
  let entries = 0;
  const runOf = (run: unknown): RunChunkRef[] => {
    let next = 0;
    const chunkOf = (chunk: unknown) => {
      const decoded = decodeChunk(chunk, next, blockCount);
      next = decoded.lastBlock + 1;
      entries += decoded.entries;
      if (entries > MAX_RUN_ENTRIES) throw logCorrupt('a map has more run entries than a reader may be asked to keep');
      return decoded;
    };
    const chunks = logValue.list(run, 'a run', chunkOf, MAX_RUN_CHUNKS);
    if (chunks.length === 0) throw logCorrupt('a run is empty');
    return chunks;
  };
  return logValue.list(value, 'the list of runs', runOf, MAX_RUNS);
}

function decodeChunk(value: unknown, from: number, blockCount: number): RunChunkRef {
  const [chunkId, at, first, last, count] = logValue.tuple(value, 5, 'a run chunk');
  const firstBlock = logValue.int(first, 'the first block of a run chunk', from, blockCount - 1);
  const lastBlock = logValue.int(last, 'the last block of a run chunk', firstBlock, blockCount - 1);
  const most = Math.min(MAX_CHUNK_ENTRIES, lastBlock - firstBlock + 1);
  const entries = logValue.int(count, 'the entries of a run chunk', Math.min(2, lastBlock - firstBlock + 1), most);
  const location = logValue.location(at, 'a run chunk');
  if (!plausibleChunkBytes(entries, location.rawLength)) throw logCorrupt('no run chunk has the length of this one');
  return { id: logValue.bytes(chunkId, "a run chunk's id", ID_BYTES), location, firstBlock, lastBlock, entries };
}

function decodeLost(value: unknown, blockCount: number): BlockRange[] {
  let next = 0;
  const rangeOf = (range: unknown) => {
    const [first, count] = logValue.tuple(range, 2, 'a lost range');
    const firstBlock = logValue.int(first, 'the first block of a lost range', next, blockCount - 1);
    const lostCount = logValue.int(count, 'the length of a lost range', 1, blockCount - firstBlock);
    next = firstBlock + lostCount + 1; // Two ranges that touch would be one.
    return { firstBlock, blockCount: lostCount };
  };
  return logValue.list(value, 'the list of lost ranges', rangeOf, MAX_LOST_RANGES);
}
