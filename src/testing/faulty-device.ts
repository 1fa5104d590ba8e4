import { type AbortOptions, abortable } from '../common/abort.ts';
import { choiceArgument, optionsArgument, signalArgument } from '../common/arguments.ts';
import { systemClock, type TargetClock } from '../common/clock.ts';
import { BackupError } from '../common/errors.ts';
import {
  type BlockDevice,
  type Extent,
  hasSyncDoor,
  type SyncAccess,
  type SyncBlockDevice,
  underlyingDevice,
  type WrappingDevice,
} from '../device/block-device.ts';
import { checkBytes, closedError, deviceArgument, objectWith } from '../device/door.ts';
import { checkSpan } from '../device/span.ts';
import { corrupted, type Fault, type FaultedCall, type FaultPlan, injectedError } from './faults.ts';

/** An operation of a device, synchronous or asynchronous. @public */
export type DeviceOperation = 'read' | 'write' | 'flush' | 'discard' | 'writeZeroes' | 'extents';

const OPERATIONS: readonly DeviceOperation[] = ['read', 'write', 'flush', 'discard', 'writeZeroes', 'extents'];

/** A call of a {@link FaultyDevice}. Its subject is the offset in decimal digits, or `0` for a flush. @public */
export interface FaultedDeviceCall extends FaultedCall<DeviceOperation> {
  readonly offset: number;
  /** The length in bytes. */
  readonly length: number;
  readonly door: 'async' | 'sync';
}

/** Options of {@link FaultyDevice}. @public */
export interface FaultyDeviceOptions {
  /** A clock for tests that must not wait for `delay`. @defaultValue the system's */
  clock?: Pick<TargetClock, 'sleep'> | undefined;
}

/**
 * A device with faults that a plan chooses, for testing what is built on devices. It has the synchronous and the optional calls that
 * the inner device has, and passes on calls without a fault.
 *
 * - `fail-before` and `fail-after` reject with the error of the fault, or else with a retryable `DEVICE_IO`.
 * - `truncate` moves only the first `keepBytes`, rounded down to whole sectors, and then rejects with `SHORT_READ` or `SHORT_WRITE`.
 *   This also applies to discard and write-zeroes. Extents end early with an error.
 * - `corrupt` flips a bit of the bytes that are read or written, without an error.
 * - `never-answer` settles only when its signal aborts, or with `CLOSED` when this device closes. It never accesses its buffer.
 *
 * `truncate` and `corrupt` have no effect on calls without bytes. In synchronous calls, which can't wait, `delay` has no effect, and
 * `never-answer` fails like `fail-before`.
 *
 * Closing waits for calls in flight and does not close the inner device.
 *
 * @public
 */
export interface FaultyDevice extends BlockDevice, WrappingDevice {
  /** All calls so far, in order, with their faults. */
  readonly calls: readonly FaultedDeviceCall[];
  /** The number of calls of one operation, or of all calls. */
  callCount(operation?: DeviceOperation): number;
  close(): Promise<void>;
}

/** The constructor of {@link FaultyDevice}, which has synchronous calls if the inner device has them. @public */
export interface FaultyDeviceConstructor {
  new (
    inner: SyncBlockDevice,
    plan?: FaultPlan<DeviceOperation>,
    options?: FaultyDeviceOptions,
  ): FaultyDevice & SyncAccess;
  new (inner: BlockDevice, plan?: FaultPlan<DeviceOperation>, options?: FaultyDeviceOptions): FaultyDevice;
}

type Call = Omit<FaultedDeviceCall, 'fault'>;

