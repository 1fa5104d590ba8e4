import { randomBytes } from 'node:crypto';
import { link, lstat, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { AbortOptions } from '../../common/abort.ts';
import { ByteRanges } from '../../common/byte-range.ts';
import { BackupError } from '../../common/errors.ts';
import { syncDirectory } from '../../common/system-errors.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { FileDevice } from '../../device/file-device.ts';
import { fileError } from '../../device/file-errors.ts';
import { metered, RequestMeter } from '../../targets/decorators/request-meter.ts';
import { withProgress } from '../context/progress.ts';
import { findBackups, type RepositoryContext } from '../context/repository-context.ts';
import type { StoredBackup } from '../format/log-state.ts';
import { BackupReader, type ComparableSource } from './backup-reader.ts';
import { BlockSet } from './block-set.ts';
import { type JobImage, JobSource } from './job-image.ts';
import type { RestoreOptions, RestoreResult } from './restore-options.ts';
import { RestoreRun } from './restore-run.ts';
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

/**
 * Creates a file under a temporary name beside `path`, lets `restore` fill it, and renames it to `path` once it is complete
 * and durable. After a failure the temporary file is deleted, and an existing file at `path` is unchanged.
 *
 * @param path - an absolute path, because the process may change its directory before the file is renamed
 * @throws `DEVICE_EXISTS`, `DEVICE_BUSY`, `DEVICE_UNSUPPORTED`, and what `restore` and the file system throw
 */
export async function restoreToNewFile(
  path: string,
  sizeBytes: number,
  overwrite: boolean,
  restore: (device: FileDevice) => Promise<RestoreResult>,
): Promise<RestoreResult> {
  const { final, replaced } = await finalPath(path, overwrite);
  try {
    return await restoreTo(final, sizeBytes, replaced, restore);
  } finally {
    await replaced?.close();
  }
}

async function restoreTo(
  path: string,
  sizeBytes: number,
  replaced: FileDevice | undefined,
  restore: (device: FileDevice) => Promise<RestoreResult>,
): Promise<RestoreResult> {
  // With all of the name, the temporary name could be too long for the file system.
  const name = `.${basename(path).slice(0, 60)}.${randomBytes(6).toString('hex')}.partial`;
  const temporary = join(dirname(path), name);
  const device = await FileDevice.open(temporary, { create: { sizeBytes } });
  try {
    let result: RestoreResult;
    try {
      result = await restore(device);
    } finally {
      await device.close();
    }
    if (process.platform === 'win32') await replaced?.close(); // Windows does not replace open files.
    await giveName(temporary, path, replaced !== undefined);
    await syncDirectory(dirname(path));
    return result;
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
}

/**
 * Decides, before anything is fetched, at which path the file goes. A file that is to be replaced is locked until then: a
 * process that has it open, such as a virtual machine, would go on writing to a file without a name. If the path is a
 * symbolic link, the file that it leads to is replaced.
 */
async function finalPath(path: string, overwrite: boolean): Promise<{ final: string; replaced?: FileDevice }> {
  const isThere = await lstat(path).then(
    () => true,
    (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw fileError('open', path, error);
    },
  );
  if (!isThere) return { final: path };
  if (!overwrite) {
    throw new BackupError('DEVICE_EXISTS', `${path} exists: choose another name, or pass overwrite: true`);
  }
  try {
    const final = await realpath(path);
    if ((await stat(final)).isFile()) return { final, replaced: await FileDevice.open(final, { readOnly: true }) };
  } catch (error) {
    throw fileError('replace', path, error);
  }
  const message = `${path} is not a regular file, so it can't be replaced: open the device and use restore()`;
  throw new BackupError('DEVICE_UNSUPPORTED', message);
}

const LINKS_UNSUPPORTED: readonly unknown[] = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EXDEV'];

async function giveName(temporary: string, path: string, overwrite: boolean): Promise<void> {
  try {
    if (overwrite) return await rename(temporary, path);
    try {
      // Unlike a check followed by a rename, this can't replace a file that appeared in between.
      await link(temporary, path);
      return await unlink(temporary);
    } catch (error) {
      if (!LINKS_UNSUPPORTED.includes((error as NodeJS.ErrnoException).code)) throw error;
    }
    // Without hard links, an empty file is created first: that fails if there is a file of that name.
    await (await open(path, 'wx', 0o600)).close();
    await rename(temporary, path);
  } catch (error) {
    throw fileError('give its name to', path, error);
  }
}
