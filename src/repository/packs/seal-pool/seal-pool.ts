import { type AbortOptions, abortable } from '../../../common/abort.ts';
import { integerArgument } from '../../../common/arguments.ts';
import { BackupError } from '../../../common/errors.ts';
import { ID_BYTES } from '../../format/derivation.ts';
import type { Codec } from '../../format/record.ts';
import { planSealPool, type SealPoolOptions } from './seal-pool-options.ts';
import { SealScheduler } from './seal-scheduler.ts';
import { shareKeys } from './seal-service.ts';
import { SealSlot, type SlotPlace } from './seal-slot.ts';
import { HAS_ID, type SealTask } from './seal-task.ts';
import { SEAL_WORKER_URL } from './seal-worker-url.ts';
import { SlotMemory, slotBytes } from './slot-memory.ts';
import { Waiters } from './slot-waiters.ts';

/** A block that has been sealed. */
export interface SealedBlock {
  /** Its place in the slot. */
  readonly block: number;
  readonly codec: Codec;
  readonly storedLength: number;
  /** The sealed record: a view of shared memory, good until the slot is released. */
  readonly bytes: Uint8Array;
}

/** Options of `SealPool.acquire`. */
export interface AcquireOptions extends AbortOptions {
  /** Whether the last free slot is left to others, for work that may be held up for long. @defaultValue false */
  readonly leavesOne?: boolean | undefined;
}

/**
 * Zero test, content ids, compression and encryption of blocks in worker threads, through a fixed amount of shared
 * memory. Who wants to seal takes a slot (and waits while all are out, which is what slows a sweep down), fills it,
 * has its blocks identified, has sealed those that are not known yet, takes the records out and releases it:
 *
 * ```ts
 * using slot = await pool.acquire({ signal });
 * await device.read(offset, slot.input.subarray(0, length));
 * const ids = await pool.identify(slot, lengths, { signal });
 * for (const { block, bytes } of await pool.seal(slot, whichAreNew(ids), { signal })) { ... }
 * ```
 *
 * An aborted call rejects at once; the slot goes to the next caller only when no worker touches it any more. When a
 * worker dies, the calls that it had rejects with `WORKER_FAILED` and may be repeated on the same slot: another worker
 * takes its place. Threads start when there is work for them, and idle ones don't keep the process alive. Where none can
 * be started the work is done on the calling thread, after a process warning.
 */
export class SealPool implements AsyncDisposable {
  /** The most bytes of a block. */
  readonly blockSize: number;
  /** Blocks that a slot takes. */
  readonly blocksPerSlot: number;
  readonly slotCount: number;
  /** Shared memory of all slots, in bytes. */
  readonly memoryBytes: number;
  readonly #places: readonly SlotPlace[];
  readonly #free: SlotPlace[];
  readonly #waiters = new Waiters<SlotPlace>();
  /** Those who leave the last free slot to others. */
  readonly #yielding = new Waiters<SlotPlace>();
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
    this.#places = shared.map((buffer, index) => ({
      index,
      memory: new SlotMemory(buffer, geometry),
      busy: false,
      released: true,
    }));
    this.#free = [...this.#places];
    const { contentIdKey, recordKey } = options.keys;
    this.#keys = contentIdKey && recordKey && shareKeys(contentIdKey, recordKey);
    const program = options.workerUrl ?? SEAL_WORKER_URL;
    this.#scheduler = new SealScheduler(threads, program, { slots: shared, geometry, keys: this.#keys, level });
  }

  /** A slot of one's own, as soon as there is one. @throws `CLOSED` */
  async acquire({ signal, leavesOne = false }: AcquireOptions = {}): Promise<SealSlot> {
    this.#check(signal);
    const isFree = this.#free.length > (leavesOne ? this.#spared : 0);
    const place = isFree
      ? (this.#free.pop() as SlotPlace)
      : await (leavesOne ? this.#yielding : this.#waiters).wait(signal);
    place.released = false;
    return new SealSlot(place, (released) => this.#released(released));
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
    const { memory } = slot.place;
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
   * @param which - their places in the slot; the answer is in the same order
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
    const { memory } = slot.place;
    return which.map((block) => {
      const [storedLength, codec] = memory.result(block);
      return { block, codec: codec as Codec, storedLength, bytes: memory.output(block).subarray(0, storedLength) };
    });
  }

  /** Ends the workers; whatever waits or is under way rejects with `CLOSED`. Zeroes the pool's copy of the keys. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#waiters.rejectAll(closed());
    this.#yielding.rejectAll(closed());
    try {
      await this.#scheduler.close(closed());
    } finally {
      if (this.#keys !== undefined) new Uint8Array(this.#keys).fill(0);
    }
  }

  async #run(slot: SealSlot, task: SealTask, { signal }: AbortOptions): Promise<void> {
    this.#check(signal);
    const { place } = slot;
    if (slot.released) throw new TypeError('this slot has been released');
    if (this.#places[place.index] !== place) throw new TypeError('this slot belongs to another pool');
    if (place.busy) throw new TypeError('this slot has a task under way');
    place.busy = true;
    if (task.type === 'identify') slot.lengths = undefined; // Until it is known to have worked.
    const over = this.#scheduler.run({ slot: place.index, task }, signal).finally(() => {
      place.busy = false;
      if (place.released) this.#offer(place);
    });
    await abortable(over, signal);
  }

  #released(place: SlotPlace): void {
    place.released = true;
    if (!place.busy) this.#offer(place);
  }

  #offer(place: SlotPlace): void {
    if (this.#waiters.count > 0) this.#waiters.serve(place);
    else this.#free.push(place);
    while (this.#yielding.count > 0 && this.#free.length > this.#spared) {
      this.#yielding.serve(this.#free.pop() as SlotPlace);
    }
  }

  /** How many free slots those who yield leave. */
  get #spared(): number {
    return this.slotCount > 1 ? 1 : 0;
  }

  #check(signal: AbortSignal | undefined): void {
    if (this.#closing !== undefined) throw closed();
    signal?.throwIfAborted();
  }
}

function closed(): BackupError {
  return new BackupError('CLOSED', 'this seal pool is closed');
}
