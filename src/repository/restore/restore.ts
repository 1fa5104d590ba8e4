import type { AbortOptions } from '../../common/abort.ts';
import { ByteRanges } from '../../common/byte-range.ts';
import { BackupError } from '../../common/errors.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { metered, RequestMeter } from '../../targets/decorators/request-meter.ts';
import { withProgress } from '../context/progress.ts';
import { findBackups, type RepositoryContext } from '../context/repository-context.ts';
import type { StoredBackup } from '../format/log-state.ts';
import type { Deliver } from '../packs/record-store.ts';
import { BackupReader, type ComparableSource } from './backup-reader.ts';
import { BlockSet } from './block-set.ts';
import type { JobImage } from './job-image.ts';
import type { RestoreOptions, RestoreResult } from './restore-options.ts';
import { RestoreRun } from './restore-run.ts';
import { neighbours } from './restore-windows.ts';
import { blocksToWrite, findMismatch } from './skip-unchanged.ts';

/**
 * This folder reads backups: it restores them onto devices and to files, rolls a live volume back, and opens backups as
 * read-only devices. `BackupReader` looks blocks up in the map of a backup and fetches them, `RestoreRun` copies them to a
 * device, and `BackupImage` serves reads from them.
 */

/** See `BackupRepository.restore`. */
export async function restoreBackup(
  context: RepositoryContext,
  backup: StoredBackup,
  onto: BlockDevice,
  options: RestoreOptions = {},
): Promise<RestoreResult> {
  const source = new BackupReader(context, backup);
  const { deviceHolds, resume = false, signal } = options;
  return restoring(source, onto, options, async (run) => {
    if (options.allowLost !== true) await checkLost(source, run.requested);
    if (deviceHolds === undefined) return run.write(run.requested, resume);
    const held = deviceHolds === 'zeroes' ? deviceHolds : (await findBackups(context, [deviceHolds], { signal }))[0];
    const difference = await trustedDifference(context, source, held, run, { signal });
    return run.write(difference ?? run.requested, resume || difference === undefined);
  });
}

/**
 * Writes the frozen instant of a backup under way to a device. If the device is the live volume itself, this is a rollback:
 * only blocks that were written since the instant are written back.
 */
export async function restoreJob(
  image: JobImage,
  liveVolume: BlockDevice,
  onto: BlockDevice,
  options: RestoreOptions,
): Promise<RestoreResult> {
  const { deviceHolds, resume, allowLost = false } = options;
  if (deviceHolds !== undefined || resume === true) {
    throw new TypeError('deviceHolds and resume need a committed backup, and this backup is still under way');
  }
  const source = new JobSource(image, allowLost);
  return restoring(source, onto, options, async (run) => {
    if (!allowLost && image.lostBlocks > 0) throw lostError(`${image.lostBlocks} blocks`);
    const overwritten = onto === liveVolume ? await image.overwritten() : undefined;
    if (overwritten === undefined) return run.write(run.requested, false);
    const wanted = new BlockSet(run.requested.blockCount);
    for (const range of overwritten) await wanted.addCommon(range, run.requested);
    return run.write(wanted, false);
  });
}

/** What all restores have in common. `write` writes the blocks that the device needs. */
async function restoring<Entry>(
  source: ComparableSource<Entry>,
  onto: BlockDevice,
  options: RestoreOptions,
  write: (run: RestoreRun<Entry>) => Promise<void>,
): Promise<RestoreResult> {
  options.signal?.throwIfAborted();
  const ranges = new ByteRanges(options.ranges ?? [{ offset: 0, length: source.size }], source.size);
  checkDevice(onto, ranges);
  const meter = new RequestMeter(options.budget);
  const work = async (watched: RestoreOptions) => {
    const run = new RestoreRun(source, onto, ranges, watched);
    await write(run);
    await run.device.flush({ signal: options.signal });
    if (options.verifyWrites === true) await run.verify();
    run.progress.report();
    const { writtenBytes } = run.device;
    return {
      writtenBytes,
      skippedBytes: ranges.totalBytes - writtenBytes,
      fetchedBytes: meter.downloadBytes,
      requests: meter.requests,
      warnings: run.warnings,
    };
  };
  return withProgress(options, (watched) => metered(meter, () => work(watched)));
}

