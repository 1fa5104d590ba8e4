import type { AbortOptions } from '../../common/abort.ts';
import type { ByteRanges } from '../../common/byte-ranges.ts';
import { isZero } from '../../common/bytes.ts';
import { BackupError } from '../../common/errors.ts';
import { letOthersRun } from '../../common/event-loop-turns.ts';
import { tell } from '../../common/tell.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import type { RequestMeter } from '../../targets/decorators/request-meter.ts';
import { knownTotal } from '../context/progress.ts';
import type { MappedBlock } from '../format/map-descriptor.ts';
import { BlockSet } from './block-set.ts';
import { differingBlocks } from './compared-blocks.ts';
import { RestoreDevice } from './restore-device.ts';
import type { RestoreOptions, RestoreResult } from './restore-options.ts';
import type { RestoreSource } from './restore-source.ts';
import { eachWindow, type PlacedBlock } from './restore-windows.ts';

const TELL_EVERY_MS = 100;

/** One restore while it lasts: what it reads from, what it writes to, and what it has done so far. */
export class RestoreRun {
  readonly device: RestoreDevice;
  readonly ranges: ByteRanges;
  /** Blocks of which anything is asked for. */
  readonly requested: BlockSet;
  readonly warnings: BackupError[] = [];
  readonly #source: RestoreSource;
  readonly #options: Pick<RestoreOptions, 'signal' | 'onProgress'> & { readonly meter: RequestMeter };
  /** For reading back. */
  readonly #written: BlockSet;
  #phase = 'checking';
  #doneBytes = 0;
  #totalBytes: number | undefined;
  #toldAt = 0;

  constructor(
    source: RestoreSource,
    onto: BlockDevice,
    ranges: ByteRanges,
    options: Pick<RestoreOptions, 'signal' | 'onProgress'> & { readonly meter: RequestMeter },
  ) {
    this.#source = source;
    this.#options = options;
    this.ranges = ranges;
    this.device = new RestoreDevice(onto);
    const { size, blockSize } = source;
    this.requested = new BlockSet(Math.ceil(size / blockSize));
    this.#written = new BlockSet(this.requested.blockCount);
    for (const { offset, length } of ranges) {
      const firstBlock = Math.floor(offset / blockSize);
      this.requested.add({ firstBlock, blockCount: Math.ceil((offset + length) / blockSize) - firstBlock });
    }
  }

  /** Writes blocks; where they are compared first, only those that the device does not hold. */
  async write(blocks: BlockSet, isCompared: boolean): Promise<void> {
    this.begin('restoring', await this.#bytesOf(blocks));
    await this.#each(blocks, async (window, options) => {
      const wanted = isCompared ? await differingBlocks(this.#source, this.device, window, options) : window;
      if (isCompared) this.#advance(bytesOf(window) - bytesOf(wanted));
      for (const { block } of wanted) this.#written.add({ firstBlock: block, blockCount: 1 });
      await this.#zero(wanted, options);
      await this.#fetch(wanted, options);
    });
  }

  async flush(): Promise<void> {
    await this.device.flush({ signal: this.#options.signal });
  }

  /** Reads back what was written. @throws `VERIFY_MISMATCH` */
  async verify(): Promise<void> {
    this.begin('verifying', await this.#bytesOf(this.#written));
    await this.#each(this.#written, async (window, options) => {
      const [differing] = await differingBlocks(
        this.#source,
        this.device,
        window.filter(({ isWhole }) => isWhole),
        options,
      );
      if (differing !== undefined) throw mismatch(differing.span.offset);
      await this.#verifyParts(
        window.filter(({ isWhole }) => !isWhole),
        options,
      );
      this.#advance(bytesOf(window));
    });
  }

  /** What it is doing from now on, and how much of it there is. */
  begin(phase: string, totalBytes?: number): void {
    this.#phase = phase;
    this.#doneBytes = 0;
    this.#totalBytes = knownTotal(totalBytes);
    this.#tell();
  }

  result(): RestoreResult {
    this.#tell();
    const { meter } = this.#options;
    const { writtenBytes } = this.device;
    return {
      writtenBytes,
      skippedBytes: this.ranges.totalBytes - writtenBytes,
      fetchedBytes: meter.downloadBytes,
      requests: meter.requests,
      warnings: this.warnings,
    };
  }

