import type { SpillArea } from './spill-area.ts';

/** Room for one pre-image: a buffer, or a slot of the spill. */
export type Room =
  | { readonly kind: 'memory'; readonly bytes: Uint8Array }
  | { readonly kind: 'spill'; readonly slot: number };

/** Where a pre-image is until its slot has been written: in a transit buffer, which is not its own to keep. */
export interface InTransit {
  readonly kind: 'transit';
  readonly slot: number;
  readonly bytes: Uint8Array;
}

/** What may be on its way to the spill at one time: so many bytes, or blocks if that is more. All memory besides the limit. */
const TRANSIT_BYTES = 1024 * 1024;
const LEAST_IN_TRANSIT = 4;
/** Buffers kept for reuse, in bytes. */
const MAX_IDLE_BYTES = 8 * 1024 * 1024;

/** Where pre-images go: memory up to its limit, then the spill up to its own. */
export class PreimageSpace {
  readonly #blockSize: number;
  readonly #spill: SpillArea | undefined;
  #buffersLeft: number;
  readonly #idle: Uint8Array[] = [];
  readonly #transit: Uint8Array[] = [];
  #transitMade = 0;
  readonly #transitWaiters: ((buffer: Uint8Array) => void)[] = [];

  constructor(blockSize: number, memoryBytes: number, spill: SpillArea | undefined) {
    this.#blockSize = blockSize;
    this.#buffersLeft = Math.floor(memoryBytes / blockSize);
    this.#spill = spill;
  }

  /** Takes room, `undefined` when both limits are reached. */
  take(): Room | undefined {
    if (this.#buffersLeft > 0) {
      this.#buffersLeft--;
      return { kind: 'memory', bytes: this.#idle.pop() ?? this.#newBuffer() };
    }
    const slot = this.#spill?.take();
    return slot === undefined ? undefined : { kind: 'spill', slot };
  }

  give(room: Room): void {
    if (room.kind === 'spill') {
      this.#spill?.give(room.slot);
      return;
    }
    this.#buffersLeft++;
    if (this.#idle.length * this.#blockSize < MAX_IDLE_BYTES) this.#idle.push(room.bytes);
  }

  /** One of the few buffers for blocks on their way to the spill, `undefined` while all are in use. */
  idleTransitBuffer(): Uint8Array | undefined {
    const idle = this.#transit.pop();
    if (idle !== undefined) return idle;
    if (this.#transitMade >= Math.max(LEAST_IN_TRANSIT, TRANSIT_BYTES / this.#blockSize)) return undefined;
    this.#transitMade++;
    return this.#newBuffer();
  }

  /** Waits for the next such buffer that is given back. The wait is for local I/O only. */
  transitBuffer(): Promise<Uint8Array> {
    return new Promise((resolve) => {
      this.#transitWaiters.push(resolve);
    });
  }

  /** Gives back what either of these gave. */
  giveTransitBuffer(buffer: Uint8Array): void {
    const waiter = this.#transitWaiters.shift();
    if (waiter === undefined) this.#transit.push(buffer);
    else waiter(buffer);
  }

  write(slot: number, bytes: Uint8Array): Promise<void> {
    return this.#spill?.write(slot, bytes) ?? Promise.resolve();
  }

  writeSync(slot: number, bytes: Uint8Array): void {
    this.#spill?.writeSync(slot, bytes);
  }

  async read(slot: number, start: number, into: Uint8Array): Promise<void> {
    await this.#spill?.read(slot, start, into);
  }

  #newBuffer(): Uint8Array {
    return Buffer.allocUnsafeSlow(this.#blockSize);
  }
}
