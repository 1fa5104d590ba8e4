import PQueue from 'p-queue';
import { abortable } from '../common/abort.ts';
import { booleanArgument, described, functionArgument, optionsArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import { PacedReports } from '../common/paced-reports.ts';
import { isBytes } from '../common/realms.ts';
import { report } from '../common/report.ts';
import { yieldToEventLoop } from '../common/yield-to-event-loop.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { deviceArgument } from '../device/door.ts';
import { RestoreDevice } from '../device/restore-device.ts';
import type { StateRange } from '../state/block-state-map.ts';
import { type CommonPipelineOptions, checkCommonOptions, type LoadBlock } from './pipeline-options.ts';
import { isPipelineRecord, type PipelineRecord } from './pipeline-record.ts';
import { repeatCall } from './repeated-call.ts';
import { undoTransforms } from './transform.ts';

/** The progress of {@link restoreBlocks}. @public */
export interface RestoreBlocksProgress {
  /** Bytes of the volume that were written to the device so far, zeroes included. */
  readonly doneBytes: number;
  /** Bytes of the volume; `undefined` if it has none. */
  readonly totalBytes: number | undefined;
  /** Bytes that were loaded, before the transforms were undone. */
  readonly loadedBytes: number;
}

/** Options of {@link restoreBlocks}. @public */
export interface RestoreBlocksOptions extends CommonPipelineOptions {
  /** Loads one block. */
  load: LoadBlock;
  /** Whether to write zeroes where blocks were lost, instead of failing before anything is written. @defaultValue false */
  allowLost?: boolean | undefined;
  /** Called when something was written, at most every 250 ms, and once at the end; never after the promise has settled. */
  onProgress?: ((progress: RestoreBlocksProgress) => void) | undefined;
}

/** The result of {@link restoreBlocks}. @public */
export interface RestoreBlocksResult {
  /** Bytes written to the device, zeroes included. */
  readonly writtenBytes: number;
  /** The number of blocks that were loaded. */
  readonly loadedBlocks: number;
  /** Bytes that were loaded, before the transforms were undone. */
  readonly loadedBytes: number;
}

const RESTORE_OPTIONS = {
  load: true,
  allowLost: true,
  transforms: true,
  concurrency: true,
  retry: true,
  onProgress: true,
  signal: true,
} as const satisfies Record<keyof RestoreBlocksOptions, true>;

/** Zeroes are written in pieces of at most this many bytes, between which the restore can be aborted. */
const ZEROED_AT_ONCE = 64 * 1024 * 1024;

/**
 * Writes what a {@link BackupPipeline} has stored to a device: loads each block, undoes the transforms, checks the length
 * and writes it, at most `concurrency` blocks at a time. Blocks that are `zero` in the record are not loaded. The device is
 * flushed at the end. After a failure it holds a part of the volume.
 *
 * @example
 * ```ts
 * const record = await PipelineRecord.decode(await readFile('blocks/record'));
 * await using device = await FileDevice.open('restored.img', { create: { sizeBytes: record.size } });
 * await restoreBlocks(record, device, {
 *   load: (block) => readFile(`blocks/${block}`),
 *   transforms: [compression(), encryption(key)], // as for the backup
 * });
 * ```
 *
 * @param device - at least as large as the record's volume; what lies beyond is left alone
 * @throws before anything is written, TypeError for wrong arguments, `BACKUP_INCOMPLETE` for the record of an incomplete
 * run, `BLOCK_LOST` for lost blocks without `allowLost`, `OUT_OF_RANGE` for a device that is too small, `READ_ONLY`;
 * afterwards `LOAD_FAILED` for a block that could not be loaded in all attempts, `BLOCK_CORRUPT` for bytes that are not
 * what was stored, the errors of the device, or the reason of the signal
 * @public
 */
export async function restoreBlocks(
  record: PipelineRecord,
  device: BlockDevice,
  options: RestoreBlocksOptions,
): Promise<RestoreBlocksResult> {
  if (isBytes(record)) throw new TypeError('record must be a PipelineRecord, not its bytes; decode them first');
  if (!isPipelineRecord(record)) throw new TypeError(`record must be a PipelineRecord, not ${described(record)}`);
  deviceArgument('device', device);
  const given = optionsArgument('options', options, RESTORE_OPTIONS);
  const { load, allowLost = false, onProgress } = given;
  const checked = { ...checkCommonOptions(given), load: functionArgument('options.load', load) };
  booleanArgument('options.allowLost', allowLost);
  if (onProgress !== undefined) functionArgument('options.onProgress', onProgress);
  checked.signal?.throwIfAborted();
  checkRestorable(record, device, allowLost);
  const restore = new BlocksRestore(record, device, checked);
  const reports = new PacedReports(() => report('onProgress', onProgress, restore.progress()));
  restore.onMove = () => reports.note();
  try {
    return await restore.run();
  } finally {
    reports.end();
  }
}

class BlocksRestore {
  onMove = () => {};
  readonly #record: PipelineRecord;
  readonly #device: RestoreDevice;
  readonly #options: ReturnType<typeof checkCommonOptions> & { readonly load: LoadBlock };
  readonly #queue: PQueue;
  readonly #stop = new AbortController();
  readonly #tally = { loadedBlocks: 0, loadedBytes: 0 };
  #doneBytes = 0;

  constructor(
    record: PipelineRecord,
    device: BlockDevice,
    options: ReturnType<typeof checkCommonOptions> & { readonly load: LoadBlock },
  ) {
    this.#record = record;
    this.#device = new RestoreDevice(device);
    this.#options = options;
    this.#queue = new PQueue({ concurrency: options.concurrency });
  }

  progress(): RestoreBlocksProgress {
    const { size } = this.#record;
    return {
      doneBytes: this.#doneBytes,
      totalBytes: size === 0 ? undefined : size,
      loadedBytes: this.#tally.loadedBytes,
    };
  }

  async run(): Promise<RestoreBlocksResult> {
    const { signal } = this.#options;
    const onAbort = () => this.#fail(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      for (const range of this.#record.states.ranges()) await this.#restoreRange(range);
      await this.#queue.onIdle();
      this.#stop.signal.throwIfAborted();
      await this.#device.flush({ signal: this.#stop.signal });
      return { writtenBytes: this.#device.writtenBytes, ...this.#tally };
    } catch (error) {
      this.#fail(error);
      await this.#queue.onIdle();
      throw this.#stop.signal.reason;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async #restoreRange({ firstBlock, blockCount, state }: StateRange): Promise<void> {
    await yieldToEventLoop(); // There may be millions of ranges, and a device whose calls take no time.
    if (state === 'zero' || state === 'lost') await this.#zero(firstBlock, firstBlock + blockCount);
    else for (let block = firstBlock; block < firstBlock + blockCount; block++) await this.#enqueue(block);
  }

  async #enqueue(block: number): Promise<void> {
    await abortable(this.#queue.onSizeLessThan(this.#options.concurrency), this.#stop.signal);
    await yieldToEventLoop();
    void this.#queue.add(() => this.#restoreBlock(block).catch((error: unknown) => this.#fail(error)));
  }

  async #restoreBlock(block: number): Promise<void> {
    const { signal } = this.#stop;
    const { size, blockSize } = this.#record;
    signal.throwIfAborted();
    const blockBytes = Math.min(blockSize, size - block * blockSize);
    const stored = await this.#load(block);
    const bytes = await this.#undone(block, blockBytes, stored);
    await yieldToEventLoop(); // A device in memory copies many long blocks one after another.
    signal.throwIfAborted();
    await this.#device.write(block * blockSize, bytes, { signal });
    this.#tally.loadedBlocks++;
    this.#moved(blockBytes);
  }

  async #load(block: number): Promise<Uint8Array> {
    const { load, retries: policy } = this.#options;
    const call = { what: `block ${block}`, code: 'LOAD_FAILED', policy, signal: this.#stop.signal } as const;
    const stored = await repeatCall(call, async (attempt) => {
      const bytes: unknown = await load(block, attempt);
      if (!isBytes(bytes)) throw new TypeError(`load must return bytes for block ${block}, not ${described(bytes)}`);
      return bytes;
    });
    this.#tally.loadedBytes += stored.length;
    return stored;
  }

  async #undone(block: number, blockBytes: number, stored: Uint8Array): Promise<Uint8Array> {
    const corrupt = (how: string, cause?: unknown) =>
      new BackupError('BLOCK_CORRUPT', `block ${block} is not what was stored: ${how}`, { cause });
    const bytes = await undoTransforms(this.#options.transforms, stored, { block, blockBytes }).catch(
      (error: BackupError) => {
        throw corrupt(error.message, error.cause);
      },
    );
    if (bytes.length !== blockBytes) throw corrupt(`it has ${bytes.length} bytes instead of ${blockBytes}`);
    return bytes;
  }

  async #zero(first: number, end: number): Promise<void> {
    const { signal } = this.#stop;
    const { size, blockSize } = this.#record;
    const to = Math.min(size, end * blockSize);
    for (let at = first * blockSize; at < to; at += ZEROED_AT_ONCE) {
      signal.throwIfAborted();
      const length = Math.min(ZEROED_AT_ONCE, to - at);
      await this.#device.zero(at, length, { signal });
      await yieldToEventLoop();
      this.#moved(length);
    }
  }

  #moved(bytes: number): void {
    this.#doneBytes += bytes;
    this.onMove();
  }

  #fail(reason: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort(reason);
    this.#queue.clear();
  }
}

function checkRestorable({ states, size }: PipelineRecord, device: BlockDevice, allowLost: boolean): void {
  const { pending, preserved, storing, lost } = states.counts;
  const missing = pending + preserved + storing;
  if (missing > 0)
    throw new BackupError(
      'BACKUP_INCOMPLETE',
      `the record is of an incomplete run: ${missing} of ${states.blockCount} blocks were not stored; restore the record of a run that is complete`,
    );
  if (lost > 0 && !allowLost)
    throw new BackupError(
      'BLOCK_LOST',
      `the run has lost ${lost} blocks; pass allowLost to write zeroes in their place`,
    );
  if (device.size < size)
    throw new BackupError('OUT_OF_RANGE', `the device has ${device.size} bytes, and the record's volume has ${size}`);
  if (device.readOnly === true) throw new BackupError('READ_ONLY', 'the device is open for reading only');
}
