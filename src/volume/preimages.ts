import type { Allocation, InTransit, PreimageBuffers } from './preimage-buffers.ts';

/** Blocks in groups of this size: for each group it is known how many of its blocks have pre-images. */
const CHUNK_BITS = 12;
const NONE: readonly number[] = [];

/** The end of a pre-image's interval while its block has not been overwritten yet. */
const NOT_YET = 256;

/**
 * A block's content as it was from one overwrite to the next. It serves every snapshot whose epoch lies in
 * `from < epoch <= to`, however many there are and whenever they are taken. Rule R6.
 */
export interface Preimage {
  readonly block: number;
  /** The block's epoch when it was read. */
  from: number;
  /** The epoch at the overwrite that ended it. */
  to: number;
  /** `undefined`: the content is all zeroes and takes no room. */
  allocation: Allocation | InTransit | undefined;
  /** Reads of the allocation that have not settled; it is released after the last one. */
  pins: number;
  isFreed: boolean;
  /** The next older pre-image of the same block. */
  older: Preimage | undefined;
}

/** How many pre-images are examined in one step. It takes a few milliseconds, even if most are freed. */
export const FREED_AT_ONCE = 4096;

export function serves({ from, to }: Preimage, epoch: number): boolean {
  return from < epoch && epoch <= to;
}

/** The keys of a map from `first` to before `end`, unordered, found by the keys or by the numbers, whichever are fewer. */
export function keysIn(map: ReadonlyMap<number, unknown>, first: number, end: number): readonly number[] {
  if (map.size === 0) return NONE;
  const keys: number[] = [];
  if (end - first < map.size) {
    for (let key = first; key < end; key++) if (map.has(key)) keys.push(key);
  } else {
    for (const key of map.keys()) if (key >= first && key < end) keys.push(key);
  }
  return keys;
}

/** All pre-images of a volume, by block. The class knows intervals and allocations; its caller decides what is needed. */
export class Preimages {
  /** Called when freeing that was under way has ended, whether or not it has freed anything. */
  onFreed: () => void = () => {};
  readonly #newest = new Map<number, Preimage>();
  /** By chunk: how many of its blocks have pre-images. */
  readonly #inChunk: Uint32Array;
  /** How many freed pre-images are still being read. */
  #freedAndRead = 0;
  #underWay: Generator<void> | undefined;
  /** Whether it must visit all once more: what was needed when it was examined may not be needed any more. */
  #isOnceMore = false;
  readonly #buffers: PreimageBuffers;

  constructor(buffers: PreimageBuffers, blockCount: number) {
    this.#buffers = buffers;
    this.#inChunk = new Uint32Array(Math.ceil(blockCount / 2 ** CHUNK_BITS));
  }

  /** Whether room will become free without further calls: pre-images are about to be freed, or freed ones are being read. */
  get isRoomToCome(): boolean {
    return this.#freedAndRead > 0 || this.#underWay !== undefined;
  }

  /** How many blocks have pre-images. */
  get blockCount(): number {
    return this.#newest.size;
  }

