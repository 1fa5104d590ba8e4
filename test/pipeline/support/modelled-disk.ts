import { ok } from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { BackupError, type BlockRange, CopyOnWriteVolume, type SyncVolumeAccess } from '../../../src/index.ts';
import { randomBytesFrom, seededRandom } from '../../../src/testing/seeded-random.ts';
import { type DeviceOperation, type Fault, FaultyDevice } from '../../../src/testing.ts';
import { ScriptedSyncDevice } from '../../volume/support/scripted-device.ts';
import { OwnFormatHost } from './own-format-host.ts';
import type { Shape, StepOf } from './pipeline-steps.ts';

/** What a device held at an instant. */
export interface Instant {
  /** The instants of a disk are numbered, so that the host knows what was written between two of them. */
  readonly index: number;
  readonly bytes: Uint8Array;
}

/** The host's own map of what was written, in pages: no block is smaller. */
const PAGE = 4096;
const DEADLINE_MS = 10;

/** A device, the volume over it, the host's own map of changes, and the folder in which the host keeps its runs. */
export class ModelledDisk {
  memory: ScriptedSyncDevice;
  volume!: CopyOnWriteVolume & SyncVolumeAccess;
  host: OwnFormatHost;
  blockSize: number;
  hadDeviceFaults = false;
  /** Host writes that have not settled. */
  readonly outstanding = new Map<Promise<void>, readonly number[]>();
  readonly violations: string[];
  readonly #shape: Shape;
  readonly #folder: string;
  readonly #random: () => number;
  readonly #faults: { readonly operation: DeviceOperation; skip: number; readonly fault: Fault }[] = [];
  /** `#written[i]`: the pages that may have been written between instant i - 1 and instant i. */
  readonly #written: Set<number>[] = [new Set()];
  #isClosing = false;

  static async open(shape: Shape, number: number, folder: string, violations: string[]): Promise<ModelledDisk> {
    const disk = new ModelledDisk(shape, number, folder, violations);
    await disk.#openVolume();
    return disk;
  }

