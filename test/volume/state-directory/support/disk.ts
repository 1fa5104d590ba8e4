import type { BlockDevice } from '../../../../src/device/block-device.ts';

/** A disk in memory. It can lose power: then each write that was not flushed is there, is not, or is torn. */
export class Disk {
  readonly size: number;
  /** What a read gives. */
  content: Uint8Array;
  identity = 'a device';
  /** Milliseconds since 1970. */
  version = 0;
  readonly #now: () => number;
  #durable: Uint8Array;
  #unflushed: { at: number; bytes: Uint8Array }[] = [];
  #life = 0;

  constructor(size: number, now: () => number) {
    this.size = size;
    this.content = new Uint8Array(size);
    this.#durable = new Uint8Array(size);
    this.#now = now;
    this.version = now();
  }

  /** The device as a process sees it: once that is dead, nothing of what it does happens any more. */
  open(): BlockDevice {
    const life = this.#life;
    const { size } = this;
    const live = async (): Promise<void> => {
      await turn();
      if (life !== this.#life) return new Promise(() => {});
    };
    return {
      size,
      sectorSize: 1,
      read: async (offset, into) => void into.set(this.content.subarray(offset, offset + into.length)),
      write: async (offset, from) => {
        const bytes = from.slice();
        await live();
        this.content.set(bytes, offset);
        this.#unflushed.push({ at: offset, bytes });
        this.version = this.#now();
      },
      flush: async () => {
        const count = this.#unflushed.length;
        await live();
        for (const { at, bytes } of this.#unflushed.splice(0, count)) this.#durable.set(bytes, at);
      },
      stamp: async () => ({ identity: this.identity, version: this.version }),
      [Symbol.asyncDispose]: async () => {},
    };
  }

  /** The process dies. */
  kill(): void {
    this.#life++;
  }

  losePower(below: (limit: number) => number): void {
    this.kill();
    for (const { at, bytes } of this.#unflushed) {
      const kept = [bytes.length, 0, below(bytes.length + 1)][below(3)] as number;
      this.#durable.set(bytes.subarray(0, kept), at);
    }
    this.#unflushed = [];
    this.content = this.#durable.slice();
  }

  /** What is there now, to be put back later. */
  image(): () => void {
    const [content, version] = [this.content.slice(), this.version];
    return () => {
      this.kill();
      this.content = content.slice();
      this.#durable = content.slice();
      this.#unflushed = [];
      this.version = version;
    };
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
