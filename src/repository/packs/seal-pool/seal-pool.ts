// This folder hashes, compresses and encrypts blocks in worker threads.

import { availableParallelism } from 'node:os';
import { type AbortOptions, abortable } from '../../../common/abort.ts';
import { integerArgument } from '../../../common/arguments.ts';
import { checkLevel } from '../../../common/compression.ts';
import type { RepositoryKeys } from '../../crypto/repository-keys.ts';
import { ID_BYTES } from '../../format/derivation.ts';
import { type Codec, MAX_RAW_LENGTH, RecordKind } from '../../format/record.ts';
import { closedError, SEAL_WORKER_URL } from './seal-runner.ts';
import { SealScheduler } from './seal-scheduler.ts';
import { HAS_ID, type SealTask, SlotMemory, shareKeys, slotBytes } from './seal-service.ts';
import { SealSlot, type SlotState, Waiters } from './seal-slot.ts';

export interface SealPoolOptions {
  readonly keys: RepositoryKeys;
  /** The most bytes of a block. */
  readonly blockSize: number;
  /** Shared memory of all slots together, in bytes; each thread takes two blocks' worth more. @defaultValue 32 MiB */
  readonly memoryBytes?: number | undefined;
  /** Worker threads; 0 does the work in process. @defaultValue as many as the machine runs at once, at most 8 */
  readonly threads?: number | undefined;
  /** The compression level of zstd. @defaultValue 1 */
  readonly level?: number | undefined;
  /** The program of the threads. @defaultValue {@link SEAL_WORKER_URL} */
  readonly workerUrl?: URL | undefined;
}

export interface SealedBlock {
  /** Which block of the slot it is. */
  readonly block: number;
  readonly codec: Codec;
  readonly storedLength: number;
  /** The sealed record: a view of shared memory, good until the slot is released. */
  readonly bytes: Uint8Array;
}

export interface AcquireOptions extends AbortOptions {
  /** Whether the last free slot is left to others, for work that may be held up for long. @defaultValue false */
  readonly leavesOne?: boolean | undefined;
}

/**
 * Zero test, content ids, compression and encryption of blocks in worker threads, through a fixed amount of shared
 * memory. A caller takes a slot (and waits while all are out, which is what slows a sweep down), fills it, has its blocks
 * identified, has those sealed that are not known yet, takes the records out and releases it:
 *
 * ```ts
 * using slot = await pool.acquire({ signal });
 * await device.read(offset, slot.input.subarray(0, length));
 * const ids = await pool.identify(slot, lengths, { signal });
 * for (const { block, bytes } of await pool.seal(slot, whichAreNew(ids), { signal })) { ... }
 * ```
 *
 * An aborted call rejects at once; the slot goes to the next caller only when no worker touches it any more. When a
 * worker dies, the calls that it had reject with `WORKER_FAILED` and may be repeated on the same slot: another worker
 * replaces it. Threads start when there is work for them, and idle ones don't keep the process alive. If none can be
 * started, the work is done on the calling thread, after a process warning.
 */
