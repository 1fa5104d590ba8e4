import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import {
  decodeFormat,
  FORMAT_BYTES,
  formatObject,
  isAuthentic,
  isSignedFormat,
  type RepositoryFormat,
  type StoredFormat,
} from '../format/format-object.ts';
import { FORMAT_KEY, KEYS_PREFIX, slotKey } from '../format/object-keys.ts';
import { LogListing } from '../log/log-listing.ts';
import { fetchEntry, keyOfEntry } from '../log/log-source.ts';
import { examineSlot, listSlots, namedSlot, recordedSlots } from '../open/stored-slots.ts';

/**
 * Every backup depends on `format` and the key slots, which are not read while a repository is open. An open repository knows
 * all that `format` says, so it can restore it; the content of a key slot is stored nowhere else.
 */

/** A damaged or missing object that is no pack. @public */
export interface DamagedObject {
  /**
   * Its key in the target: `format`, `keys/...`, `catalogue/...`, or `keys/` where no key slot is left that opens the
   * repository.
   */
  readonly key: string;
  /**
   * `REPOSITORY_CORRUPT` of `format`; `KEY_SLOT_CORRUPT` or `KEY_SLOT_NOT_FOUND` of key slots; `OBJECT_NOT_FOUND` or `LOG_CORRUPT`
   * of a page of the catalogue, of which another copy is whole.
   */
  readonly error: BackupError;
}

export interface SmallObjects {
  readonly damagedObjects: readonly DamagedObject[];
  /** Keys of the objects that were missing or damaged and have been written anew. */
  readonly restored: readonly string[];
  /** Ids of key slots that the log does not name. */
  readonly unrecordedKeySlots: readonly string[];
}

/**
 * Checks `format` and the key slots, and restores `format` if the repository is writable. Damage is believed only after a
 * second look.
 *
 * @throws what the target and the log throw
 */
export async function checkSmallObjects(
  context: RepositoryContext,
  target: CloudTarget,
  options: AbortOptions,
): Promise<SmallObjects> {
  const { damaged: damagedObjects, unrecorded: unrecordedKeySlots } = await checkKeySlots(context, target, options);
  const fault = (await formatFault(context, target, options)) && (await formatFault(context, target, options));
  if (fault === undefined) return { damagedObjects, restored: [], unrecordedKeySlots };
  const left = context.readOnly ? fault : await restoreFormat(context, target, fault, options);
  if (left === undefined) return { damagedObjects, restored: [FORMAT_KEY], unrecordedKeySlots };
  return { damagedObjects: [{ key: FORMAT_KEY, error: left }, ...damagedObjects], restored: [], unrecordedKeySlots };
}

async function formatFault(
  { format, keys }: RepositoryContext,
  target: CloudTarget,
  { signal }: AbortOptions,
): Promise<BackupError | undefined> {
  const info = await target.stat(FORMAT_KEY, { signal });
  if (info === undefined) return corrupt('it is gone');
  let bytes: Uint8Array | undefined;
  try {
    if (info.size === FORMAT_BYTES) bytes = await getBounded(target, FORMAT_KEY, FORMAT_BYTES, { signal });
    if (bytes === undefined) return corrupt(`it has ${info.size} bytes instead of ${FORMAT_BYTES}`);
    const stored = decodeFormat(bytes);
    if (stored.format.encrypted !== format.encrypted) return corrupt('it says another encryption');
    if (isOfAnother(stored, format)) return corrupt('it is of another repository');
    if (!isAuthentic(stored, keys.repositoryKey)) return unsigned();
    // The other settings never change either.
    const isSame = stored.format.fanOut === format.fanOut && stored.format.mode === format.mode;
    return isSame ? undefined : corrupt('it says something else than it did');
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return corrupt('it is gone');
    if (BackupError.is(error, 'REPOSITORY_CORRUPT')) return error;
    if (!BackupError.is(error, 'REPOSITORY_UNSUPPORTED') || bytes === undefined) throw error;
    // A newer version of this library, which has the key, has changed it meanwhile.
    return isSignedFormat(bytes, format, keys.repositoryKey) ? undefined : unsigned();
  }
}

function isOfAnother({ format }: StoredFormat, { repositoryId }: RepositoryFormat): boolean {
  return Buffer.compare(format.repositoryId, repositoryId) !== 0;
}

