import { integerArgument } from '../../common/arguments.ts';
import { clipRanges } from '../../common/block-ranges.ts';
import { BackupError } from '../../common/errors.ts';
import { tell } from '../../common/tell.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { byteDevice } from '../../device/byte-device.ts';
import { metered, RequestMeter } from '../../targets/decorators/request-meter.ts';
import { knownTotal, watched } from '../context/progress.ts';
import type { JobImage } from './job-image.ts';
import type { RestoreOptions, RestoreResult } from './restore-options.ts';

const CHUNK_BYTES = 1024 * 1024;

/**
 * Writes the frozen instant of a backup that is not complete, seen together with its surviving volume, to a device. Onto that
 * volume itself it is a rollback: only what has been written since the instant is written back.
 *
 * @throws TypeError for `deviceHolds` and `resume`, which need a backup that is complete; before anything is written
 * `READ_ONLY`, `OUT_OF_RANGE`, `BLOCK_LOST`; then `VERIFY_MISMATCH`, and what the devices and the image give
 */
export function rollBack(
  image: JobImage,
  survivor: BlockDevice,
  onto: BlockDevice,
  options: RestoreOptions,
): Promise<RestoreResult> {
  return watched(options, (heard) => rolledBack(image, survivor, onto, heard));
}

async function rolledBack(
  image: JobImage,
  survivor: BlockDevice,
  onto: BlockDevice,
  options: RestoreOptions,
): Promise<RestoreResult> {
  const { deviceHolds, resume, ranges = [{ offset: 0, length: image.size }], budget } = options;
  if (deviceHolds !== undefined || resume === true) {
    throw new TypeError('deviceHolds and resume are for backups that are complete');
  }
  if (onto.readOnly === true) throw new BackupError('READ_ONLY', 'the device to restore onto is read-only');
  for (const { offset, length } of ranges) {
    integerArgument('offset', offset, 0);
    integerArgument('length', length, 0);
    if (!(offset + length <= Math.min(image.size, onto.size))) {
      throw new BackupError('OUT_OF_RANGE', `${length} bytes at ${offset} are not in the backup, or not on the device`);
    }
  }
  if (options.allowLost !== true && image.lostBlocks > 0) {
    throw new BackupError(
      'BLOCK_LOST',
      `the backup has lost ${image.lostBlocks} blocks; nothing was written: pass allowLost: true to restore the rest`,
    );
  }
  const { blockSize } = image;
  const changed = onto === survivor ? await image.overwritten() : undefined;
  const wanted = ranges.flatMap(({ offset, length }) => {
    if (changed === undefined) return [{ offset, length }];
    const end = offset + length;
    return clipRanges(changed, Math.floor(offset / blockSize), Math.ceil(end / blockSize)).map((blocks) => {
      const from = Math.max(offset, blocks.firstBlock * blockSize);
      return { offset: from, length: Math.min(end, (blocks.firstBlock + blocks.blockCount) * blockSize) - from };
    });
  });
  const meter = new RequestMeter(budget);
  return metered(meter, async () => {
    const totalBytes = knownTotal(wanted.reduce((sum, { length }) => sum + length, 0));
    let writtenBytes = 0;
    const advance = (phase: string) => {
      const { downloadBytes: transferredBytes, requests } = meter;
      tell('onProgress', options.onProgress, {
        phase,
        doneBytes: writtenBytes,
        totalBytes,
        transferredBytes,
        requests,
      });
    };
    const [from, to] = [byteDevice(image), byteDevice(onto)];
    const io = { signal: options.signal };
    for (const { at, bytes } of chunksOf(wanted)) {
      await readOrZero(from, at, bytes, options);
      await to.write(at, bytes, io);
      writtenBytes += bytes.length;
      advance('restoring');
    }
    await to.flush(io);
    if (options.verifyWrites === true) {
      for (const { at, bytes } of chunksOf(wanted)) {
        await readOrZero(from, at, bytes, options);
        const written = new Uint8Array(bytes.length);
        await to.read(at, written, io);
        if (Buffer.compare(written, bytes) !== 0) {
          throw new BackupError(
            'VERIFY_MISMATCH',
            `the device does not read back what was written at offset ${at}: check the device, and restore again`,
          );
        }
      }
    }
    advance('done');
    const requested = ranges.reduce((sum, { length }) => sum + length, 0);
    const { downloadBytes: fetchedBytes, requests } = meter;
    return { writtenBytes, skippedBytes: requested - writtenBytes, fetchedBytes, requests, warnings: [] };
  });
}

/** Pieces of ranges, each in a buffer of its own: a device may keep one that it has rejected. */
function* chunksOf(ranges: readonly { readonly offset: number; readonly length: number }[]) {
  for (const { offset, length } of ranges) {
    for (let at = offset; at < offset + length; at += CHUNK_BYTES) {
      yield { at, bytes: new Uint8Array(Math.min(CHUNK_BYTES, offset + length - at)) };
    }
  }
}

async function readOrZero(from: BlockDevice, at: number, bytes: Uint8Array, options: RestoreOptions): Promise<void> {
  const { allowLost = false, signal } = options;
  try {
    await from.read(at, bytes, { signal });
  } catch (error) {
    if (!allowLost || !BackupError.is(error, 'BLOCK_LOST')) throw error;
    if (bytes.length <= 512) {
      bytes.fill(0);
      return;
    }
    const half = bytes.length >>> 1;
    await readOrZero(from, at, bytes.subarray(0, half), options);
    await readOrZero(from, at + half, bytes.subarray(half), options);
  }
}
