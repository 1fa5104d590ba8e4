import { randomBytes } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import { wipeBytes } from '../../common/bytes.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { MeteredTarget } from '../../targets/decorators/request-meter.ts';
import { withRetries } from '../../targets/decorators/with-retries.ts';
import { decodeKeySlot, makeKeySlot, newRepositoryKey, newSlotName, openKeySlot } from '../crypto/key-slot.ts';
import type { CheckedUnlock } from '../crypto/unlock.ts';
import { type StoredSlot, unlockRepository } from '../crypto/unlock-repository.ts';
import {
  checkWritable,
  DEFAULT_FAN_OUT,
  encodeFormat,
  FORMAT_VERSION,
  formatObject,
  type RepositoryFormat,
} from '../format/format-object.ts';
import { FORMAT_KEY, LOG_PREFIX, PACKS_PREFIX, slotKey } from '../format/object-keys.ts';
import { createObject, PACING, type Pacing, probeCreateOnly, retried } from './create-object.ts';
import { firstHeld } from './find-format.ts';
import type { CheckedNewRepository } from './repository-options.ts';
import { listSlots } from './stored-slots.ts';

/** Parameters that only tests choose. */
export interface CreationTuning {
  readonly fanOut?: number | undefined;
  readonly pacing?: Pacing | undefined;
}

/** A repository whose object `format` has not been written yet. */
interface PreparedRepository {
  readonly format: RepositoryFormat;
  readonly key: Uint8Array<ArrayBuffer> | undefined;
  /** The name of the slot that this call has stored for it. */
  readonly newSlot: string | undefined;
}

/**
 * Creates a repository (decision 045): stores a key slot, then `format`, create-only. There is no repository before `format`
 * is there, so of several creators the one that stores it wins. A creation that was cut short earlier is finished if the same
 * secret opens its slot. Otherwise its slot is left alone: it opens nothing.
 */
export async function createRepository(
  given: CloudTarget,
  options: CheckedNewRepository,
  { signal }: AbortOptions = {},
  { fanOut = DEFAULT_FAN_OUT, pacing = PACING }: CreationTuning = {},
): Promise<void> {
  const { unlock, singleWriter } = options;
  const metered = new MeteredTarget(given);
  const target = withRetries(metered, pacing);
  const slots = await leftovers(target, { signal });
  // The probe creates objects, which no target repeats, so the whole probe is repeated.
  if (!singleWriter) await retried(pacing, signal, () => probeCreateOnly(metered, { signal }));
  const store = (key: string, bytes: Uint8Array<ArrayBuffer>) =>
    createObject(target, key, bytes, { createOnly: !singleWriter, signal, pacing });
  const fields = {
    version: FORMAT_VERSION,
    minReader: FORMAT_VERSION,
    minWriter: FORMAT_VERSION,
    features: [],
    readerFeatures: [],
    fanOut,
    mode: singleWriter ? 'single-writer' : 'shared',
  } as const;
  const repositoryId = Uint8Array.from(randomBytes(16));
  let prepared: PreparedRepository;
  if (unlock === undefined) {
    const format = encodeFormat({ ...fields, repositoryId, encrypted: false, keySlot: undefined });
    prepared = { format, key: undefined, newSlot: undefined };
  } else {
    prepared =
      (await unfinished(slots, unlock, fields.mode, { signal })) ??
      (await storeSlot({ ...fields, repositoryId, encrypted: true }, unlock, store, { signal }));
  }
  const { format, key, newSlot } = prepared;
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = formatObject(format, key);
  } finally {
    wipeBytes(key);
  }
  if (await store(FORMAT_KEY, bytes)) return;
  // No `format` names its repository, so nothing will ever read this slot.
  if (newSlot !== undefined) await target.delete(slotKey(newSlot), { signal }).catch(() => {});
  throw exists();
}

/** The key slots at a prefix without a repository. @throws `REPOSITORY_EXISTS` if there is or may be a repository */
async function leftovers(target: CloudTarget, options: AbortOptions): Promise<StoredSlot[]> {
  const [format, held, slots] = await Promise.all([
    target.stat(FORMAT_KEY, options),
    firstHeld(target, [LOG_PREFIX, PACKS_PREFIX], options),
    listSlots(target, options),
  ]);
  if (format !== undefined) throw exists();
  // @mutation nothing-is-created-over
  if (held === undefined) return slots;
  const message = `this target has no object format, but ${held} holds objects that may belong to another repository`;
  throw new BackupError('REPOSITORY_EXISTS', `${message}: open that repository, or use an empty prefix`);
}

/**
 * A creation that was cut short between its slot and `format`, which the slot has a copy of. `undefined` if this secret opens
 * no such slot.
 */
async function unfinished(
  slots: readonly StoredSlot[],
  unlock: CheckedUnlock,
  mode: RepositoryFormat['mode'],
  options: AbortOptions,
): Promise<PreparedRepository | undefined> {
  if (slots.length === 0) return undefined;
  try {
    const request = { repositoryId: undefined, slots, hint: undefined, unlock, ...options };
    const { key, format } = await unlockRepository(request);
    if (format.mode === mode && isWritable(format)) return { format, key, newSlot: undefined };
    wipeBytes(key);
    return undefined;
  } catch (error) {
    const isClosed = ['KEY_REFUSED', 'KEY_SLOT_CORRUPT', 'REPOSITORY_UNSUPPORTED', 'LIMIT_EXCEEDED'];
    if (BackupError.is(error) && isClosed.includes(error.code)) return undefined;
    throw error;
  }
}

function isWritable(format: RepositoryFormat): boolean {
  try {
    checkWritable(format);
    return true;
  } catch (error) {
    if (!BackupError.is(error, 'REPOSITORY_UNSUPPORTED')) throw error;
    return false;
  }
}

/** Makes a repository key and stores a slot of it. */
async function storeSlot(
  fields: Omit<Parameters<typeof encodeFormat>[0], 'keySlot'>,
  unlock: CheckedUnlock,
  store: (key: string, bytes: Uint8Array<ArrayBuffer>) => Promise<boolean>,
  options: AbortOptions,
): Promise<PreparedRepository> {
  const key = newRepositoryKey(unlock);
  try {
    const slot = newSlotName(key, unlock);
    const format = encodeFormat({ ...fields, keySlot: slot });
    const bytes = await makeKeySlot(key, unlock, { format, slot }, options);
    // A provider that can't unwrap what it wraps is found out now, and not when the backups are needed.
    if (unlock.kind === 'provider') {
      const name = { repositoryId: fields.repositoryId, slot };
      wipeBytes((await openKeySlot(decodeKeySlot(bytes, name.slot), unlock, name, options)).key);
    }
    if (await store(slotKey(slot), bytes)) return { format, key, newSlot: slot };
    throw new BackupError(
      'OBJECT_EXISTS',
      `${slotKey(slot)} exists already and is the slot of another repository: create the repository again`,
    );
  } catch (error) {
    wipeBytes(key); // The slot may be stored all the same. Then the next creation uses it.
    throw error;
  }
}

function exists(): BackupError {
  return new BackupError(
    'REPOSITORY_EXISTS',
    'this target already holds a repository: open it, or use an empty prefix',
  );
}
