import type { AbortOptions } from '../../common/abort.ts';
import type { ByteRanges } from '../../common/byte-range.ts';
import { isZero } from '../../common/bytes.ts';
import { BackupError } from '../../common/errors.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { RestoreDevice } from '../../device/restore-device.ts';
import { ProgressReporter } from '../context/progress.ts';
import type { ComparableSource } from './backup-reader.ts';
import { BlockSet } from './block-set.ts';
import type { RestoreOptions } from './restore-options.ts';
import { eachWindow, type WindowBlock } from './restore-windows.ts';
import { differingBlocks } from './skip-unchanged.ts';

const REPORT_EVERY_MS = 100;

/**
 * Copies blocks from a source to a device and reads them back. Every restore and rollback is such a run; they differ in the
 * source, and in which blocks have to be written.
 */
export class RestoreRun<Entry> {
  readonly device: RestoreDevice;
  readonly ranges: ByteRanges;
  /** The blocks that lie at least partly within the requested ranges. */
  readonly requested: BlockSet;
  readonly progress: ProgressReporter;
  readonly warnings: BackupError[] = [];
  readonly #source: ComparableSource<Entry>;
  readonly #signal: AbortSignal | undefined;
  /** The blocks to read back. */
  readonly #written: BlockSet;

  constructor(
    source: ComparableSource<Entry>,
    onto: BlockDevice,
    ranges: ByteRanges,
    { signal, onProgress }: Pick<RestoreOptions, 'signal' | 'onProgress'>,
  ) {
    this.#source = source;
    this.#signal = signal;
    this.progress = new ProgressReporter(onProgress, REPORT_EVERY_MS);
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

  /** Writes blocks. With `isCompared` the device is read first, and only blocks that it does not hold are fetched and written. */
  async write(blocks: BlockSet, isCompared: boolean): Promise<void> {
    this.progress.begin('restoring', await this.#bytesOf(blocks));
    await this.#each(blocks, async (window, options) => {
      const wanted = isCompared ? await differingBlocks(this.#source, this.device, window, options) : window;
      if (isCompared) this.progress.advance(bytesOf(window) - bytesOf(wanted));
      for (const { block } of wanted) this.#written.add({ firstBlock: block, blockCount: 1 });
      await this.#zero(wanted, options);
      await this.#fetch(wanted, (block, bytes) => this.#writeParts(block, bytes, options), options);
    });
  }

  /** Reads back what was written. @throws `VERIFY_MISMATCH` */
  async verify(): Promise<void> {
    this.progress.begin('verifying', await this.#bytesOf(this.#written));
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
      this.progress.advance(bytesOf(window));
    });
  }

  #each(
    blocks: BlockSet,
    work: (window: readonly WindowBlock<Entry>[], options: { readonly signal: AbortSignal }) => Promise<void>,
  ): Promise<void> {
    return eachWindow(this.#source, this.ranges, blocks, work, { signal: this.#signal });
  }

  async #zero(window: readonly WindowBlock<Entry>[], options: AbortOptions): Promise<void> {
    let run = { offset: 0, length: 0 };
    const end = async () => {
      if (run.length > 0) await this.device.zero(run.offset, run.length, options);
      this.progress.advance(run.length);
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

  async #writeParts({ span, parts }: WindowBlock<Entry>, bytes: Uint8Array, options: AbortOptions): Promise<void> {
    for (const { offset, length } of parts) {
      const at = offset - span.offset;
      await this.device.write(offset, bytes.subarray(at, at + length), options);
      this.progress.advance(length);
    }
  }

  /** Delivers the content of the blocks of a window that have an entry. */
  async #fetch(
    window: readonly WindowBlock<Entry>[],
    deliver: (block: WindowBlock<Entry>, bytes: Uint8Array) => Promise<void>,
    options: AbortOptions,
  ): Promise<void> {
    type Stored = WindowBlock<Entry> & { readonly entry: Entry };
    const stored = window.filter((each): each is Stored => each.entry !== undefined);
    const byNumber = new Map(stored.map((each) => [each.block, each]));
    const found = (block: number, bytes: Uint8Array) => deliver(byNumber.get(block) as Stored, bytes);
    await this.#source.fetch(stored, found, options);
  }

  /** The bytes of a part of a block have no id to compare with, so the content of the block is fetched again. */
  async #verifyParts(window: readonly WindowBlock<Entry>[], options: AbortOptions): Promise<void> {
    const verify = async ({ span, parts }: WindowBlock<Entry>, content: Uint8Array | undefined) => {
      for (const { offset, length } of parts) {
        const found = new Uint8Array(length);
        await this.device.read(offset, found, options);
        const at = offset - span.offset;
        const isRight =
          content === undefined ? isZero(found) : !Buffer.compare(found, content.subarray(at, at + length));
        if (!isRight) throw mismatch(offset);
      }
    };
    for (const each of window) if (each.entry === undefined) await verify(each, undefined);
    await this.#fetch(window, verify, options);
  }

  async #bytesOf(blocks: BlockSet): Promise<number> {
    if (blocks === this.requested) return this.ranges.totalBytes;
    const { blockSize, size } = this.#source;
    let bytes = 0;
    for (const { firstBlock, blockCount } of blocks.ranges()) {
      const end = Math.min(size, (firstBlock + blockCount) * blockSize);
      for (const { length } of this.ranges.within(firstBlock * blockSize, end)) bytes += length;
      await yieldToEventLoop();
    }
    return bytes;
  }
}

function bytesOf(window: readonly WindowBlock<unknown>[]): number {
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