  private constructor(shape: Shape, number: number, folder: string, violations: string[]) {
    this.#shape = shape;
    this.#random = seededRandom(shape.seed + number);
    this.violations = violations;
    this.blockSize = shape.blockSize;
    this.memory = new ScriptedSyncDevice(shape.blocks * shape.blockSize + shape.tail);
    for (let at = 0; at < this.memory.size; at += PAGE) {
      if (this.#random() < 0.8) this.memory.bytes.set(this.content(Math.min(PAGE, this.memory.size - at)), at);
    }
    this.#folder = folder;
    mkdirSync(folder);
    this.host = new OwnFormatHost(folder);
  }

  async #openVolume(): Promise<void> {
    const { onFailure, memoryBlocks, spillBlocks } = this.#shape;
    const device = new FaultyDevice(this.memory, { next: (call) => this.#nextFault(call.operation) });
    this.volume = await CopyOnWriteVolume.open(device, {
      blockSize: this.blockSize,
      preserve: {
        memoryBytes: memoryBlocks * this.blockSize,
        spillDevice: new ScriptedSyncDevice(spillBlocks * this.blockSize),
        deadlineMs: DEADLINE_MS,
        onFailure,
      },
    });
  }

  /** Ends the process: the next one finds the device, the folder and the host's map of changes. */
  async restart({ blockSize, growth }: StepOf<'restart'>): Promise<void> {
    this.#isClosing = true;
    await this.volume.close();
    await Promise.all(this.outstanding.keys());
    this.#isClosing = false;
    this.#faults.length = 0;
    this.host.close();
    this.host = new OwnFormatHost(this.#folder);
    if (blockSize === 'other') this.blockSize = this.blockSize === 4096 ? 8192 : 4096;
    const { bytes } = this.memory;
    const size = Math.max(1, bytes.length + growth);
    this.memory = new ScriptedSyncDevice(size);
    this.memory.bytes.set(bytes.subarray(0, size));
    // What is cut off is gone, also if the device grows again.
    for (let page = Math.floor(size / PAGE); page * PAGE < bytes.length; page++) this.#written.at(-1)?.add(page);
    await this.#openVolume();
  }

  async close(): Promise<void> {
    await this.volume.close();
    this.host.close();
  }

  /** A part of what one call takes, which compresses as well as real data does. */
  content(length: number): Uint8Array {
    const pattern = randomBytesFrom(this.#random, 48);
    return Uint8Array.from({ length }, (_, index) => pattern[index % 48] as number);
  }

  write(step: StepOf<'write'>): void {
    const { from, length, pages } = this.#place(step);
    const bytes = step.fill === 'zeroes' ? new Uint8Array(length) : this.content(length);
    if (step.do === 'write') {
      this.#begin(pages, this.volume.write(from, bytes));
      return;
    }
    try {
      this.volume.writeSync(from, bytes);
    } catch (error) {
      this.#refused(error);
    }
  }

  discard(step: StepOf<'discard'>): void {
    const { from, length, pages } = this.#place(step);
    this.#begin(pages, this.volume[step.do]?.(from, length));
  }

  /** Whole blocks now and then, or no block would ever be all zeroes. Notes what is being written. */
  #place({ at, span }: { readonly at: number; readonly span: number }) {
    const { size } = this.memory;
    const start = Math.floor(at * size);
    const isWhole = span > 0.5;
    const from = isWhole ? start - (start % this.blockSize) : start;
    const most = isWhole ? Math.ceil(span * 3) * this.blockSize : Math.ceil(span * span * 2.5 * this.blockSize);
    const length = Math.max(1, Math.min(size - from, most));
    const pages = new Set<number>();
    for (let page = Math.floor(from / PAGE); page * PAGE < from + length; page++) pages.add(page);
    for (const page of pages) this.#written.at(-1)?.add(page);
    return { from, length, pages: [...pages] };
  }

  #begin(pages: readonly number[], call: Promise<void> | undefined): void {
    ok(call);
    const settled = call
      .catch((error: unknown) => this.#refused(error))
      .finally(() => this.outstanding.delete(settled));
    this.outstanding.set(settled, pages);
  }

  /** Host writes fail for the reasons that the volume gives, and never because of a pipeline. */
  #refused(error: unknown): void {
    const isPolicy = BackupError.is(error, 'PRESERVE_FAILED') && this.#shape.onFailure === 'fail-write';
    const isDevice =
      BackupError.is(error) && /^(DEVICE_IO|SHORT_WRITE|SHORT_READ)$/.test(error.code) && this.hadDeviceFaults;
    if (isPolicy || isDevice || (this.#isClosing && BackupError.is(error, 'CLOSED'))) return;
    this.violations.push(`a write of the host failed: ${String(error)}`);
  }

  /** To be called at the instant. A write that is under way may be on either side of it. */
  instant(): Instant {
    this.#written.push(new Set([...this.outstanding.values()].flat()));
    return { index: this.#written.length - 1, bytes: this.memory.bytes.slice() };
  }

  /** The blocks that may differ between two instants, whichever comes first. */
  changesBetween(a: Instant, b: Instant): BlockRange[] {
    const pages = this.#written
      .slice(Math.min(a.index, b.index), Math.max(a.index, b.index))
      .flatMap((set) => [...set]);
    const blocks = new Set(pages.map((page) => Math.floor((page * PAGE) / this.blockSize)));
    return [...blocks].map((firstBlock) => ({ firstBlock, blockCount: 1 }));
  }

  fault({ kind, skip, operation }: StepOf<'deviceFault'>): void {
    this.hadDeviceFaults = true;
    const isRead = operation !== 'write';
    const fault: Fault =
      kind === 'delay' && isRead ? { kind, delayMs: 2 } : { kind: kind === 'delay' ? 'fail-after' : kind };
    this.#faults.push({ operation, skip, fault });
  }

  /** No more faults. */
  calm(): void {
    this.#faults.length = 0;
  }

  #nextFault(operation: DeviceOperation): Fault | undefined {
    const at = this.#faults.findIndex((one) => one.operation === operation && one.skip-- <= 0);
    return at < 0 ? undefined : this.#faults.splice(at, 1)[0]?.fault;
  }
}
