import { wipeBytes } from '../../common/bytes.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { readOnlyTarget } from '../../targets/decorators/read-only.ts';
import { MeteredTarget } from '../../targets/decorators/request-meter.ts';
import { ownerName } from '../backup/session-owner.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { RepositoryKeys } from '../crypto/repository-keys.ts';
import { type StoredSlot, unlockRepository } from '../crypto/unlock-repository.ts';
import { requireWriterFeatures } from '../format/features.ts';
import { checkWritable, isAuthentic, type RepositoryFormat, type StoredFormat } from '../format/format-object.ts';
import { LogListing } from '../log/log-listing.ts';
import { LogReader } from '../log/log-reader.ts';
import { LogWriter } from '../log/log-writer.ts';
import { type LogDamage, type Prefetched, prefetchLog } from '../log/open-log.ts';
import { RecordStore } from '../packs/record-store.ts';
import { type CreationTuning, createRepository } from './create-repository.ts';
import { FORMAT_ADVICE, type FoundFormat, readFormat, recoverFormat } from './find-format.ts';
import {
  type CheckedOpen,
  type CheckedTuning,
  checkOpenOptions,
  type NewRepositoryOptions,
  type OpenOptions,
} from './repository-options.ts';
import { listSlots, withNamed } from './stored-slots.ts';

/**
 * How a repository is opened, and created first if need be. This folder holds what happens before a repository is in use:
 * its options, its creation (`create-repository.ts`), the object `format` and its copies (`find-format.ts`), and its key
 * slots (`key-slots.ts`).
 */

/**
 * Opens a repository in two rounds of requests: first `format`, the newest page of the log and the names of the key slots;
 * then the newest entry, the newest checkpoint and one key slot. Nothing is written.
 */
export async function openRepository(
  given: CloudTarget,
  options: OpenOptions,
  tuning: CheckedTuning,
): Promise<RepositoryContext> {
  const checked = checkOpenOptions(options);
  const { readOnly, remembered, signal } = checked;
  const target = new MeteredTarget(readOnly ? readOnlyTarget(given) : given);
  const [stored, listed, slots] = await together([
    readFormat(target, { signal }),
    LogListing.read({ target, mode: 'shared' }, { onlyOnePage: true, signal }),
    listSlots(target, { signal }),
  ]);
  const found =
    stored === undefined ? await recovered(target, slots, checked) : { ...stored, stored, unlocked: undefined };
  const { format } = found;
  const { mode } = format;
  let listing: LogListing;
  let prefetched: Prefetched;
  try {
    checkAsked(format, checked);
    listing = mode === 'shared' ? listed : await LogListing.read({ target, mode }, { signal });
    await listing.reachNewest({ signal });
    prefetched = prefetchLog(target, listing, { signal });
  } catch (error) {
    wipeBytes(found.unlocked?.key);
    throw error;
  }
  const { keys, keySlot } = await keysOf(found, withNamed(target, slots, [format.keySlot]), checked);
  try {
    // In a plain repository only log entries can hold a copy of `format`.
    const formatCopy = format.encrypted ? undefined : format.body;
    const source = { target, logKey: keys.logKey, mode, formatCopy };
    const onDamage = readOnly ? 'read-only' : 'refuse';
    const reader = await LogReader.open(source, { listing, prefetched, remembered, onDamage, signal });
    // Somebody may have put back a `format` of before.
    // @mutation features-of-the-log-stop-openers
    if (!readOnly) requireWriterFeatures(reader.state.features);
    if (reader.damage !== undefined) warnOf(reader.damage);
    const log = new LogWriter(reader);
    const records = new RecordStore({
      target,
      keys,
      fanOut: format.fanOut,
      cacheBytes: tuning.cacheBytes,
      state: () => log.state,
      catchUp: (each) => log.catchUp(each),
    });
    return { target, format, keys, keySlot, log, records, readOnly, owner: ownerName(tuning.owner), now: Date.now };
  } catch (error) {
    keys.wipe();
    throw error;
  }
}

/**
 * Opens a repository, and creates it first if there is none and `createIfMissing` is given. If several hosts do so at the
 * same time, one of them creates it and the others open it.
 */
