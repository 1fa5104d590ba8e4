import { BackupError } from '../../../src/common/errors.ts';
import type { SyncBlockDevice } from '../../../src/device/block-device.ts';
import { checkSpan } from '../../../src/device/span.ts';

/** One call that the device has and has not settled. It moves its bytes in two halves, so it can be caught torn. */
export interface PendingCall {
  readonly kind: 'read' | 'write' | 'discard' | 'flush';
  readonly offset: number;
  readonly length: number;
  /** Does the next half; the second one settles the call. */
  advance(): void;
  /** Settles the call with an error, whatever has been done of it. */
  fail(error?: unknown): void;
}

/** A device whose calls settle when the test says so, and which forgets nothing about them. */
export class ControlledDevice implements SyncBlockDevice {
  readonly size: number;
  readonly sectorSize: number;
  readonly bytes: Uint8Array;
  readonly pending: PendingCall[] = [];
  /** Told of every write of any kind when the device gets it. */
  onWriteBegun: (offset: number, length: number) => void = () => {};

  constructor(size: number, sectorSize = 1) {
    this.size = size;
    this.sectorSize = sectorSize;
    this.bytes = new Uint8Array(size);
  }

  /** Writes that have not settled. */
  get writesInFlight(): PendingCall[] {
    return this.pending.filter(({ kind }) => kind === 'write' || kind === 'discard');
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    checkSpan(this, offset, into.length);
    return this.#queue('read', offset, into.length, (from, to) => {
      into.set(this.bytes.subarray(offset + from, offset + to), from);
    });
  }

  write(offset: number, from: Uint8Array): Promise<void> {
    checkSpan(this, offset, from.length);
    this.onWriteBegun(offset, from.length);
    return this.#queue('write', offset, from.length, (start, end) => {
      this.bytes.set(from.subarray(start, end), offset + start);
    });
  }

  /** Leaves rubbish, as a device may. */
  discard(offset: number, length: number): Promise<void> {
    checkSpan(this, offset, length);
    this.onWriteBegun(offset, length);
    return this.#queue('discard', offset, length, (start, end) => this.bytes.fill(0xdd, offset + start, offset + end));
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    return this.write(offset, new Uint8Array(length));
  }

  flush(): Promise<void> {
    return this.#queue('flush', 0, 0, () => {});
  }

  readSync(offset: number, into: Uint8Array): void {
    checkSpan(this, offset, into.length);
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  writeSync(offset: number, from: Uint8Array): void {
    checkSpan(this, offset, from.length);
    this.onWriteBegun(offset, from.length);
    this.bytes.set(from, offset);
  }

  flushSync(): void {}

  async [Symbol.asyncDispose](): Promise<void> {}

  #queue(
    kind: PendingCall['kind'],
    offset: number,
    length: number,
    move: (from: number, to: number) => void,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const half = Math.ceil(length / 2);
      let isHalfDone = false;
      const settle = () => this.pending.splice(this.pending.indexOf(call), 1);
      const call: PendingCall = {
        kind,
        offset,
        length,
        advance: () => {
          if (isHalfDone) {
            move(half, length);
            settle();
            resolve();
          } else {
            move(0, half);
            isHalfDone = true;
          }
        },
        fail: (error = new BackupError('DEVICE_IO', 'injected')) => {
          settle();
          reject(error);
        },
      };
      this.pending.push(call);
    });
  }
}

/** Lets everything that waits for nothing but its turn run. */
export async function settleMicrotasks(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

/** Completes every pending call, and those that follow from it, until nothing is left. */
export async function completeAll(...devices: ControlledDevice[]): Promise<void> {
  for (let idle = 0; idle < 2; ) {
    await settleMicrotasks();
    const call = devices.flatMap((device) => device.pending)[0];
    if (call === undefined) {
      idle++;
      continue;
    }
    idle = 0;
    call.advance();
  }
}