/** @returns the damage that is left */
async function restoreFormat(
  context: RepositoryContext,
  target: CloudTarget,
  fault: BackupError,
  { signal }: AbortOptions,
): Promise<BackupError | undefined> {
  const { format, keys } = context;
  try {
    const isMissing = (await target.stat(FORMAT_KEY, { signal })) === undefined;
    if (!(await isStillOurs(context, target, { signal }))) return fault;
    // Every host writes the same bytes, so it does no harm if two restore it at once.
    const bytes = formatObject(format, keys.repositoryKey);
    await target.put(FORMAT_KEY, bytes, { createOnly: isMissing && format.mode === 'shared', signal });
    return await formatFault(context, target, { signal });
  } catch (cause) {
    signal?.throwIfAborted();
    if (!BackupError.is(cause)) throw cause;
    if (BackupError.is(cause, 'OBJECT_EXISTS')) return formatFault(context, target, { signal });
    return new BackupError(fault.code, `${fault.message}, and can't be restored now`, { cause });
  }
}

/**
 * Whether the target still holds the repository that was opened: somebody may have deleted it and created another one there,
 * whose `format` must not be overwritten.
 */
async function isStillOurs(
  { format, log }: RepositoryContext,
  target: CloudTarget,
  { signal }: AbortOptions,
): Promise<boolean> {
  try {
    const bytes = await getBounded(target, FORMAT_KEY, FORMAT_BYTES, { signal });
    if (bytes !== undefined && isOfAnother(decodeFormat(bytes), format)) return false;
  } catch (error) {
    const isDamage = ['OBJECT_NOT_FOUND', 'REPOSITORY_CORRUPT', 'REPOSITORY_UNSUPPORTED'];
    if (!BackupError.is(error) || !isDamage.includes(error.code)) throw error;
  }
  const { seq, hash } = log.state;
  if (seq === 0) return true;
  const source = { ...log.reader.source, target };
  const listing = await LogListing.read(source, { signal });
  const listed = await listing.find(seq, keyOfEntry(source, seq, hash), { signal });
  const entry = listed && (await fetchEntry(source, seq, listed, { signal }));
  return entry !== undefined && Buffer.compare(entry.hash, hash) === 0;
}

async function checkKeySlots(
  context: RepositoryContext,
  target: CloudTarget,
  { signal }: AbortOptions,
): Promise<{ readonly damaged: readonly DamagedObject[]; readonly unrecorded: readonly string[] }> {
  const { format, log } = context;
  if (!format.encrypted) return { damaged: [], unrecorded: [] };
  const listed = await listSlots(target, { signal });
  const { removedSlots } = await log.catchUp({ signal });
  let recorded = recordedSlots(format, log.state);
  const names = new Set(listed.map(({ name }) => name));
  const unlisted = [...recorded].filter((name) => !names.has(name)).map((name) => namedSlot(target, name));
  const [damaged, gone, unrecorded]: [DamagedObject[], string[], string[]] = [[], [], []];
  let whole = 0;
  for (const slot of [...listed, ...unlisted]) {
    const { name } = slot;
    if (removedSlots.has(name)) continue; // Its removal was interrupted.
    let examined = await examineSlot(context, slot, { signal });
    if (examined?.error !== undefined) examined = await examineSlot(context, slot, { signal });
    const error = examined?.error;
    if (examined !== undefined && error === undefined) whole++;
    if (examined === undefined) gone.push(name);
    // It is of a call that did not return, perhaps of a creation that lost to another: nobody was promised that it opens anything.
    else if (!recorded.has(name)) unrecorded.push(name);
    else if (error !== undefined && !isNewer(error)) damaged.push({ key: slotKey(name), error });
  }
  // A slot that another host adds or removes meanwhile is neither missing nor unrecorded.
  if (gone.length + unrecorded.length > 0) recorded = recordedSlots(format, await log.catchUp({ signal }));
  for (const key of gone.filter((name) => recorded.has(name)).map(slotKey)) {
    damaged.push({ key, error: missing(`${key} is missing, although no entry of the log removed it`) });
  }
  if (whole === 0) {
    const advice = 'add a slot while the repository is still open here, otherwise nobody can open it again';
    damaged.push({ key: KEYS_PREFIX, error: missing(`no undamaged key slot is left: ${advice}`) });
  }
  return { damaged, unrecorded: unrecorded.filter((name) => !recorded.has(name)) };
}

function isNewer(error: BackupError): boolean {
  return BackupError.is(error, 'REPOSITORY_UNSUPPORTED');
}

function corrupt(how: string): BackupError {
  return new BackupError('REPOSITORY_CORRUPT', `the object format is damaged: ${how}`);
}

function unsigned(): BackupError {
  return corrupt('its signature does not match the key of the repository');
}

function missing(message: string): BackupError {
  return new BackupError('KEY_SLOT_NOT_FOUND', message);
}
