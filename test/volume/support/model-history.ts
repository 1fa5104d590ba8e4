import { deepStrictEqual, ok } from 'node:assert/strict';
import fc from 'fast-check';
import { vi } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { CopyOnWriteVolume, type SyncVolumeAccess } from '../../../src/volume/copy-on-write-volume.ts';
import type { PreserveFailure } from '../../../src/volume/volume-options.ts';
import type { VolumeSnapshot } from '../../../src/volume/volume-snapshot.ts';
import { ControlledDevice, completeAll, settleMicrotasks } from './controlled-device.ts';
import { assertInvariant, coreOf, type Expected } from './protocol-inspector.ts';

/** The volume that a history runs on. */
export interface Shape {
  readonly blockSize: number;
  readonly size: number;
  readonly onFailure: PreserveFailure;
  readonly memoryBlocks: number;
  readonly spillBlocks: number;
  /** Snapshots taken and dropped beforehand: enough of them and renumbering happens in the middle of the history. */
  readonly earlierSnapshots: number;
}

const DEADLINE_MS = 1000;

/** From 0 up to 1. Doubles that are drawn by their bits are nearly always close to 0. */
const unit = fc.nat(9_999).map((part) => part / 10_000);
const pick = fc.nat(7);

/** One step of a history. Places are fractions of the device, so that every step fits every shape. */
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('write' as const), at: unit, span: unit, fill: fc.nat(255) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('writeSync' as const), at: unit, span: unit, fill: fc.nat(255) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('discard' as const, 'zeroes' as const), at: unit, span: unit }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('snapshot' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('snapshotSync' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('close' as const, 'share' as const), pick }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('read' as const), pick, at: unit, span: unit }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('mark' as const),
      pick,
      at: unit,
      to: fc.constantFrom('storing' as const, 'stored' as const, 'failed' as const, 'inherited' as const),
    }),
  },
  {
    weight: 14,
    arbitrary: fc.record({ do: fc.constant('advance' as const), pick, times: fc.integer({ min: 1, max: 2 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fail' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('abort' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('deadline' as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** Histories over a shape: long enough for several snapshots to meet the same blocks. */
export const history = fc.array(step, { minLength: 5, maxLength: 90, size: 'max' });

/** Everything but the block size, which the tests name. */
export const shapeDetails = fc.record({
  onFailure: fc.constantFrom<PreserveFailure[]>('fail-write', 'lose-block', 'break-snapshot'),
  memoryBlocks: fc.nat(6),
  spillBlocks: fc.nat(6),
  earlierSnapshots: fc.constantFrom(0, 0, 250, 253),
});

interface HostWrite {
  readonly start: number;
  readonly end: number;
  readonly fill: number | undefined;
  readonly abort: AbortController;
  isClean: boolean;
}

/** Runs one history, asserting R3 after every step and every snapshot's content whenever it is read. */
export async function runHistory(shape: Shape, steps: readonly Step[]): Promise<void> {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const run = await HistoryRun.open(shape);
    for (const one of steps) await run.step(one);
    await run.finish();
  } finally {
    vi.useRealTimers();
  }
}

/**
 * The trivially correct model: the bytes of the device at each instant, copied whole; which blocks the device was asked
 * to write since; and what acknowledged writes have left behind.
 */
class HistoryRun {
  readonly #shape: Shape;
  readonly #volume: CopyOnWriteVolume & SyncVolumeAccess;
  readonly #device: ControlledDevice;
  readonly #spill: ControlledDevice;
  readonly #expected: Expected[] = [];
  /** Blocks whose writing has begun since the instant, by serial. */
  readonly #writtenSince = new Map<number, { point: VolumeSnapshot['point']; blocks: Set<number> }>();
  readonly #hostWrites = new Set<HostWrite>();
  /** By byte: what it must be, -1 where overlapping or failed writes leave it open. */
  readonly #acknowledged: Int16Array;
  readonly #outstanding: Promise<unknown>[] = [];
  #failuresInjected = 0;

  static async open(shape: Shape): Promise<HistoryRun> {
    const device = new ControlledDevice(shape.size);
    for (let at = 0; at < device.size; at++) device.bytes[at] = (at * 7 + Math.floor(at / 251)) % 256;
    device.bytes.fill(0, 0, shape.blockSize); // One block of zeroes, for the way they take.
    const spill = new ControlledDevice(shape.spillBlocks * shape.blockSize);
    const volume = await CopyOnWriteVolume.open(device, {
      blockSize: shape.blockSize,
      preserve: {
        memoryBytes: shape.memoryBlocks * shape.blockSize,
        spillDevice: spill,
        deadlineMs: DEADLINE_MS,
        onFailure: shape.onFailure,
      },
    });
    for (let i = 0; i < shape.earlierSnapshots; i++) await volume.createSnapshotSync().close();
    return new HistoryRun(shape, volume, device, spill);
  }

  private constructor(
    shape: Shape,
    volume: CopyOnWriteVolume & SyncVolumeAccess,
    device: ControlledDevice,
    spill: ControlledDevice,
  ) {
    this.#shape = shape;
    this.#volume = volume;
    this.#device = device;
    this.#spill = spill;
    this.#acknowledged = Int16Array.from(device.bytes);
    device.onWriteBegun = (offset, length) => {
      const first = Math.floor(offset / shape.blockSize);
      const last = Math.floor((offset + length - 1) / shape.blockSize);
      for (const { blocks } of this.#writtenSince.values()) {
        for (let block = first; block <= last; block++) blocks.add(block);
      }
    };
  }

  async step(step: Step): Promise<void> {
    switch (step.do) {
      case 'write':
      case 'discard':
      case 'zeroes':
        this.#write(step);
        break;
      case 'writeSync':
        this.#writeSync(step);
        break;
      case 'snapshot':
        this.#track(this.#snapshot());
        break;
      case 'snapshotSync':
        this.#snapshotSync();
        break;
      case 'share':
        await this.#share(step.pick);
        break;
      case 'close':
        await this.#pickSnapshot(step.pick)?.snapshot.close();
        break;
      case 'read':
        this.#track(this.#read(step.pick, step));
        break;
      case 'mark':
        this.#mark(step);
        break;
      default:
        this.#disturb(step);
    }
    await settleMicrotasks();
    assertInvariant(this.#volume, this.#device, this.#expected);
  }

  /** Lets everything come to rest and looks at all that is left. */
  async finish(): Promise<void> {
    await completeAll(this.#device, this.#spill);
    vi.advanceTimersByTime(DEADLINE_MS); // Of writes that wait for room: nobody stores anything any more.
    await completeAll(this.#device, this.#spill);
    await Promise.all(this.#outstanding);
    assertInvariant(this.#volume, this.#device, this.#expected);
    this.#assertAcknowledged();
    this.#assertChangesKnown();
    for (const { snapshot, bytes } of this.#expected) {
      if (snapshot.status === 'live') await this.#readAll(snapshot, bytes);
    }
    for (const { snapshot } of this.#expected) await snapshot.close();
    this.#assertRoomReturned();
    const closed = this.#volume.close();
    await completeAll(this.#device, this.#spill);
    await closed;
  }

  #span(step: { at: number; span: number }): { start: number; length: number } {
    const start = Math.floor(step.at * this.#device.size);
    const most = Math.min(this.#device.size - start, Math.ceil(2.5 * this.#shape.blockSize));
    return { start, length: Math.max(1, Math.floor(step.span * step.span * most)) };
  }

  #write(step: Step & { do: 'write' | 'discard' | 'zeroes' }): void {
    const { start, length } = this.#span(step);
    const fill = step.do === 'write' ? step.fill : step.do === 'zeroes' ? 0 : undefined;
    const write: HostWrite = { start, end: start + length, fill, abort: new AbortController(), isClean: true };
    this.#meet(write);
    this.#hostWrites.add(write);
    const { signal } = write.abort;
    const call =
      step.do === 'write'
        ? this.#volume.write(start, new Uint8Array(length).fill(step.fill), { signal })
        : step.do === 'discard'
          ? this.#volume.discard?.(start, length, { signal })
          : this.#volume.writeZeroes?.(start, length, { signal });
    ok(call);
    this.#track(
      call.then(
        () => this.#acknowledge(write),
        (error: unknown) => {
          this.#hostWrites.delete(write);
          this.#acknowledged.fill(-1, write.start, write.end);
          const isPolicy = BackupError.is(error, 'PRESERVE_FAILED') && this.#shape.onFailure === 'fail-write';
          ok(isPolicy || BackupError.is(error, 'DEVICE_IO') || signal.aborted, `unexpected: ${String(error)}`);
        },
      ),
    );
  }

  /** Overlapping writes leave open what the device holds where they overlap. */
  #meet(write: HostWrite): void {
    for (const other of this.#hostWrites) {
      if (other.start < write.end && write.start < other.end) {
        other.isClean = false;
        write.isClean = false;
      }
    }
  }

  #acknowledge(write: HostWrite): void {
    this.#hostWrites.delete(write);
    this.#acknowledged.fill(write.isClean && write.fill !== undefined ? write.fill : -1, write.start, write.end);
  }

  #writeSync(step: Step & { do: 'writeSync' }): void {
    const { start, length } = this.#span(step);
    const write: HostWrite = {
      start,
      end: start + length,
      fill: step.fill,
      abort: new AbortController(),
      isClean: true,
    };
    this.#meet(write);
    try {
      this.#volume.writeSync(start, new Uint8Array(length).fill(step.fill));
      this.#acknowledge(write);
    } catch (error) {
      ok(BackupError.is(error, 'PRESERVE_FAILED') && this.#shape.onFailure === 'fail-write', String(error));
    }
  }

  async #snapshot(): Promise<void> {
    let bytes: Uint8Array | undefined;
    const snapshot = await this.#volume.createSnapshot({ atInstant: () => (bytes = this.#instant()) });
    ok(bytes);
    // Writes may have been let go already; the handle is known to the volume from the instant on.
    if (!this.#expected.some((one) => one.snapshot === snapshot)) this.#begun(snapshot, bytes);
  }

  #snapshotSync(): void {
    try {
      let bytes: Uint8Array | undefined;
      const snapshot = this.#volume.createSnapshotSync({ atInstant: () => (bytes = this.#instant()) });
      ok(bytes);
      this.#begun(snapshot, bytes);
    } catch (error) {
      ok(BackupError.is(error, 'WRITES_IN_FLIGHT') && this.#device.writesInFlight.length > 0, String(error));
    }
  }

  /** At the instant nothing is at the device, and everything acknowledged is in it. */
  #instant(): Uint8Array {
    deepStrictEqual(this.#device.writesInFlight, []);
    this.#assertAcknowledged();
    const bytes = this.#device.bytes.slice();
    const newest = this.#volume.snapshots.at(-1);
    ok(newest);
    this.#begun(newest, bytes);
    return bytes;
  }

  #begun(snapshot: VolumeSnapshot, bytes: Uint8Array): void {
    if (this.#expected.some((one) => one.snapshot === snapshot)) return;
    this.#expected.push({ snapshot, bytes });
    this.#writtenSince.set(snapshot.point.epoch, { point: snapshot.point, blocks: new Set() });
  }

  async #share(pick: number): Promise<void> {
    const picked = this.#pickSnapshot(pick);
    if (picked?.snapshot.status === 'live') {
      // Without many pre-images it takes no turn of the event loop.
      this.#expected.push({ snapshot: await picked.snapshot.share(), bytes: picked.bytes });
    }
  }

  async #read(pick: number, step: { at: number; span: number }): Promise<void> {
    const picked = this.#pickSnapshot(pick);
    if (picked === undefined) return;
    const { start, length } = this.#span(step);
    const into = new Uint8Array(length);
    try {
      await picked.snapshot.read(start, into);
    } catch (error) {
      this.#assertExcused(picked.snapshot, start, length, error);
      return;
    }
    ok(
      Buffer.compare(into, picked.bytes.subarray(start, start + length)) === 0,
      `a read at ${start} is not as of then`,
    );
  }

  async #readAll(snapshot: VolumeSnapshot, bytes: Uint8Array): Promise<void> {
    const { blockSize } = this.#shape;
    for (let block = 0; block * blockSize < bytes.length; block++) {
      const expected = bytes.subarray(block * blockSize, (block + 1) * blockSize);
      const into = new Uint8Array(expected.length);
      const state = snapshot.states.get(block);
      const reading = snapshot.read(block * blockSize, into).then(
        () => ok(Buffer.compare(into, expected) === 0, `block ${block} (${state}) is not as of then`),
        (error: unknown) => this.#assertExcused(snapshot, block * blockSize, expected.length, error),
      );
      await completeAll(this.#device, this.#spill);
      await reading;
    }
  }

  /** A read may fail only for a reason that its own blocks' states tell. */
  #assertExcused(snapshot: VolumeSnapshot, start: number, length: number, error: unknown): void {
    const { blockSize, onFailure } = this.#shape;
    const states = new Set<string>();
    for (let at = Math.floor(start / blockSize); at * blockSize < start + length; at++) {
      states.add(snapshot.states.get(at));
    }
    const code = BackupError.is(error) ? error.code : String(error);
    const excuses: Record<string, boolean> = {
      CLOSED: snapshot.status === 'closed',
      SNAPSHOT_BROKEN: snapshot.status !== 'live' && onFailure === 'break-snapshot',
      BLOCK_RELEASED: states.has('stored') || states.has('inherited'),
      BLOCK_LOST: states.has('lost') || (states.has('storing') && onFailure === 'lose-block'),
      DEVICE_IO: this.#failuresInjected > 0,
      SPILL_FAILED: this.#failuresInjected > 0,
    };
    ok(excuses[code], `a read failed with ${code} while its blocks are ${[...states].join(', ')}`);
  }

  #mark({ pick, at, to }: Step & { do: 'mark' }): void {
    const block = Math.floor(at * coreOf(this.#volume).blockCount);
    try {
      this.#pickSnapshot(pick)?.snapshot.mark(block, to);
    } catch (error) {
      ok(BackupError.is(error, 'INVALID_TRANSITION'), String(error));
    }
  }

  #disturb(step: Step): void {
    const calls = [...this.#device.pending, ...this.#spill.pending];
    if (step.do === 'advance') {
      const call = calls[step.pick % calls.length];
      for (let i = 0; i < step.times && call !== undefined; i++) {
        if (this.#device.pending.includes(call) || this.#spill.pending.includes(call)) call.advance();
      }
    } else if (step.do === 'fail') {
      const call = calls[step.pick % calls.length];
      if (call !== undefined) this.#failuresInjected++;
      call?.fail();
    } else if (step.do === 'abort') {
      [...this.#hostWrites][step.pick]?.abort.abort();
    } else if (step.do === 'deadline') {
      vi.advanceTimersByTime(DEADLINE_MS);
    }
  }

  #pickSnapshot(pick: number): Expected | undefined {
    return this.#expected[pick % Math.max(1, this.#expected.length)];
  }

  #track(work: Promise<unknown>): void {
    // A failed assertion must fail the history, and not before everything has settled.
    work.catch(() => {});
    this.#outstanding.push(work);
  }

  #assertAcknowledged(): void {
    const { bytes } = this.#device;
    const open = [...this.#hostWrites];
    for (let at = 0; at < bytes.length; at++) {
      const must = this.#acknowledged[at] as number;
      if (must >= 0 && must !== bytes[at] && !open.some(({ start, end }) => start <= at && at < end)) {
        throw new Error(`byte ${at} is ${bytes[at]}; a write that was acknowledged made it ${must}`);
      }
    }
  }

  #assertChangesKnown(): void {
    for (const { point, blocks } of this.#writtenSince.values()) {
      const ranges = this.#volume.changedSince(point);
      ok(ranges, 'so few points are all kept');
      const reported = [...ranges].flatMap(({ firstBlock, blockCount }) =>
        Array.from({ length: blockCount }, (_, index) => firstBlock + index),
      );
      deepStrictEqual(
        reported,
        [...blocks].sort((a, b) => a - b),
      );
    }
  }

  #assertRoomReturned(): void {
    const { buffers } = coreOf(this.#volume);
    let rooms = 0;
    while (buffers.allocate() !== undefined) rooms++;
    deepStrictEqual(rooms, this.#shape.memoryBlocks + this.#shape.spillBlocks, 'room for pre-images has leaked');
  }
}