/**
 * The blocks that differ from what the device is said to hold. `undefined` if the maps can't be compared, or if a sample of the
 * other blocks shows that the device does not hold it.
 */
async function trustedDifference(
  context: RepositoryContext,
  source: BackupReader,
  held: StoredBackup | 'zeroes',
  run: RestoreRun<unknown>,
  options: AbortOptions,
): Promise<BlockSet | undefined> {
  const { device, ranges, requested } = run;
  run.progress.begin('checking');
  const differing = await blocksToWrite(context, source, held, requested, ranges, options);
  if (differing === undefined) return undefined;
  const mismatch = await findMismatch(source, device, await requested.without(differing), ranges, options);
  if (mismatch === undefined) return differing;
  const what = held === 'zeroes' ? "deviceHolds: 'zeroes'" : `deviceHolds: backup ${held.id}`;
  const message = `${what} is wrong: block ${mismatch} of the device differs from it. The whole device was compared with the backup instead.`;
  run.warnings.push(new BackupError('DEVICE_DIFFERS', message));
  return undefined;
}

function checkDevice(device: BlockDevice, { end }: ByteRanges): void {
  if (device.readOnly === true) throw new BackupError('READ_ONLY', 'the device to restore onto is read-only');
  if (device.size < end) {
    throw new BackupError(
      'OUT_OF_RANGE',
      `the device has ${device.size} bytes and the restore needs ${end}: use a larger device, or restore only some ranges`,
    );
  }
}

async function checkLost({ map }: BackupReader, requested: BlockSet): Promise<void> {
  const lost = new BlockSet(requested.blockCount);
  for (const range of map.descriptor.lost) await lost.addCommon(range, requested);
  for (const { firstBlock } of lost.ranges()) throw lostError(`block ${firstBlock}, and perhaps more`);
}

function lostError(what: string): BackupError {
  const message = `the backup has lost ${what}, and nothing was written: pass allowLost: true to restore the rest, with zeroes in place of lost blocks`;
  return new BackupError('BLOCK_LOST', message);
}

/** Bytes read from the image with one call. */
const READ_BYTES = 1024 * 1024;

/** A backup under way as a source. Every block is read from its image; the entry of a block is its number. */
class JobSource implements ComparableSource<number> {
  readonly size: number;
  readonly blockSize: number;
  readonly #image: JobImage;
  readonly #allowLost: boolean;

  constructor(image: JobImage, allowLost: boolean) {
    ({ size: this.size, blockSize: this.blockSize } = image);
    this.#image = image;
    this.#allowLost = allowLost;
  }

  async lookup(firstBlock: number, count: number): Promise<number[]> {
    return Array.from({ length: count }, (_, index) => firstBlock + index);
  }

  /** One read at a time: when a rollback rejects, no call to its volume may be in flight. */
  async fetch(blocks: readonly { readonly block: number }[], deliver: Deliver, options: AbortOptions): Promise<void> {
    const { blockSize } = this;
    for (const run of neighbours(blocks, READ_BYTES / blockSize)) {
      const bytes = await this.#read((run[0] as { readonly block: number }).block, run.length, options);
      for (const [index, { block }] of run.entries()) {
        await deliver(block, bytes.subarray(index * blockSize, (index + 1) * blockSize));
      }
    }
  }

  async isContent(block: number, bytes: Uint8Array, options: AbortOptions): Promise<boolean> {
    return Buffer.compare(await this.#read(block, 1, options), bytes) === 0;
  }

  async #read(block: number, count: number, options: AbortOptions): Promise<Uint8Array> {
    const { blockSize, size } = this;
    const offset = block * blockSize;
    const bytes = new Uint8Array(Math.min(count * blockSize, size - offset));
    try {
      await this.#image.read(offset, bytes, { signal: options.signal });
    } catch (error) {
      // Blocks may get lost at any time: the writes of a rollback need pre-images too.
      if (!this.#allowLost || !BackupError.is(error, 'BLOCK_LOST')) throw error;
      bytes.fill(0);
      if (count === 1) return bytes;
      for (let at = 0; at < count; at++) bytes.set(await this.#read(block + at, 1, options), at * blockSize);
    }
    return bytes;
  }
}