  /** The blocks from `first` to before `end` that have pre-images. */
  blocksIn(first: number, end: number): readonly number[] {
    if (this.#newest.size === 0) return NONE;
    if (end - first === 1) return this.#newest.has(first) ? [first] : NONE;
    if (end - first > this.#newest.size) return keysIn(this.#newest, first, end);
    const blocks: number[] = [];
    for (let at = first; at < end; ) {
      const chunk = at >>> CHUNK_BITS;
      const next = Math.min(end, (chunk + 1) * 2 ** CHUNK_BITS);
      if (this.#inChunk[chunk] !== 0) {
        for (let block = at; block < next; block++) if (this.#newest.has(block)) blocks.push(block);
      }
      at = next;
    }
    return blocks;
  }

  /** The pre-image that holds a block's content as of an epoch. */
  find(block: number, epoch: number): Preimage | undefined {
    for (let one = this.#newest.get(block); one !== undefined; one = one.older) {
      if (serves(one, epoch)) return one;
    }
    return undefined;
  }

  /** The pre-image whose block has not been overwritten yet. */
  findOpen(block: number): Preimage | undefined {
    const newest = this.#newest.get(block);
    return newest?.to === NOT_YET ? newest : undefined;
  }

  /** One in transit must be passed to `writeToSlot`, even if it is freed before: only that releases its slot. */
  add(block: number, from: number, allocation: Allocation | InTransit | undefined): Preimage {
    const older = this.#newest.get(block);
    const preimage: Preimage = { block, from, to: NOT_YET, allocation, pins: 0, isFreed: false, older };
    if (older === undefined) this.#inChunk[block >>> CHUNK_BITS]!++;
    this.#newest.set(block, preimage);
    return preimage;
  }

  /**
   * Writes a pre-image in transit to its slot, from which it is read afterwards. The buffer may be reused when this
   * settles. `failed` is called in the step in which the write fails, and must free the pre-image: the slot must not be
   * read.
   */
  async writeToSlot(preimage: Preimage, { to, bytes }: InTransit, failed: (cause: unknown) => void): Promise<void> {
    // @mutation spill-read-when-written
    try {
      // @mutation unwanted-not-written
      if (!preimage.isFreed) await to.spill.write(to.slot, bytes);
    } catch (cause) {
      // @mutation spill-failed
      failed(cause);
    } finally {
      preimage.allocation = to;
      this.#release(preimage);
    }
  }

  free(preimage: Preimage): void {
    if (preimage.isFreed) return;
    preimage.isFreed = true;
    if (preimage.pins > 0) this.#freedAndRead++;
    this.#unlink(preimage);
    this.#release(preimage);
  }

  /**
   * Frees every pre-image that is not needed any more: some thousands at once, the others in later turns of the event
   * loop. Until then they take up room, and may still be used.
   */
  freeUnless(isNeeded: (preimage: Preimage) => boolean): void {
    // Freeing that is under way is not restarted: if this were called in every turn, it would never end.
    this.#isOnceMore = this.#underWay !== undefined;
    if (this.#isOnceMore) return;
    this.#underWay = this.#freeing(isNeeded);
    this.#freeOn();
  }

  /** Completes the freeing at once, for a caller that can't wait. */
  freeNow(): void {
    while (this.#underWay !== undefined) this.#freeSome();
  }

  /** Resolves when no freeing is under way. */
  async freed(): Promise<void> {
    while (this.#underWay !== undefined) await new Promise((resolve) => setImmediate(resolve));
  }

  #freeOn(): void {
    this.#freeSome();
    if (this.#underWay !== undefined) setImmediate(() => this.#freeOn());
  }

  #freeSome(): void {
    if (this.#underWay?.next().done !== true) return;
    this.#underWay = undefined;
    // @mutation freeing-has-ended
    this.onFreed();
  }

  *#freeing(isNeeded: (preimage: Preimage) => boolean): Generator<void> {
    let examined = 0;
    do {
      this.#isOnceMore = false;
      for (const newest of this.#newest.values()) {
        for (let one: Preimage | undefined = newest; one !== undefined; one = one.older) {
          if (!isNeeded(one)) this.free(one);
        }
        if (++examined % FREED_AT_ONCE === 0) yield;
      }
    } while (this.#isOnceMore);
  }

  /** Copies a part of the content; `start` is in bytes from the start of the block. */
  async read(preimage: Preimage, start: number, into: Uint8Array): Promise<void> {
    const { allocation } = preimage;
    if (allocation === undefined) {
      into.fill(0);
    } else if (allocation.kind !== 'spill') {
      into.set(allocation.bytes.subarray(start, start + into.length));
    } else {
      preimage.pins++;
      try {
        await allocation.spill.read(allocation.slot, start, into);
      } finally {
        preimage.pins--;
        if (preimage.isFreed && preimage.pins === 0) this.#freedAndRead--;
        this.#release(preimage);
      }
    }
  }

  /** Translates all epochs, after they were renumbered. Rule R10. */
  renumber(newEpoch: Uint8Array): void {
    for (const newest of this.#newest.values()) {
      for (let one: Preimage | undefined = newest; one !== undefined; one = one.older) {
        one.from = newEpoch[one.from] as number;
        if (one.to !== NOT_YET) one.to = newEpoch[one.to] as number;
      }
    }
  }

  #unlink(preimage: Preimage): void {
    const newest = this.#newest.get(preimage.block);
    if (newest === preimage) {
      if (preimage.older !== undefined) {
        this.#newest.set(preimage.block, preimage.older);
      } else if (this.#newest.delete(preimage.block)) {
        this.#inChunk[preimage.block >>> CHUNK_BITS]!--;
      }
      return;
    }
    for (let one = newest; one !== undefined; one = one.older) {
      if (one.older === preimage) one.older = preimage.older;
    }
  }

  #release(preimage: Preimage): void {
    const { allocation, isFreed, pins } = preimage;
    // @mutation room-in-transit
    if (!isFreed || pins > 0 || allocation === undefined || allocation.kind === 'transit') return;
    // @mutation room-given
    this.#buffers.release(allocation);
  }
}
