import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { readOnlyTarget } from '../../targets/decorators/read-only.ts';
import { MeteredTarget } from '../../targets/decorators/request-meter.ts';
import { ownerName } from '../backup/session-owner.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { RepositoryKeys } from '../crypto/repository-keys.ts';
import { type StoredSlot, unlockRepository } from '../crypto/unlock-repository.ts';
import { wipeBytes } from '../format/derivation.ts';
import { checkWritable, isAuthentic, type RepositoryFormat, type StoredFormat } from '../format/format-object.ts';
import { LogListing } from '../log/log-listing.ts';
import { LogReader } from '../log/log-reader.ts';
import { LogWriter } from '../log/log-writer.ts';
import type { LogDamage } from '../log/open-log.ts';
import { type Prefetched, prefetchLog } from '../log/prefetch.ts';
import { RecordStore } from '../packs/record-store.ts';
import { type CheckedOpen, checkOpenOptions } from './check-options.ts';
import { FORMAT_ADVICE, type FoundFormat, readFormat, recoverFormat } from './find-format.ts';
import type { CheckedTuning, OpenOptions } from './repository-options.ts';
import { listSlots, withNamed } from './stored-slots.ts';

/**
 * Opens a repository in two rounds: `format`, the newest page of the log and the names of the key slots; then the newest
 * entry, the newest checkpoint and a slot. Nothing is written.
 *
 * @throws TypeError; `REPOSITORY_NOT_FOUND`, `REPOSITORY_CORRUPT`, `REPOSITORY_UNSUPPORTED`, `REPOSITORY_ROLLED_BACK`,
 * `NOT_ENCRYPTED`, `SINGLE_WRITER_REQUIRED`, what the keys and the log give, and what the target gives
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
  const found = stored === undefined ? await recovered(target, slots, checked) : { ...stored, stored, key: undefined };
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
    wipeBytes(found.key);
    throw error;
  }
  const keys = await keysOf(found, withNamed(target, slots, [format.keySlot]), checked);
  try {
    // In a plain repository entries are the only place where a copy of `format` can be.
    const formatCopy = format.encrypted ? undefined : format.body;
    const source = { target, logKey: keys.logKey, mode, formatCopy };
    const onDamage = readOnly ? 'read-only' : 'refuse';
    const reader = await LogReader.open(source, { listing, prefetched, remembered, onDamage, signal });
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
    return { target, format, keys, log, records, readOnly, owner: ownerName(tuning.owner), now: Date.now };
  } catch (error) {
    keys.wipe();
    throw error;
  }
}

/** Nobody may take an older state for the newest one without having been told. */
function warnOf({ openedAsOf, newestListed, error }: LogDamage): void {
  const shown = `the repository is shown as of entry ${openedAsOf} of its log, and its newest is ${newestListed}`;
  process.emitWarning(`${shown}: ${error.message}`, { code: 'COW_BACKUP_LOG_DAMAGED' });
}

/** As {@link recoverFormat}; where this host remembers a repository, one that is gone is no new one. */
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

/** Whether the repository is what the caller takes it for. Nothing of this rests on a key, nor on what it would prove. */
function checkAsked(format: RepositoryFormat, { unlock, readOnly, singleWriter }: CheckedOpen): void {
  if (!readOnly) checkWritable(format);
  if (format.encrypted && unlock === undefined) {
    throw new BackupError('KEY_REQUIRED', 'this repository is encrypted: give a passphrase, a key or a provider');
  }
  // @mutation unlock-is-needed
  if (!format.encrypted && unlock !== undefined) {
    const message = 'this repository is not encrypted, but a passphrase, key or provider was given to unlock it';
    const advice =
      'if it should be encrypted, somebody has put another repository in its place; otherwise open it without unlock';
    throw new BackupError('NOT_ENCRYPTED', `${message}: ${advice}`);
  }
  if (format.mode === 'single-writer' && !readOnly && !singleWriter) {
    throw new BackupError(
      'SINGLE_WRITER_REQUIRED',
      'this repository is for one writer at a time: open it with singleWriter: true, and make sure that no other process writes',
    );
  }
}

async function keysOf(
  { format, stored, key: known }: FoundFormat,
  slots: readonly StoredSlot[],
  { unlock, signal }: CheckedOpen,
): Promise<RepositoryKeys> {
  if (!format.encrypted || unlock === undefined) return checkedPlain(stored);
  const { repositoryId, keySlot: hint } = format;
  const key = known ?? (await unlockRepository({ repositoryId, slots, hint, unlock, signal })).key;
  try {
    // @mutation format-is-authentic
    if (stored !== undefined && !isAuthentic(stored, key)) {
      throw changed('its signature does not match the key of this repository');
    }
    return RepositoryKeys.encrypted(key, repositoryId);
  } finally {
    wipeBytes(key);
  }
}

function checkedPlain(stored: StoredFormat | undefined): RepositoryKeys {
  if (stored !== undefined && !isAuthentic(stored, undefined)) throw changed('it is signed, and says that it is plain');
  return RepositoryKeys.plain();
}

function changed(how: string): BackupError {
  return new BackupError('REPOSITORY_CORRUPT', `the object format was changed: ${how}; ${FORMAT_ADVICE}`);
}

/** As `Promise.all`, but what the first one has to say comes first: without a `format` the others' failures mean nothing. */
async function together<const T extends readonly unknown[]>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const outcomes = await Promise.allSettled(work);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<unknown>).value) as never;
}
