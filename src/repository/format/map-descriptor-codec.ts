import type { BlockRange } from '../../common/block-range.ts';
import { isBytes } from '../../common/realms.ts';
import { mapCorrupt } from './map-corrupt.ts';
import { MAX_RUNS, type MapDescriptor, type MapRoot, type RunChunkRef } from './map-descriptor.ts';
import { isPowerOfTwo, MAX_BLOCK_SIZE, MAX_BLOCKS, MIN_BLOCK_SIZE } from './map-geometry.ts';
import { placeFault } from './place.ts';
import { type Codec, type Location, MAX_RAW_LENGTH } from './record.ts';
import { MAX_CHUNK_ENTRIES, plausibleChunkBytes } from './run-chunk.ts';

/**
 * Descriptors as the plain values that a commit entry has them as: `docs/FORMAT.md`, section 7. Every number of a
 * descriptor is checked here and nowhere else, except the level of its root, which needs the fan-out.
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
    root: root === undefined ? null : [root.level, root.id, encodeLocation(root.location)],
    runs: runs.map((run) =>
      run.map((chunk) => [chunk.id, encodeLocation(chunk.location), chunk.firstBlock, chunk.lastBlock, chunk.entries]),
    ),
    lost: lost.map(({ firstBlock, blockCount }) => [firstBlock, blockCount]),
  };
}

/** @throws `MAP_CORRUPT` unless `value` is a descriptor that makes sense in every number */
export function decodeDescriptor(value: unknown): MapDescriptor {
  if (typeof value !== 'object' || value === null) throw mapCorrupt('no descriptor');
  const fields = value as Record<string, unknown>;
  const size = integer(fields.size, 0, Number.MAX_SAFE_INTEGER, 'size');
  const blockSize = integer(fields.blockSize, MIN_BLOCK_SIZE, MAX_BLOCK_SIZE, 'block size');
  if (!isPowerOfTwo(blockSize)) throw mapCorrupt('the block size is not a power of two');
  const blockCount = Math.ceil(size / blockSize);
  if (blockCount > MAX_BLOCKS) throw mapCorrupt('more blocks than there can be');
  const root = fields.root === null || fields.root === undefined ? undefined : decodeRoot(fields.root);
  if (root !== undefined && blockCount === 0) throw mapCorrupt('a tree of no blocks');
  return {
    size,
    blockSize,
    root,
    runs: decodeRuns(fields.runs, blockCount),
    lost: decodeLost(fields.lost, blockCount),
  };
}

function decodeRoot(value: unknown): MapRoot {
  const [level, root, location] = tuple(value, 3, 'root');
  return { level: integer(level, 0, MAX_LEVEL, 'level'), id: id(root), location: decodeLocation(location) };
}

function decodeRuns(value: unknown, blockCount: number): RunChunkRef[][] {
  let entries = 0;
  return array(value, MAX_RUNS, 'runs').map((run) => {
    let next = 0;
    const chunks = array(run, MAX_RUN_CHUNKS, 'run').map((chunk) => {
      const decoded = decodeChunk(chunk, next, blockCount);
      next = decoded.lastBlock + 1;
      entries += decoded.entries;
      if (entries > MAX_RUN_ENTRIES) throw mapCorrupt('more run entries than a reader may be asked to keep');
      return decoded;
    });
    if (chunks.length === 0) throw mapCorrupt('an empty run');
    return chunks;
  });
}

function decodeChunk(value: unknown, from: number, blockCount: number): RunChunkRef {
  const [chunkId, place, first, last, count] = tuple(value, 5, 'run chunk');
  const firstBlock = integer(first, from, blockCount - 1, 'first block of a run chunk');
  const lastBlock = integer(last, firstBlock, blockCount - 1, 'last block of a run chunk');
  const most = Math.min(MAX_CHUNK_ENTRIES, lastBlock - firstBlock + 1);
  const entries = integer(count, Math.min(2, lastBlock - firstBlock + 1), most, 'entries of a run chunk');
  const location = decodeLocation(place);
  if (!plausibleChunkBytes(entries, location.rawLength)) throw mapCorrupt('no run chunk has that length');
  return { id: id(chunkId), location, firstBlock, lastBlock, entries };
}

function decodeLost(value: unknown, blockCount: number): BlockRange[] {
  let next = 0;
  return array(value, MAX_LOST_RANGES, 'lost ranges').map((range) => {
    const [first, count] = tuple(range, 2, 'lost range');
    const firstBlock = integer(first, next, blockCount - 1, 'first block of a lost range');
    const lostCount = integer(count, 1, blockCount - firstBlock, 'length of a lost range');
    next = firstBlock + lostCount + 1; // Neighbours would be one range.
    return { firstBlock, blockCount: lostCount };
  });
}

/** `[session, random, offset, storedLength, codec, rawLength]`: `docs/FORMAT.md`, section 6. */
export function encodeLocation({ pack, offset, storedLength, codec, rawLength }: Location): unknown {
  return [pack.session, new Uint8Array(Buffer.from(pack.random, 'hex')), offset, storedLength, codec, rawLength];
}

/** @throws `MAP_CORRUPT` */
export function decodeLocation(value: unknown): Location {
  const [session, random, at, stored, codecNumber, raw] = tuple(value, 6, 'location');
  if (!isBytes(random) || random.length !== 16) throw mapCorrupt('no name of a pack');
  const location = {
    pack: {
      session: integer(session, 0, Number.MAX_SAFE_INTEGER, 'session'),
      random: Buffer.from(random).toString('hex'),
    },
    offset: integer(at, 0, 2 ** 32 - 1, 'offset'),
    storedLength: integer(stored, 0, 2 ** 24 - 1, 'stored length'),
    codec: integer(codecNumber, 0, 1, 'codec') as Codec,
    rawLength: integer(raw, 0, MAX_RAW_LENGTH[3], 'raw length'),
  };
  const fault = placeFault(location.offset, location.storedLength, location.codec, location.rawLength);
  if (fault !== undefined) throw mapCorrupt(fault);
  return location;
}

function id(value: unknown): Uint8Array {
  if (!isBytes(value) || value.length !== 32) throw mapCorrupt('no record id');
  return new Uint8Array(value); // Not a view: it would keep the whole log entry in memory.
}

function tuple(value: unknown, length: number, name: string): unknown[] {
  const values = array(value, length, name);
  if (values.length !== length) throw mapCorrupt(`not a ${name}`);
  return values;
}

function array(value: unknown, most: number, name: string): unknown[] {
  if (!Array.isArray(value) || value.length > most) throw mapCorrupt(`not a ${name}, or too long`);
  return value;
}

function integer(value: unknown, min: number, max: number, name: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    throw mapCorrupt(`${name} ${typeof value === 'number' ? value : typeof value} is not from ${min} to ${max}`);
  }
  return value;
}
