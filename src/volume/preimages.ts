import { keysIn } from './keys-in.ts';
import type { InTransit, PreimageSpace, Room } from './preimage-space.ts';

/** Blocks whose pre-images are counted together. */
const CHUNK_BITS = 12;
const NONE: readonly number[] = [];

/** The end of a pre-image's interval while its block has not been overwritten yet. */
const NOT_YET = 256;

/**
 * A block's content as it was from one overwrite to the next. It serves every snapshot whose epoch lies in
 * `from < epoch <= to`, however many they are and whenever they come. Rule R6.
 */
export interface Preimage {
  readonly block: number;
  /** The block's epoch when it was read. */
  from: number;
  /** The epoch at the overwrite that ended it. */
  to: number;
  /** `undefined`: the content is all zeroes and takes no room. */
  room: Room | InTransit | undefined;
  /** Reads of the room that have not settled; it is given back after the last one. */
  pins: number;
  isFreed: boolean;
  /** The next older one of the same block. */
  older: Preimage | undefined;
}

/** Looked at in one step: a few milliseconds, also where most are freed. */
export const FREED_AT_ONCE = 4096;

/** The freeing of what nobody needs, on its way. */
interface Sweep {
  left: MapIterator<Preimage>;
  readonly isNeeded: (preimage: Preimage) => boolean;
  /** Whether it has to go over all once more: what was needed when it was passed may not be any more. */
  isOnceMore: boolean;
}

/** All pre-images of a volume, by block. Knows intervals and room; who wants what is decided by its caller. */
export class Preimages {
  readonly #newest = new Map<number, Preimage>();
  /** By chunk: how many of its blocks have any. */
  readonly #inChunk: Uint32Array;
  /** Freed ones whose room is still being read. */
  #freedAndRead = 0;
  #sweep: Sweep | undefined;
  readonly #space: PreimageSpace;

  constructor(space: PreimageSpace, blockCount: number) {
    this.#space = space;
    this.#inChunk = new Uint32Array(Math.ceil(blockCount / 2 ** CHUNK_BITS));
  }

  /** Whether room is held only by reads of what nobody needs any more. */
  get areFreedOnesRead(): boolean {
    return this.#freedAndRead > 0;
  }

  /** How many blocks have any. */
  get blockCount(): number {
    return this.#newest.size;
  }

  /** The blocks from `first` to before `end` that have any. */
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

  /** The one that holds a block's content as of an epoch. */
  find(block: number, epoch: number): Preimage | undefined {
    for (let one = this.#newest.get(block); one !== undefined; one = one.older) {
      if (one.from < epoch && epoch <= one.to) return one;
    }
    return undefined;
  }

  /** The one whose content is still also the device's. */
  findOpen(block: number): Preimage | undefined {
    const newest = this.#newest.get(block);
    return newest?.to === NOT_YET ? newest : undefined;
  }

  /** One in transit has to be taken to its slot, however soon it is freed: only then its room is given back. */
  add(block: number, from: number, room: Room | InTransit | undefined): Preimage {
    const older = this.#newest.get(block);
    const preimage: Preimage = { block, from, to: NOT_YET, room, pins: 0, isFreed: false, older };
    if (older === undefined) this.#inChunk[block >>> CHUNK_BITS]!++;
    this.#newest.set(block, preimage);
    return preimage;
  }

  /**
   * Writes one in transit to its slot, where it is read from then on; the buffer is free when this settles. `failed` is
   * told in the same step in which the write has failed, and frees it, before anybody could look into the slot.
   */
  async takeToSlot(preimage: Preimage, { slot, bytes }: InTransit, failed: (cause: unknown) => void): Promise<void> {
    // @mutation spill-read-when-written
    try {
      // @mutation unwanted-not-written
      if (!preimage.isFreed) await this.#space.write(slot, bytes);
    } catch (cause) {
      // @mutation spill-failed
      failed(cause);
    } finally {
      preimage.room = { kind: 'spill', slot };
      this.#giveRoom(preimage);
    }
  }

  free(preimage: Preimage): void {
    if (preimage.isFreed) return;
    preimage.isFreed = true;
    if (preimage.pins > 0) this.#freedAndRead++;
    this.#unlink(preimage);
    this.#giveRoom(preimage);
  }

  /**
   * Frees every one that nobody needs any more: some thousands at once, the others in later turns of the event loop. Until
   * then they take up room and are true all the same, so whoever finds one may use it.
   */
  freeUnless(isNeeded: (preimage: Preimage) => boolean): void {
    // One that is under way is not begun anew: if that was asked for in every turn, it would never get to the end.
    if (this.#sweep !== undefined) {
      this.#sweep.isOnceMore = true;
      return;
    }
    this.#sweep = { left: this.#newest.values(), isNeeded, isOnceMore: false };
    this.#sweepOn();
  }

  /** Whether there are some that will be freed before long. */
  get areFreed(): boolean {
    return this.#sweep !== undefined;
  }

  /** Frees those that are left now, for one who can't wait. */
  freeNow(): void {
    while (this.#sweep !== undefined) this.#sweepSome(this.#sweep);
  }

  /** Resolves when `freeUnless` is over. */
  async freed(): Promise<void> {
    while (this.#sweep !== undefined) await new Promise((resolve) => setImmediate(resolve));
  }

  #sweepOn(): void {
    if (this.#sweep === undefined) return;
    this.#sweepSome(this.#sweep);
    if (this.#sweep !== undefined) setImmediate(() => this.#sweepOn());
  }

  #sweepSome(sweep: Sweep): void {
    const { isNeeded } = sweep;
    for (let looked = 0; looked < FREED_AT_ONCE; looked++) {
      const { value: newest, done } = sweep.left.next();
      if (done) {
        if (!sweep.isOnceMore) {
          this.#sweep = undefined;
          return;
        }
        sweep.isOnceMore = false;
        sweep.left = this.#newest.values();
        continue;
      }
      for (let one: Preimage | undefined = newest; one !== undefined; one = one.older) {
        if (!isNeeded(one)) this.free(one);
      }
    }
  }

  /** Copies a part of the content; `start` is in bytes from the start of the block. */
  async read(preimage: Preimage, start: number, into: Uint8Array): Promise<void> {
    const { room } = preimage;
    if (room === undefined) {
      into.fill(0);
    } else if (room.kind !== 'spill') {
      into.set(room.bytes.subarray(start, start + into.length));
    } else {
      preimage.pins++;
      try {
        await this.#space.read(room.slot, start, into);
      } finally {
        preimage.pins--;
        if (preimage.isFreed && preimage.pins === 0) this.#freedAndRead--;
        this.#giveRoom(preimage);
      }
    }
  }

  /** Epochs have been renumbered. */
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

  #giveRoom(preimage: Preimage): void {
    const { room } = preimage;
    // @mutation room-in-transit
    if (!preimage.isFreed || preimage.pins > 0 || room === undefined || room.kind === 'transit') return;
    // @mutation room-given
    this.#space.give(room);
  }
}