export class SealPool implements AsyncDisposable {
  /** The most bytes of a block. */
  readonly blockSize: number;
  /** Blocks that a slot takes. */
  readonly blocksPerSlot: number;
  readonly slotCount: number;
  /** Shared memory of all slots, in bytes. */
  readonly memoryBytes: number;
  readonly #slots: readonly SlotState[];
  readonly #free: SlotState[];
  readonly #waiters = new Waiters<SlotState>();
  /** Callers that leave the last free slot to others. */
  readonly #yielding = new Waiters<SlotState>();
  readonly #scheduler: SealScheduler;
  readonly #keys: SharedArrayBuffer | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: SealPoolOptions) {
    const { threads, geometry, slots, level } = planSealPool(options);
    this.blockSize = geometry.blockSize;
    this.blocksPerSlot = geometry.blocks;
    this.slotCount = slots;
    this.memoryBytes = slots * slotBytes(geometry);
    const shared = Array.from({ length: slots }, () => new SharedArrayBuffer(slotBytes(geometry)));
    this.#slots = shared.map((buffer, index) => ({
      index,
      memory: new SlotMemory(buffer, geometry),
      busy: false,
      released: true,
    }));
    this.#free = [...this.#slots];
    const { contentIdKey, recordKey } = options.keys;
    this.#keys = contentIdKey && recordKey && shareKeys(contentIdKey, recordKey);
    const program = options.workerUrl ?? SEAL_WORKER_URL;
    this.#scheduler = new SealScheduler(threads, program, { slots: shared, geometry, keys: this.#keys, level });
  }

  /** Takes a slot, as soon as one is free. @throws `CLOSED` */
  async acquire({ signal, leavesOne = false }: AcquireOptions = {}): Promise<SealSlot> {
    this.#check(signal);
    const isFree = this.#free.length > (leavesOne ? this.#spared : 0);
    const state = isFree
      ? (this.#free.pop() as SlotState)
      : await (leavesOne ? this.#yielding : this.#waiters).wait(signal);
    state.released = false;
    return new SealSlot(state, (released) => this.#released(released));
  }

  /**
   * The content ids of the slot's blocks, `undefined` for those that are all zeroes.
   *
   * @param lengths - bytes of each block, from the first one on
   * @throws `CLOSED`, `WORKER_FAILED`
   */
  async identify(
    slot: SealSlot,
    lengths: readonly number[],
    options: AbortOptions = {},
  ): Promise<(Uint8Array<ArrayBuffer> | undefined)[]> {
    integerArgument('the number of lengths', lengths.length, 0, this.blocksPerSlot);
    for (const length of lengths) integerArgument('the length of a block', length, 1, this.blockSize);
    const task = { type: 'identify' as const, lengths: [...lengths] };
    await this.#run(slot, task, options);
    const { memory } = slot.state;
    slot.lengths = task.lengths;
    slot.identified = task.lengths.map((_, block) => memory.result(block)[0] === HAS_ID);
    const ids = new Uint8Array(lengths.length * ID_BYTES); // Not shared, so that they outlive the slot's release.
    return slot.identified.map((hasId, block) => {
      if (!hasId) return undefined;
      const id = ids.subarray(block * ID_BYTES, (block + 1) * ID_BYTES);
      id.set(memory.id(block));
      return id;
    });
  }

  /**
   * Seals blocks of a slot that have been identified and are not zeroes.
   *
   * @param which - which blocks of the slot; the answer is in the same order
   * @throws `CLOSED`, `WORKER_FAILED`
   */
  async seal(slot: SealSlot, which: readonly number[], options: AbortOptions = {}): Promise<SealedBlock[]> {
    const { lengths, identified } = slot;
    if (lengths === undefined) throw new TypeError('the blocks of this slot have not been identified');
    for (const block of which) {
      if (identified[block] !== true) throw new TypeError(`block ${String(block)} of this slot has no content id`);
    }
    if (which.length === 0) return [];
    await this.#run(slot, { type: 'seal', lengths, which: [...which] }, options);
    const { memory } = slot.state;
    return which.map((block) => {
      const [storedLength, codec] = memory.result(block);
      return { block, codec: codec as Codec, storedLength, bytes: memory.output(block).subarray(0, storedLength) };
    });
  }

  /** Ends the workers; calls that wait or are under way reject with `CLOSED`. Zeroes the pool's copy of the keys. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#waiters.rejectAll(closedError());
    this.#yielding.rejectAll(closedError());
    try {
      await this.#scheduler.close(closedError());
    } finally {
      if (this.#keys !== undefined) new Uint8Array(this.#keys).fill(0);
    }
  }

  async #run(slot: SealSlot, task: SealTask, { signal }: AbortOptions): Promise<void> {
    this.#check(signal);
    const { state } = slot;
    if (slot.released) throw new TypeError('this slot has been released');
    if (this.#slots[state.index] !== state) throw new TypeError('this slot belongs to another pool');
    if (state.busy) throw new TypeError('this slot has a task under way');
    state.busy = true;
    if (task.type === 'identify') slot.lengths = undefined; // Until it is known to have worked.
    const over = this.#scheduler.run({ slot: state.index, task }, signal).finally(() => {
      state.busy = false;
      if (state.released) this.#offer(state);
    });
    await abortable(over, signal);
  }

  #released(state: SlotState): void {
    state.released = true;
    if (!state.busy) this.#offer(state);
  }

  #offer(state: SlotState): void {
    if (this.#waiters.count > 0) this.#waiters.serve(state);
    else this.#free.push(state);
    while (this.#yielding.count > 0 && this.#free.length > this.#spared) {
      this.#yielding.serve(this.#free.pop() as SlotState);
    }
  }

  /** How many free slots are left to callers that do not yield. */
  get #spared(): number {
    return this.slotCount > 1 ? 1 : 0;
  }

  #check(signal: AbortSignal | undefined): void {
    if (this.#closing !== undefined) throw closedError();
    signal?.throwIfAborted();
  }
}

const MIB = 1024 * 1024;
const DEFAULT_MEMORY_BYTES = 32 * MIB;
const DEFAULT_MAX_THREADS = 8;
const MAX_THREADS = 256;
/** Bytes of plaintext that make a message worth its cost; more would only make progress coarser. */
const TASK_BYTES = MIB;

/** @throws TypeError for an option that is out of range */
function planSealPool(options: SealPoolOptions) {
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
