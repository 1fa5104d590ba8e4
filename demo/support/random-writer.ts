import { setTimeout as delay } from 'node:timers/promises';
import type { BlockDevice } from 'cow-cloud-backup';

export interface RandomWriterOptions {
  readonly seed: number;
  readonly writesPerSecond: number;
  /** How many writes may be in flight at once. */
  readonly depth: number;
  /** That share of the writes goes to a few places, which are that share of the device; otherwise they go all over it. */
  readonly hot?: { readonly ofWrites: number; readonly ofDevice: number };
  /** Called with the error of the first write that fails; there are no further writes then. */
  readonly onError: (error: unknown) => void;
}

const MIN_BYTES = 512;
const MAX_BYTES = 256 * 1024;
const POOL_BYTES = 4 * MAX_BYTES;
const HOT_PLACES = 16;

/**
 * Another process's worth of random writes: a steady load of unaligned writes of 512 bytes to 256 KiB, small ones more
 * often than large ones, all over the device or mostly to a few places.
 */
export class RandomWriter implements AsyncDisposable {
  writes = 0;
  bytes = 0;
  readonly #device: BlockDevice;
  readonly #options: RandomWriterOptions;
  readonly #random: () => number;
  readonly #pool: Uint8Array;
  /** Where hot places begin, as shares of the device. */
  readonly #hotPlaces: readonly number[];
  readonly #loops: Promise<void>[];
  #nextDueMs = performance.now();
  #stopped = false;

  /** Starts writing. */
  constructor(device: BlockDevice, options: RandomWriterOptions) {
    this.#device = device;
    this.#options = options;
    this.#random = seeded(options.seed);
    this.#pool = Uint8Array.from({ length: POOL_BYTES }, () => this.#random() * 256);
    this.#hotPlaces = Array.from({ length: options.hot === undefined ? 0 : HOT_PLACES }, this.#random);
    this.#loops = Array.from({ length: options.depth }, () => this.#loop());
  }

  /** Stops, and waits for the writes in flight. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#loops);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #loop(): Promise<void> {
    try {
      for (;;) {
        await this.#turn();
        if (this.#stopped) return;
        await this.#writeOne();
      }
    } catch (error) {
      this.#stopped = true;
      this.#options.onError(error);
    }
  }

  /** Waits for the next write's time. Time that was lost, as in a freeze, is not caught up with. */
  async #turn(): Promise<void> {
    const now = performance.now();
    const due = Math.max(now, this.#nextDueMs);
    this.#nextDueMs = due + 1000 / this.#options.writesPerSecond;
    await delay(due - now);
  }

  async #writeOne(): Promise<void> {
    const { size } = this.#device;
    const length = Math.min(size, Math.floor(MIN_BYTES * (MAX_BYTES / MIN_BYTES) ** this.#random()));
    const offset = Math.floor(this.#place() * (size - length + 1));
    const start = Math.floor(this.#random() * (POOL_BYTES - length));
    await this.#device.write(offset, this.#pool.subarray(start, start + length));
    this.writes++;
    this.bytes += length;
  }

  /** Where to write next, as a share of the device. */
  #place(): number {
    const { hot } = this.#options;
    if (hot === undefined || this.#random() >= hot.ofWrites) return this.#random();
    const begin = this.#hotPlaces[Math.floor(this.#random() * HOT_PLACES)] ?? 0;
    return (begin + (this.#random() * hot.ofDevice) / HOT_PLACES) % 1;
  }
}

/** Numbers from 0 to 1, the same ones for the same seed (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