class DeviceWithFaults implements FaultyDevice {
  readonly [underlyingDevice]: BlockDevice;
  readonly size: number;
  readonly sectorSize: number;
  readonly readOnly: boolean | undefined;
  readonly maxTransferBytes: number | undefined;
  readonly discard?: NonNullable<BlockDevice['discard']>;
  readonly writeZeroes?: NonNullable<BlockDevice['writeZeroes']>;
  readonly extents?: NonNullable<BlockDevice['extents']>;
  readonly stamp?: NonNullable<BlockDevice['stamp']>;
  readonly calls: FaultedDeviceCall[] = [];
  readonly #plan: FaultPlan<DeviceOperation> | undefined;
  readonly #clock: Pick<TargetClock, 'sleep'>;
  readonly #inFlight = new Set<Promise<void>>();
  /** Rejects with `CLOSED` when the device closes. */
  readonly #untilClosed = Promise.withResolvers<never>();
  #isClosed = false;

  constructor(inner: BlockDevice, plan?: FaultPlan<DeviceOperation>, options: FaultyDeviceOptions = {}) {
    deviceArgument('inner', inner);
    if (plan !== undefined) objectWith('plan', 'a FaultPlan', plan, ['next']);
    optionsArgument('options', options, { clock: true });
    if (options.clock !== undefined) objectWith('options.clock', 'a clock', options.clock, ['sleep']);
    this[underlyingDevice] = inner;
    this.size = inner.size;
    this.sectorSize = inner.sectorSize;
    this.readOnly = inner.readOnly;
    this.maxTransferBytes = inner.maxTransferBytes;
    this.#plan = plan;
    this.#clock = options.clock ?? systemClock;
    this.#untilClosed.promise.catch(() => {}); // No call may be waiting for it.
    if (inner.discard) this.discard = this.#otherWrite('discard', inner.discard.bind(inner));
    if (inner.writeZeroes) this.writeZeroes = this.#otherWrite('writeZeroes', inner.writeZeroes.bind(inner));
    if (inner.extents) this.extents = this.#extents.bind(this, inner.extents.bind(inner));
    if (inner.stamp) this.stamp = inner.stamp.bind(inner);
    if (hasSyncDoor(inner)) Object.assign(this, this.#syncDoor(inner));
  }

  callCount(operation?: DeviceOperation): number {
    if (operation !== undefined) choiceArgument('operation', operation, OPERATIONS);
    return this.calls.filter((call) => operation === undefined || call.operation === operation).length;
  }

  async read(offset: number, into: Uint8Array, options?: AbortOptions): Promise<void> {
    checkBytes('into', into);
    return this.#withFault(this.#call('read', offset, into.length), options?.signal, async (bytes, fault) => {
      await this[underlyingDevice].read(offset, into.subarray(0, bytes), options);
      if (fault?.kind === 'corrupt') into.set(corrupted(into, fault.bit));
    });
  }

  async write(offset: number, from: Uint8Array, options?: AbortOptions): Promise<void> {
    checkBytes('from', from);
    return this.#withFault(this.#call('write', offset, from.length), options?.signal, (bytes, fault) => {
      const written = fault?.kind === 'corrupt' ? corrupted(from, fault.bit) : from.subarray(0, bytes);
      return this[underlyingDevice].write(offset, written, options);
    });
  }

  async flush(options?: AbortOptions): Promise<void> {
    return this.#withFault(this.#call('flush', 0, 0), options?.signal, () => this[underlyingDevice].flush(options));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#untilClosed.reject(closedError('this FaultyDevice'));
    await Promise.allSettled(this.#inFlight);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #otherWrite(
    operation: 'discard' | 'writeZeroes',
    inner: (offset: number, length: number, options?: AbortOptions) => Promise<void>,
  ) {
    return async (offset: number, length: number, options?: AbortOptions): Promise<void> =>
      this.#withFault(this.#call(operation, offset, length), options?.signal, (bytes) => inner(offset, bytes, options));
  }

  async *#extents(
    inner: NonNullable<BlockDevice['extents']>,
    offset: number,
    length: number,
    options?: AbortOptions,
  ): AsyncGenerator<Extent> {
    const call = this.#call('extents', offset, length);
    const fault = this.#next(call);
    await this.#before(fault, call, options?.signal);
    yield* inner(offset, this.#kept(fault, call), options);
    this.#after(fault, call);
  }

  #syncDoor(inner: SyncBlockDevice): SyncAccess {
    const withFault = (call: Call, work: (bytes: number, fault: Fault | undefined) => void) => {
      const fault = this.#next(call);
      if (fault?.kind === 'fail-before' || fault?.kind === 'never-answer')
        throw injectedError(fault, call, 'DEVICE_IO');
      work(this.#kept(fault, call), fault);
      this.#after(fault, call);
    };
    return {
      readSync: (offset, into) => {
        checkBytes('into', into);
        withFault(this.#call('read', offset, into.length, 'sync'), (bytes, fault) => {
          inner.readSync(offset, into.subarray(0, bytes));
          if (fault?.kind === 'corrupt') into.set(corrupted(into, fault.bit));
        });
      },
      writeSync: (offset, from) => {
        checkBytes('from', from);
        withFault(this.#call('write', offset, from.length, 'sync'), (bytes, fault) => {
          inner.writeSync(offset, fault?.kind === 'corrupt' ? corrupted(from, fault.bit) : from.subarray(0, bytes));
        });
      },
      flushSync: () => withFault(this.#call('flush', 0, 0, 'sync'), () => inner.flushSync()),
    };
  }

  #call(operation: DeviceOperation, offset: number, length: number, door: 'async' | 'sync' = 'async'): Call {
    return { operation, subject: String(offset), offset, length, door };
  }

  #withFault(
    call: Call,
    signal: AbortSignal | undefined,
    work: (bytes: number, fault: Fault | undefined) => Promise<void>,
  ): Promise<void> {
    signalArgument('options.signal', signal);
    const run = async () => {
      const fault = this.#next(call);
      if (fault !== undefined) await this.#before(fault, call, signal); // Calls without a fault reach the device at once.
      await work(this.#kept(fault, call), fault);
      this.#after(fault, call);
    };
    const settled = run().finally(() => this.#inFlight.delete(settled));
    this.#inFlight.add(settled);
    return settled;
  }

  #next(call: Call): Fault | undefined {
    if (this.#isClosed) throw closedError('this FaultyDevice');
    const fault = this.#plan?.next(call);
    this.calls.push({ ...call, fault });
    return fault;
  }

  async #before(fault: Fault | undefined, call: Call, signal: AbortSignal | undefined): Promise<void> {
    if (fault?.kind === 'fail-before') throw injectedError(fault, call, 'DEVICE_IO');
    if (fault?.kind === 'never-answer') await abortable(this.#untilClosed.promise, signal);
    if (fault?.kind === 'delay') await this.#clock.sleep(fault.delayMs, signal);
  }

  /** The number of bytes that a call moves. */
  #kept(fault: Fault | undefined, call: Call): number {
    if (fault?.kind !== 'truncate') return call.length;
    checkSpan(this, call.offset, call.length); // An invalid range is refused as a whole.
    const wanted = Math.min(fault.keepBytes ?? call.length / 2, call.length);
    return Math.floor(wanted / this.sectorSize) * this.sectorSize;
  }

  #after(fault: Fault | undefined, call: Call): void {
    if (fault?.kind === 'fail-after') throw injectedError(fault, call, 'DEVICE_IO');
    const moved = this.#kept(fault, call);
    if (moved === call.length) return;
    const code = call.operation === 'read' || call.operation === 'extents' ? 'SHORT_READ' : 'SHORT_WRITE';
    const what = `injected truncate in ${call.operation} of ${call.subject}`;
    throw new BackupError(code, `${what}: ended after ${moved} of ${call.length} bytes`, { retryable: true });
  }
}

/** @public */
export const FaultyDevice = DeviceWithFaults as unknown as FaultyDeviceConstructor;
