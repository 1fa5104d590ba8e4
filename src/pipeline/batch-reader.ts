import type { AbortOptions } from '../common/abort.ts';
import { type BlockRange, subtractRanges } from '../common/block-range.ts';
import { BackupError } from '../common/errors.ts';
import { yieldToEventLoop } from '../common/yield-to-event-loop.ts';
import type { VolumeSnapshot } from '../volume/volume-snapshot.ts';
import { type Batch, blocksOf } from './block-feed.ts';

/** What became of each block of a batch, in the order of the batch. */
export interface ReadBatch {
  /** `false`: the block was lost before it could be read. */
  readonly isRead: boolean[];
  /** `true`: the device reports zeroes for the whole block, so it was not read. */
  readonly isHole: boolean[];
}

/** Runs of one batch that are read at the same time. */
const READS_AT_ONCE = 16;
/** Below this, asking the device for its extents costs as much as reading. */
const LEAST_ASKED_BYTES = 32 * 1024;

/** Reads batches of a snapshot's blocks, and skips what the device reports as zeroes. */
export class BatchReader {
  /** Bytes read from the snapshot so far. */
  readBytes = 0;
  readonly #snapshot: VolumeSnapshot;
  readonly #signal: AbortSignal;

  constructor(snapshot: VolumeSnapshot, signal: AbortSignal) {
    this.#snapshot = snapshot;
    this.#signal = signal;
  }

  /** @param into - room for the whole batch: block `i` of the batch goes to `i * blockSize` */
  async read({ runs, blockCount, lane }: Batch, into: Uint8Array): Promise<ReadBatch> {
    const outcome = {
      isRead: new Array<boolean>(blockCount).fill(true),
      isHole: new Array<boolean>(blockCount).fill(false),
    };
    let next = 0;
    const indexed = runs.map((run) => {
      const at = next;
      next += run.blockCount;
      return { run, at };
    });
    for (let from = 0; from < indexed.length; from += READS_AT_ONCE) {
      // A device in memory answers at once: without this, batch after batch would be read in one turn of the event loop.
      await yieldToEventLoop();
      const reads = indexed.slice(from, from + READS_AT_ONCE).map(async ({ run, at }) => {
        const holes = lane === 'swept' ? await this.#skipHoles(run, into, at, outcome.isHole) : [];
        for (const rest of subtractRanges([run], holes)) {
          await this.#readRun(rest, into, at + rest.firstBlock - run.firstBlock, outcome.isRead);
        }
      });
      // All reads settle before a failure is thrown: nothing may be read into memory that was given back.
      const failed = (await Promise.allSettled(reads)).find(({ status }) => status === 'rejected');
      if (failed !== undefined) throw (failed as PromiseRejectedResult).reason;
    }
    return outcome;
  }

  /** Zeroes the holes of a run in a batch, without reading them: a sparse image consists mostly of holes. */
  async #skipHoles(run: BlockRange, batch: Uint8Array, at: number, isHole: boolean[]): Promise<BlockRange[]> {
    const { blockSize } = this.#snapshot;
    const holes = await holesOf(this.#snapshot, run, { signal: this.#signal });
    for (const { firstBlock, blockCount } of holes) {
      const from = at + firstBlock - run.firstBlock;
      isHole.fill(true, from, from + blockCount);
      batch.fill(0, from * blockSize, (from + blockCount) * blockSize);
    }
    return holes;
  }

  /** Reads neighbouring blocks to index `at` of a batch. If one of them was lost, the others are read one by one. */
  async #readRun(run: BlockRange, batch: Uint8Array, at: number, isRead: boolean[]): Promise<void> {
    try {
      await this.#readInto(batch, at, run);
      return;
    } catch (error) {
      if (!BackupError.is(error, 'BLOCK_LOST')) throw error;
    }
    for (const [index, block] of blocksOf(run).entries()) {
      try {
        await this.#readInto(batch, at + index, { firstBlock: block, blockCount: 1 });
      } catch (error) {
        if (!BackupError.is(error, 'BLOCK_LOST')) throw error;
        this.#signal.throwIfAborted(); // Another pipeline may work on the block by now.
        isRead[at + index] = false;
        this.#snapshot.mark(block, 'failed'); // The block can't be read again, so this makes it lost.
      }
    }
  }

  async #readInto(batch: Uint8Array, at: number, { firstBlock, blockCount }: BlockRange): Promise<void> {
    const { blockSize, size, maxTransferBytes = Number.POSITIVE_INFINITY } = this.#snapshot;
    const start = firstBlock * blockSize;
    const length = Math.min(size, start + blockCount * blockSize) - start;
    // A block always fits into one call.
    // @mutation batches-fit-a-call
    const most = Math.floor(maxTransferBytes / blockSize) * blockSize;
    for (let done = 0; done < length; done += most) {
      const from = at * blockSize + done;
      const into = batch.subarray(from, from + Math.min(most, length - done));
      await this.#snapshot.read(start + done, into, { signal: this.#signal });
      this.readBytes += into.length;
    }
  }
}

/**
 * The blocks of a range that the device reports as zeroes at the snapshot's instant, ascending; none if the device can't
 * say. Like a read, the snapshot's answer is checked again for blocks that were overwritten in the meantime (R4).
 */
async function holesOf(
  snapshot: VolumeSnapshot,
  { firstBlock, blockCount }: BlockRange,
  options: AbortOptions,
): Promise<BlockRange[]> {
  const { blockSize, size, volume } = snapshot;
  const start = firstBlock * blockSize;
  const end = Math.min(size, start + blockCount * blockSize);
  if (volume.extents === undefined || end - start < LEAST_ASKED_BYTES) return [];
  const holes: BlockRange[] = [];
  let hole = { from: start, to: start };
  const close = () => {
    const first = Math.ceil(hole.from / blockSize);
    // The volume's last block may be short.
    const past = hole.to === size ? Math.ceil(size / blockSize) : Math.floor(hole.to / blockSize);
    if (past > first) holes.push({ firstBlock: first, blockCount: past - first });
  };
  try {
    for await (const { offset, length, kind } of snapshot.extents(start, end - start, options)) {
      if (kind !== 'zero') continue;
      if (offset !== hole.to) {
        close();
        hole = { from: offset, to: offset };
      }
      hole.to = offset + length;
    }
    close();
  } catch {
    return []; // If the blocks can't be read at all, reading them reports why.
  }
  return holes;
}
