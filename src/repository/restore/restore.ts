import type { AbortOptions } from '../../common/abort.ts';
import { textArgument } from '../../common/arguments.ts';
import { ByteRanges } from '../../common/byte-ranges.ts';
import { BackupError } from '../../common/errors.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { metered, RequestMeter } from '../../targets/decorators/request-meter.ts';
import { watched } from '../context/progress.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { StoredBackup } from '../format/log-state.ts';
import { missingBackup } from '../log/entries/sessions.ts';
import { BlockSet } from './block-set.ts';
import { blocksToWrite, findUnlike } from './held-content.ts';
import type { RestoreOptions, RestoreResult } from './restore-options.ts';
import { RestoreRun } from './restore-run.ts';
import { StoredSource } from './restore-source.ts';

/**
 * Writes a backup, or parts of it, to a device: the same bytes at the same offsets, flushed. What the device has besides is
 * left alone; it may be larger than the backup. When this rejects no call to the device is in flight any more, and any part
 * of what was asked for may have been written.
 *
 * @throws TypeError; before anything is written `READ_ONLY`, `OUT_OF_RANGE` (a device that is too small, a range outside the
 * backup), `BLOCK_LOST`, `BACKUP_NOT_FOUND` and `BACKUP_FORGOTTEN` (of `deviceHolds`); then `VERIFY_MISMATCH`,
 * `BACKUP_FORGOTTEN`, `PACK_MISSING`, `RECORD_CORRUPT`, `MAP_CORRUPT`, `BUDGET_EXCEEDED`, `signal.reason`, and what the
 * device and the target give
 */
export async function restoreBackup(
  context: RepositoryContext,
  backup: StoredBackup,
  onto: BlockDevice,
  options: RestoreOptions = {},
): Promise<RestoreResult> {
  options.signal?.throwIfAborted();
  const source = new StoredSource(context, backup);
  const ranges = new ByteRanges(options.ranges ?? [{ offset: 0, length: source.size }], source.size);
  checkDevice(onto, ranges);
  const meter = new RequestMeter(options.budget);
  const work = async (heard: RestoreOptions) => {
    const run = new RestoreRun(source, onto, ranges, { ...heard, meter });
    if (options.allowLost !== true) await checkLost(source, run.requested);
    await restore(context, source, run, options);
    return run.result();
  };
  return watched(options, (heard) => metered(meter, () => work(heard)));
}

async function restore(
  context: RepositoryContext,
  source: StoredSource,
  run: RestoreRun,
  options: RestoreOptions,
): Promise<void> {
  const { deviceHolds, resume = false, signal } = options;
  if (deviceHolds === undefined) {
    await run.write(run.requested, resume);
  } else {
    const held = deviceHolds === 'zeroes' ? deviceHolds : await backupOf(context, deviceHolds, { signal });
    const differing = await believed(context, source, held, run, { signal });
    await run.write(differing ?? run.requested, resume || differing === undefined);
  }
  await run.flush();
  if (options.verifyWrites === true) await run.verify();
}

/** What differs from what the device is said to hold, `undefined` where that can't be told. */
async function believed(
  context: RepositoryContext,
  source: StoredSource,
  held: StoredBackup | 'zeroes',
  run: RestoreRun,
  options: AbortOptions,
): Promise<BlockSet | undefined> {
  const { device, ranges, requested } = run;
  run.begin('checking');
  const differing = await blocksToWrite(context, source, held, requested, ranges, options);
  if (differing === undefined) return undefined;
  const unlike = await findUnlike(source, device, await requested.without(differing), ranges, options);
  if (unlike === undefined) return differing;
  const what = held === 'zeroes' ? 'zeroes' : `backup ${held.id}`;
  const message = `deviceHolds said that the device holds ${what}, but block ${unlike} differs; the whole device was compared instead`;
  run.warnings.push(new BackupError('DEVICE_DIFFERS', message));
  return undefined;
}

async function backupOf(context: RepositoryContext, id: string, options: AbortOptions): Promise<StoredBackup> {
  textArgument('deviceHolds', id);
  const known = context.log.state.backups.get(id);
  if (known !== undefined) return known;
  const state = await context.log.catchUp(options);
  const found = state.backups.get(id);
  if (found === undefined) throw missingBackup(state, id);
  return found;
}

function checkDevice(device: BlockDevice, { end }: ByteRanges): void {
  if (device.readOnly === true) throw new BackupError('READ_ONLY', 'the device to restore onto is read-only');
  if (device.size < end) {
    throw new BackupError('OUT_OF_RANGE', `the device has ${device.size} bytes and the restore needs ${end}`);
  }
}

async function checkLost({ lost }: StoredSource, requested: BlockSet): Promise<void> {
  const lostAndRequested = new BlockSet(requested.blockCount);
  for (const range of lost) await lostAndRequested.addCommon(range, requested);
  for (const { firstBlock } of lostAndRequested.ranges()) {
    throw new BackupError(
      'BLOCK_LOST',
      `the backup has lost block ${firstBlock}, and perhaps more; nothing was written: pass allowLost: true to restore the rest`,
    );
  }
}
