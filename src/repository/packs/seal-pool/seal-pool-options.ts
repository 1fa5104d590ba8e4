import { availableParallelism } from 'node:os';
import { integerArgument } from '../../../common/arguments.ts';
import type { RepositoryKeys } from '../../crypto/repository-keys.ts';
import { checkLevel } from '../../format/compression.ts';
import { MAX_RAW_LENGTH, RecordKind } from '../../format/record.ts';
import { type SlotGeometry, slotBytes } from './slot-memory.ts';

/** Options of `SealPool`. */
export interface SealPoolOptions {
  readonly keys: RepositoryKeys;
  /** The most bytes of a block. */
  readonly blockSize: number;
  /** Shared memory of all slots together, in bytes; each thread takes two blocks' worth more. @defaultValue 32 MiB */
  readonly memoryBytes?: number | undefined;
  /** Worker threads; 0 does the work in process. @defaultValue as many as the machine runs at once, at most 8 */
  readonly threads?: number | undefined;
  /** Of zstd. @defaultValue 1 */
  readonly level?: number | undefined;
  /** The program of the threads. @defaultValue {@link SEAL_WORKER_URL} */
  readonly workerUrl?: URL | undefined;
}

/** How a pool is laid out. */
export interface SealPoolPlan {
  readonly threads: number;
  readonly geometry: SlotGeometry;
  readonly slots: number;
  readonly level: number;
}

const MIB = 1024 * 1024;
const DEFAULT_MEMORY_BYTES = 32 * MIB;
const DEFAULT_MAX_THREADS = 8;
const MAX_THREADS = 256;
/** Plaintext that makes a message worth its cost; more would only make the pipeline coarser. */
const TASK_BYTES = MIB;

/** @throws TypeError for anything that is not as the options say */
export function planSealPool(options: SealPoolOptions): SealPoolPlan {
  const blockSize = integerArgument('blockSize', options.blockSize, 1, MAX_RAW_LENGTH[RecordKind.block]);
  const threads = integerArgument(
    'threads',
    options.threads ?? Math.min(DEFAULT_MAX_THREADS, availableParallelism()),
    0,
    MAX_THREADS,
  );
  const oneBlock = slotBytes({ blockSize, blocks: 1 });
  const memoryBytes = integerArgument('memoryBytes', options.memoryBytes ?? DEFAULT_MEMORY_BYTES, oneBlock);
  // Each thread has a task under way and another waiting, and the caller fills and empties two more.
  const wantedSlots = 2 * Math.max(1, threads) + 2;
  const affordable = Math.floor(memoryBytes / wantedSlots / oneBlock);
  const blocks = Math.max(1, Math.min(Math.floor(TASK_BYTES / blockSize), affordable));
  const geometry = { blockSize, blocks };
  return { threads, geometry, slots: Math.floor(memoryBytes / slotBytes(geometry)), level: checkLevel(options.level) };
}