export async function openOrCreate(
  target: CloudTarget,
  options: OpenOptions,
  tuning: CheckedTuning,
  creation: CreationTuning = {},
): Promise<{ readonly context: RepositoryContext; readonly wasCreated: boolean }> {
  const { createIfMissing, singleWriter, signal } = checkOpenOptions(options);
  try {
    return { context: await openRepository(target, options, tuning), wasCreated: false };
  } catch (error) {
    // With `remembered`, `openRepository` has another code for a missing repository.
    if (createIfMissing === undefined || !BackupError.is(error, 'REPOSITORY_NOT_FOUND')) throw error;
  }
  let wasCreated = true;
  try {
    await createRepository(target, createIfMissing, { signal }, creation);
  } catch (error) {
    if (!BackupError.is(error, 'REPOSITORY_EXISTS')) throw error;
    wasCreated = false; // Another host was faster.
  }
  const { encryption } = options.createIfMissing as NewRepositoryOptions;
  // A new repository opens with `encryption`. `unlock` may be for the one that was expected.
  const unlock = wasCreated && encryption !== 'none' ? encryption : options.unlock;
  return { context: await openRepository(target, { ...options, unlock, singleWriter }, tuning), wasCreated };
}

/** An older state must not pass for the newest one without a warning. */
function warnOf({ openedAsOf, newestListed, error }: LogDamage): void {
  const shown = `the repository is shown as of entry ${openedAsOf} of its log, and its newest is ${newestListed}`;
  process.emitWarning(`${shown}: ${error.message}`, { code: 'COW_BACKUP_LOG_DAMAGED' });
}

/** As {@link recoverFormat}; but if this host remembers a repository, a missing one is an error of its own. */
async function recovered(
  target: CloudTarget,
  slots: readonly StoredSlot[],
  { unlock, remembered, signal }: CheckedOpen,
): Promise<FoundFormat> {
  try {
    return await recoverFormat(target, slots, unlock, { signal });
  } catch (error) {
    // @mutation remembered-is-not-created
    if (remembered === undefined || !BackupError.is(error, 'REPOSITORY_NOT_FOUND')) throw error;
    const message = `this target holds no repository, but this host remembers entry ${remembered.seq} of one`;
    throw new BackupError(
      'REPOSITORY_ROLLED_BACK',
      `${message}: check that the disk is mounted and the prefix is right`,
      {
        cause: error,
      },
    );
  }
}

/** Checks that the repository is of the kind that the caller expects. This needs no key, and proves nothing. */
function checkAsked(format: RepositoryFormat, { unlock, readOnly, singleWriter }: CheckedOpen): void {
  if (!readOnly) checkWritable(format);
  if (format.encrypted && unlock === undefined) {
    throw new BackupError(
      'KEY_REQUIRED',
      'this repository is encrypted: pass a passphrase, a key or a provider as `unlock`',
    );
  }
  // @mutation unlock-is-needed
  if (!format.encrypted && unlock !== undefined) {
    const message = 'this repository is not encrypted, but `unlock` was given';
    const advice = 'if it should be encrypted, find out who has replaced it; otherwise open it without `unlock`';
    throw new BackupError('NOT_ENCRYPTED', `${message}: ${advice}`);
  }
  if (format.mode === 'single-writer' && !readOnly && !singleWriter) {
    throw new BackupError(
      'SINGLE_WRITER_REQUIRED',
      'this repository is in single-writer mode: pass `singleWriter: true`, and make sure that no other process writes to it',
    );
  }
}

async function keysOf(
  { format, stored, unlocked }: FoundFormat,
  slots: readonly StoredSlot[],
  { unlock, signal }: CheckedOpen,
): Promise<{ readonly keys: RepositoryKeys; readonly keySlot: string | undefined }> {
  if (!format.encrypted || unlock === undefined) return { keys: checkedPlain(stored), keySlot: undefined };
  const { repositoryId, keySlot: hint } = format;
  const { key, slot } = unlocked ?? (await unlockRepository({ repositoryId, slots, hint, unlock, signal }));
  try {
    // @mutation format-is-authentic
    if (stored !== undefined && !isAuthentic(stored, key)) {
      throw changed('its signature does not match the key of this repository');
    }
    return { keys: RepositoryKeys.encrypted(key, repositoryId), keySlot: slot };
  } finally {
    wipeBytes(key);
  }
}

function checkedPlain(stored: StoredFormat | undefined): RepositoryKeys {
  if (stored !== undefined && !isAuthentic(stored, undefined))
    throw changed('it is signed, although it says that the repository is not encrypted');
  return RepositoryKeys.plain();
}

function changed(how: string): BackupError {
  return new BackupError('REPOSITORY_CORRUPT', `the object format was changed: ${how}; ${FORMAT_ADVICE}`);
}

/** As `Promise.all`, but the error of the first one wins: without a `format` the failures of the others mean nothing. */
async function together<const T extends readonly unknown[]>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const outcomes = await Promise.allSettled(work);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<unknown>).value) as never;
}
