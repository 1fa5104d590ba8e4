import { BackupError } from '../common/errors.ts';
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

/**
 * What a volume's pre-images take up, in whole blocks of room that is taken: also by those that are being read just now.
 * A snapshot of a moment; see `CopyOnWriteVolume.preimages`.
 *
 * @public
 */
export interface PreimageUse {
  /** Bytes, in memory and in the spill together. */
  readonly heldBytes: number;
  /** The most that `heldBytes` can be: when it is reached, writes wait for room or the policy decides. */
  readonly limitBytes: number;
  readonly memory: { readonly heldBytes: number; readonly limitBytes: number };
  readonly spill: { readonly heldBytes: number; readonly limitBytes: number };
  /** Whether half of the limit has been reached, and not a good part of it been given back since. */
  readonly isPressed: boolean;
}

/** Where pre-images go: memory up to its limit, then the spill up to its own. */
export class PreimageSpace {
  /** Called when half of the limit is reached; again only when an eighth of the limit had been given back below it. */
  onPressure: () => void = () => {};
  /** Called whenever room has come back. */
  onGiven: () => void = () => {};
  readonly #blockSize: number;
  readonly #spill: SpillArea | undefined;
  readonly #bufferCount: number;
  #buffersLeft: number;
  #held = 0;
  #isPressed = false;
  readonly #idle: Uint8Array[] = [];
  readonly #transit: Uint8Array[] = [];
  #transitMade = 0;
  readonly #transitWaiters: ((buffer: Uint8Array) => void)[] = [];

  constructor(blockSize: number, memoryBytes: number, spill: SpillArea | undefined) {
    this.#blockSize = blockSize;
    this.#bufferCount = Math.floor(memoryBytes / blockSize);
    this.#buffersLeft = this.#bufferCount;
    this.#spill = spill;
    if (spill !== undefined) spill.onRoom = () => this.onGiven();
  }

  get use(): PreimageUse {
    const blockSize = this.#blockSize;
    const memoryHeld = this.#bufferCount - this.#buffersLeft;
    const spillCount = this.#spill?.slotCount ?? 0;
    return Object.freeze({
      heldBytes: this.#held * blockSize,
      limitBytes: (this.#bufferCount + spillCount) * blockSize,
      memory: Object.freeze({ heldBytes: memoryHeld * blockSize, limitBytes: this.#bufferCount * blockSize }),
      spill: Object.freeze({ heldBytes: (this.#held - memoryHeld) * blockSize, limitBytes: spillCount * blockSize }),
      isPressed: this.#isPressed,
    });
  }

  /** Takes room, `undefined` when both limits are reached. */
  take(): Room | undefined {
    const room = this.#takeRoom();
    if (room === undefined) return undefined;
    this.#held++;
    if (!this.#isPressed && this.#held * 2 >= this.#count) {
      this.#isPressed = true;
      this.onPressure();
    }
    return room;
  }

  give(room: Room): void {
    this.#held--;
    if (this.#isPressed && this.#held * 8 <= this.#count * 3) this.#isPressed = false;
    if (room.kind === 'spill') {
      this.#spill?.give(room.slot);
    } else {
      this.#buffersLeft++;
      if (this.#idle.length * this.#blockSize < MAX_IDLE_BYTES) this.#idle.push(room.bytes);
    }
    this.onGiven();
  }

  /** Why `take` gave nothing, with the numbers that can be raised; `afterMs` is how long room was waited for. */
  fullError(afterMs?: number): BackupError {
    const { memory, spill } = this.use;
    const limits = `${memory.limitBytes} bytes of memory and ${spill.limitBytes} bytes of spill`;
    const waited = afterMs === undefined ? '' : `, and ${afterMs} ms have brought none back`;
    const message = `all room for pre-images is taken (${limits})${waited}; raise preserve.spillBytes or preserve.memoryBytes`;
    return new BackupError('PREIMAGE_SPACE', message, { retryable: true });
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

  /** Blocks that there is room for in all. */
  get #count(): number {
    return this.#bufferCount + (this.#spill?.slotCount ?? 0);
  }

  #takeRoom(): Room | undefined {
    if (this.#buffersLeft > 0) {
      this.#buffersLeft--;
      return { kind: 'memory', bytes: this.#idle.pop() ?? this.#newBuffer() };
    }
    const slot = this.#spill?.take();
    return slot === undefined ? undefined : { kind: 'spill', slot };
  }

  #newBuffer(): Uint8Array {
    return Buffer.allocUnsafeSlow(this.#blockSize);
  }
}
