import { BackupError } from '../common/errors.ts';
import type { Spill } from './spill.ts';

/** Where the content of one pre-image is kept: in a buffer, or in a slot of the spill. */
export type Allocation = { readonly kind: 'memory'; readonly bytes: Uint8Array } | SpillAllocation;

interface SpillAllocation {
  readonly kind: 'spill';
  readonly spill: Spill;
  readonly slot: number;
}

/** Where a pre-image is until its slot has been written: in a transit buffer, which is needed again afterwards. */
export interface InTransit {
  readonly kind: 'transit';
  readonly to: SpillAllocation;
  readonly bytes: Uint8Array;
}

/** How much may be on its way to the spill at a time: bytes, or blocks if that is more. This memory is beyond the limit. */
const TRANSIT_BYTES = 1024 * 1024;
const MIN_TRANSIT_BUFFERS = 4;
/** Buffers kept for reuse, in bytes. */
const MAX_IDLE_BYTES = 8 * 1024 * 1024;

/**
 * How much room a volume's pre-images take up, counted in whole blocks. Pre-images that are being read or written at the
 * moment are included. The numbers do not change later; see `CopyOnWriteVolume.preimages`.
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
  /** Whether half of the limit has been reached, and usage has not fallen to three eighths of it since. */
  readonly isPressed: boolean;
}

/** Allocates room for pre-images: memory up to its limit, then the spill up to its own. */
export class PreimageBuffers {
  /** Called when half of the limit is reached, and again only after usage has fallen to three eighths of it. */
  onPressure: () => void = () => {};
  /** Called when room may have become free. */
  onReleased: () => void = () => {};
  readonly #blockSize: number;
  readonly #spill: Spill | undefined;
  readonly #bufferCount: number;
  #buffersLeft: number;
  #held = 0;
  #isPressed = false;
  readonly #idle: Uint8Array[] = [];
  readonly #transit: Uint8Array[] = [];
  #transitMade = 0;
  readonly #transitWaiters: ((buffer: Uint8Array) => void)[] = [];

  constructor(blockSize: number, memoryBytes: number, spill: Spill | undefined) {
    this.#blockSize = blockSize;
    this.#bufferCount = Math.floor(memoryBytes / blockSize);
    this.#buffersLeft = this.#bufferCount;
    this.#spill = spill;
    if (spill !== undefined) spill.onSpace = () => this.onReleased();
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

  /** Room for one block, or `undefined` when both limits are reached. */
  allocate(): Allocation | undefined {
    const allocation = this.#allocate();
    if (allocation === undefined) return undefined;
    this.#held++;
    if (!this.#isPressed && this.#held * 2 >= this.#count) {
      this.#isPressed = true;
      this.onPressure();
    }
    return allocation;
  }

  release(allocation: Allocation): void {
    this.#held--;
    if (this.#isPressed && this.#held * 8 <= this.#count * 3) this.#isPressed = false;
    if (allocation.kind === 'spill') {
      allocation.spill.release(allocation.slot);
    } else {
      this.#buffersLeft++;
      if (this.#idle.length * this.#blockSize < MAX_IDLE_BYTES) this.#idle.push(allocation.bytes);
    }
    this.onReleased();
  }

  /** Why `allocate` returned nothing, with the options that can be raised; `afterMs` is how long a write waited for room. */
  fullError(afterMs?: number): BackupError {
    const { memory, spill } = this.use;
    const limits = `${memory.limitBytes} bytes of memory and ${spill.limitBytes} bytes of spill`;
    const waited = afterMs === undefined ? '' : `, and none became free within ${afterMs} ms`;
    const message = `all room for pre-images is in use (${limits})${waited}; raise preserve.spillBytes or preserve.memoryBytes`;
    return new BackupError('PREIMAGE_SPACE', message, { retryable: true });
  }

  /** One of the few buffers for blocks on their way to the spill, or `undefined` while all are in use. */
  idleTransitBuffer(): Uint8Array | undefined {
    const idle = this.#transit.pop();
    if (idle !== undefined) return idle;
    if (this.#transitMade >= Math.max(MIN_TRANSIT_BUFFERS, TRANSIT_BYTES / this.#blockSize)) return undefined;
    this.#transitMade++;
    return this.#newBuffer();
  }

  /** Waits for the next transit buffer that is released. The wait is for local I/O only. */
  transitBuffer(): Promise<Uint8Array> {
    return new Promise((resolve) => {
      this.#transitWaiters.push(resolve);
    });
  }

  releaseTransitBuffer(buffer: Uint8Array): void {
    const waiter = this.#transitWaiters.shift();
    if (waiter === undefined) this.#transit.push(buffer);
    else waiter(buffer);
  }

  /** The number of blocks that both limits allow. */
  get #count(): number {
    return this.#bufferCount + (this.#spill?.slotCount ?? 0);
  }

  #allocate(): Allocation | undefined {
    if (this.#buffersLeft > 0) {
      this.#buffersLeft--;
      return { kind: 'memory', bytes: this.#idle.pop() ?? this.#newBuffer() };
    }
    const slot = this.#spill?.allocate();
    return slot === undefined ? undefined : { kind: 'spill', spill: this.#spill as Spill, slot };
  }

  #newBuffer(): Uint8Array {
    return Buffer.allocUnsafeSlow(this.#blockSize);
  }
}
