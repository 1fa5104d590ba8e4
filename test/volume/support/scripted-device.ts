import { BackupError, type BackupErrorCode } from '../../../src/common/errors.ts';
import type { BlockDevice, Extent, SyncBlockDevice } from '../../../src/device/block-device.ts';
import { checkSpan } from '../../../src/device/span.ts';

/** What a device was asked to do. */
export interface DeviceCall {
  readonly kind: 'read' | 'write' | 'discard' | 'writeZeroes' | 'flush' | 'extents';
  readonly offset: number;
  readonly length: number;
  readonly door: 'async' | 'sync';
}

/** Which calls a rule is about. */
export type CallFilter = Partial<Pick<DeviceCall, 'kind' | 'door'>> & {
  /** Only calls that touch this byte. */
  readonly at?: number;
};

/** Calls that a device must not answer yet. */
export interface Hold {
  /** Resolves when a first call is being held. */
  readonly reached: Promise<void>;
  /** How many calls are being held. */
  readonly held: number;
  /** Lets those held go on, and holds no more. */
  release(): void;
  /** As `release`, but those held end with an error and have done nothing. */
  fail(error: unknown): void;
}

interface Rule {
  readonly filter: CallFilter;
  meet(call: DeviceCall): Promise<void> | undefined;
}

/**
 * A device in memory that answers at once, later or with an error, as the test says, and remembers what it was asked.
 * Its answers are real promises, never settled in the call itself.
 */
export class ScriptedDevice implements BlockDevice {
  readonly size: number;
  readonly sectorSize: number;
  readonly bytes: Uint8Array;
  readonly calls: DeviceCall[] = [];
  readonly maxTransferBytes: number | undefined;
  isClosed = false;
  readonly #rules: Rule[] = [];

  constructor(size: number, options: { sectorSize?: number; maxTransferBytes?: number } = {}) {
    this.size = size;
    this.sectorSize = options.sectorSize ?? 1;
    this.maxTransferBytes = options.maxTransferBytes;
    this.bytes = new Uint8Array(size);
  }

  /** Holds the asynchronous calls that match from now on, the first `times` of them at most. */
  hold(filter: CallFilter = {}, times = Number.POSITIVE_INFINITY): Hold {
    const gate = Promise.withResolvers<void>();
    gate.promise.catch(() => {});
    const reached = Promise.withResolvers<void>();
    let held = 0;
    let left = times;
    const wait = async () => {
      held++;
      reached.resolve();
      try {
        await gate.promise;
      } finally {
        held--;
      }
    };
    const rule: Rule = { filter: { ...filter, door: 'async' }, meet: () => (left-- > 0 ? wait() : undefined) };
    this.#rules.push(rule);
    const end = () => this.#rules.splice(this.#rules.indexOf(rule), 1);
    return {
      reached: reached.promise,
      get held() {
        return held;
      },
      release: () => {
        end();
        gate.resolve();
      },
      fail: (error) => {
        end();
        gate.reject(error);
      },
    };
  }

  /** Fails the calls that match from now on, `times` of them at most; they do nothing. The result ends it. */
  failOn(filter: CallFilter, code: BackupErrorCode = 'DEVICE_IO', times = Number.POSITIVE_INFINITY): () => void {
    let left = times;
    const rule: Rule = {
      filter,
      meet: () => {
        if (left-- > 0) throw new BackupError(code, `injected ${code}`);
        return undefined;
      },
    };
    this.#rules.push(rule);
    return () => this.#rules.splice(this.#rules.indexOf(rule), 1);
  }

  /** How many calls of a kind there were. */
  count(kind: DeviceCall['kind']): number {
    return this.calls.filter((call) => call.kind === kind).length;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.meet('read', offset, into.length);
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    await this.meet('write', offset, from.length);
    this.bytes.set(from, offset);
  }

  async flush(): Promise<void> {
    await this.meet('flush', 0, 0);
  }

  /** Leaves rubbish, as a device may. */
  async discard(offset: number, length: number): Promise<void> {
    await this.meet('discard', offset, length);
    this.bytes.fill(0xdd, offset, offset + length);
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.meet('writeZeroes', offset, length);
    this.bytes.fill(0, offset, offset + length);
  }

  /** By the page, as a sparse file would. */
  async *extents(offset: number, length: number): AsyncGenerator<Extent> {
    await this.meet('extents', offset, length);
    const pageBytes = 4096;
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(offset + length, (Math.floor(at / pageBytes) + 1) * pageBytes);
      const isZero = this.bytes.subarray(at, end).every((byte) => byte === 0);
      yield { offset: at, length: end - at, kind: isZero ? 'zero' : 'data' };
      at = end;
    }
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  protected meet(kind: DeviceCall['kind'], offset: number, length: number): Promise<void> | undefined {
    return this.#meet({ kind, offset, length, door: 'async' });
  }

  protected meetSync(kind: DeviceCall['kind'], offset: number, length: number): void {
    this.#meet({ kind, offset, length, door: 'sync' });
  }

  #meet(call: DeviceCall): Promise<void> | undefined {
    if (this.isClosed) throw new BackupError('CLOSED', 'the device is closed');
    checkSpan(this, call.offset, call.length);
    if (call.length > (this.maxTransferBytes ?? call.length)) {
      throw new BackupError('LIMIT_EXCEEDED', `${call.length} bytes are more than one call takes`);
    }
    this.calls.push(call);
    for (const rule of this.#rules) {
      const held = matches(rule.filter, call) ? rule.meet(call) : undefined;
      if (held !== undefined) return held;
    }
    return undefined;
  }
}

/** The same with a synchronous door, which can fail but is never held. */
export class ScriptedSyncDevice extends ScriptedDevice implements SyncBlockDevice {
  readSync(offset: number, into: Uint8Array): void {
    this.meetSync('read', offset, into.length);
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  writeSync(offset: number, from: Uint8Array): void {
    this.meetSync('write', offset, from.length);
    this.bytes.set(from, offset);
  }

  flushSync(): void {
    this.meetSync('flush', 0, 0);
  }
}

function matches(filter: CallFilter, call: DeviceCall): boolean {
  if (filter.kind !== undefined && filter.kind !== call.kind) return false;
  if (filter.door !== undefined && filter.door !== call.door) return false;
  return filter.at === undefined || (call.offset <= filter.at && filter.at < call.offset + call.length);
}