  #each(
    blocks: BlockSet,
    work: (window: readonly PlacedBlock[], options: { readonly signal: AbortSignal }) => Promise<void>,
  ): Promise<void> {
    return eachWindow(this.#source, this.ranges, blocks, work, { signal: this.#options.signal });
  }

  async #zero(window: readonly PlacedBlock[], options: AbortOptions): Promise<void> {
    let run = { offset: 0, length: 0 };
    const end = async () => {
      if (run.length > 0) await this.device.zero(run.offset, run.length, options);
      this.#advance(run.length);
    };
    for (const { entry, parts } of window) {
      if (entry !== undefined) continue;
      for (const { offset, length } of parts) {
        if (offset === run.offset + run.length) {
          run.length += length;
          continue;
        }
        await end();
        run = { offset, length };
      }
    }
    await end();
  }

  async #fetch(window: readonly PlacedBlock[], options: { readonly signal: AbortSignal }): Promise<void> {
    const stored = storedOf(window);
    await this.#source.fetch(
      [...stored.values()].map(({ mapped }) => mapped),
      async (block, bytes) => {
        const { placed } = stored.get(block) as StoredPlace;
        for (const { offset, length } of placed.parts) {
          const at = offset - placed.span.offset;
          await this.device.write(offset, bytes.subarray(at, at + length), options);
          this.#advance(length);
        }
      },
      options,
    );
  }

  /** Of a part of a block only the block itself tells what it should be. */
  async #verifyParts(window: readonly PlacedBlock[], options: AbortOptions): Promise<void> {
    const verify = async ({ span, parts }: PlacedBlock, content: Uint8Array | undefined) => {
      for (const { offset, length } of parts) {
        const found = new Uint8Array(length);
        await this.device.read(offset, found, options);
        const at = offset - span.offset;
        const isRight =
          content === undefined ? isZero(found) : !Buffer.compare(found, content.subarray(at, at + length));
        if (!isRight) throw mismatch(offset);
      }
    };
    for (const placed of window) if (placed.entry === undefined) await verify(placed, undefined);
    const stored = storedOf(window);
    await this.#source.fetch(
      [...stored.values()].map(({ mapped }) => mapped),
      (block, bytes) => verify((stored.get(block) as StoredPlace).placed, bytes),
      options,
    );
  }

  async #bytesOf(blocks: BlockSet): Promise<number> {
    if (blocks === this.requested) return this.ranges.totalBytes;
    const { blockSize, size } = this.#source;
    let bytes = 0;
    for (const { firstBlock, blockCount } of blocks.ranges()) {
      const end = Math.min(size, (firstBlock + blockCount) * blockSize);
      for (const { length } of this.ranges.within(firstBlock * blockSize, end)) bytes += length;
      await letOthersRun();
    }
    return bytes;
  }

  #advance(bytes: number): void {
    this.#doneBytes += bytes;
    if (performance.now() - this.#toldAt >= TELL_EVERY_MS) this.#tell();
  }

  #tell(): void {
    const { onProgress, meter } = this.#options;
    this.#toldAt = performance.now();
    tell('onProgress', onProgress, {
      phase: this.#phase,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      transferredBytes: meter.downloadBytes,
      requests: meter.requests,
    });
  }
}

interface StoredPlace {
  readonly placed: PlacedBlock;
  readonly mapped: MappedBlock;
}

function storedOf(window: readonly PlacedBlock[]): Map<number, StoredPlace> {
  const stored = new Map<number, StoredPlace>();
  for (const placed of window) {
    const { block, entry } = placed;
    if (entry !== undefined) stored.set(block, { placed, mapped: { block, entry } });
  }
  return stored;
}

function bytesOf(window: readonly PlacedBlock[]): number {
  let bytes = 0;
  for (const { parts } of window) for (const { length } of parts) bytes += length;
  return bytes;
}

function mismatch(offset: number): BackupError {
  return new BackupError(
    'VERIFY_MISMATCH',
    `the device does not read back what was written at offset ${offset}: check the device, and restore again`,
  );
}
