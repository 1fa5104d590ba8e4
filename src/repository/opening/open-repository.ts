import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../target/cloud-target.ts';
import { readOnlyTarget } from '../../target/read-only.ts';
import { ownerName } from '../jobs/session-owner.ts';
import { checkWritable, decodeFormat, type RepositoryFormat } from '../keys/format-object.ts';
import { isSlotName } from '../keys/key-slot.ts';
import { FORMAT_KEY, KEYS_PREFIX } from '../keys/object-keys.ts';
import { RepositoryKeys } from '../keys/repository-keys.ts';
import { type StoredSlot, unlockRepository } from '../keys/unlock-repository.ts';
import { LogListing } from '../log/log-listing.ts';
import { LogReader } from '../log/log-reader.ts';
import { LogWriter } from '../log/log-writer.ts';
import { prefetchLog } from '../log/prefetch.ts';
import { RecordStore } from '../records/record-store.ts';
import type { RepositoryContext } from '../repository-context.ts';
import { MeteredTarget } from '../requests/metered-target.ts';
import type { CheckedTuning, OpenOptions } from './repository-options.ts';

/**
 * Opens a repository in two rounds: `format`, the newest page of the log and the names of the key slots; then the newest
 * entry, the newest checkpoint and a slot.
 *
 * @throws `REPOSITORY_NOT_FOUND`, `REPOSITORY_CORRUPT`, `REPOSITORY_UNSUPPORTED`, `SINGLE_WRITER_REQUIRED`, what the keys
 * and the log give, and what the target gives
 */
export async function openRepository(
  given: CloudTarget,
  options: OpenOptions,
  tuning: CheckedTuning,
): Promise<RepositoryContext> {
  const { readOnly = false, signal } = options;
  const target = new MeteredTarget(readOnly ? readOnlyTarget(given) : given);
  const [format, listed, slots] = await together([
    readFormat(target, { signal }),
    LogListing.read({ target, mode: 'shared' }, { signal }),
    listSlots(target, { signal }),
  ]);
  if (!readOnly) checkWritable(format);
  const { mode, repositoryId, encrypted } = format;
  if (mode === 'single-writer' && !readOnly && options.singleWriter !== true) {
    throw new BackupError('SINGLE_WRITER_REQUIRED', 'this repository is for a single writer: see to it, and say so');
  }
  const listing = mode === 'shared' ? listed : await LogListing.read({ target, mode }, { signal });
  const [prefetched, keys] = await together([
    prefetchLog(target, listing, { signal }),
    encrypted ? unlock(repositoryId, slots, format.keySlot, options) : RepositoryKeys.plain(),
  ]);
  try {
    const source = { target, logKey: keys.logKey, mode };
    const onFork = readOnly ? 'read-only' : 'refuse';
    const { remembered } = options;
    const reader = await LogReader.open(source, { listing, prefetched, remembered, onFork, signal });
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

async function readFormat(target: CloudTarget, { signal }: AbortOptions): Promise<RepositoryFormat> {
  try {
    return decodeFormat(await target.get(FORMAT_KEY, { signal }));
  } catch (error) {
    if (!BackupError.is(error, 'OBJECT_NOT_FOUND')) throw error;
    throw new BackupError('REPOSITORY_NOT_FOUND', 'there is no repository here', { cause: error });
  }
}

/** Names are all that is listed; a slot is read when its turn comes. */
export async function listSlots(target: CloudTarget, { signal }: AbortOptions): Promise<StoredSlot[]> {
  const slots: StoredSlot[] = [];
  for await (const { key } of target.list(KEYS_PREFIX, { signal })) {
    const name = key.slice(KEYS_PREFIX.length);
    if (isSlotName(name)) slots.push({ name, read: (options) => target.get(key, options) });
  }
  return slots;
}

async function unlock(
  repositoryId: Uint8Array,
  slots: readonly StoredSlot[],
  hint: string | undefined,
  { unlock, signal }: OpenOptions,
): Promise<RepositoryKeys> {
  const key = await unlockRepository({ repositoryId, slots, hint, unlock, signal });
  const keys = RepositoryKeys.encrypted(key, repositoryId);
  key.fill(0);
  return keys;
}

/** As `Promise.all`, but what the first one has to say comes first: without a `format` the others' failures mean nothing. */
async function together<const T extends readonly unknown[]>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const outcomes = await Promise.allSettled(work);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<unknown>).value) as never;
}
