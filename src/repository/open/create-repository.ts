import { randomBytes } from 'node:crypto';
import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { MeteredTarget } from '../../targets/decorators/request-meter.ts';
import { withRetries } from '../../targets/decorators/with-retries.ts';
import { decodeKeySlot, makeKeySlot, newRepositoryKey, newSlotName, openKeySlot } from '../crypto/key-slot.ts';
import type { CheckedUnlock } from '../crypto/unlock.ts';
import { type StoredSlot, unlockRepository } from '../crypto/unlock-repository.ts';
import { wipeBytes } from '../format/derivation.ts';
import {
  checkWritable,
  DEFAULT_FAN_OUT,
  encodeFormat,
  FORMAT_VERSION,
  formatObject,
  type RepositoryFormat,
} from '../format/format-object.ts';
import { FORMAT_KEY, LOG_PREFIX, PACKS_PREFIX, slotKey } from '../format/object-keys.ts';
import { probeCreateOnly } from '../log/create-only-probe.ts';
import type { CheckedNewRepository } from './check-options.ts';
import { createObject, PATIENCE, type Patience, persistently } from './create-object.ts';
import { firstHeld } from './find-format.ts';
import { listSlots } from './stored-slots.ts';

/** What tests choose. */
export interface CreationTuning {
  readonly fanOut?: number | undefined;
  readonly patience?: Patience | undefined;
}

/** A repository that has a format, and perhaps a key and a slot, but no object `format` yet. */
interface Unborn {
  readonly format: RepositoryFormat;
  readonly key: Uint8Array<ArrayBuffer> | undefined;
  /** The slot that was stored for it in this call. */
  readonly newSlot: string | undefined;
}

/**
 * Writes what makes a prefix of a target a repository: a key slot, then `format`, create-only. Before `format` is there, there
 * is no repository; so of several creators the one whose `format` it is wins. What an earlier creation left that
 * was cut short is finished where the same secret opens its slot, and otherwise left alone: its slot opens nothing.
 *
 * What passes by itself is waited for, and what was stored although the answer was lost is recognised. Decision 045.
 *
 * @throws `REPOSITORY_EXISTS`, also where another repository's objects are without their `format`; `SINGLE_WRITER_REQUIRED`
 * where the store can't create atomically and that was not asked for; what the target and a key provider give
 */
export async function createRepository(
  given: CloudTarget,
  options: CheckedNewRepository,
  { signal }: AbortOptions = {},
  { fanOut = DEFAULT_FAN_OUT, patience = PATIENCE }: CreationTuning = {},
): Promise<void> {
  const { unlock, singleWriter } = options;
  const metered = new MeteredTarget(given);
  const target = withRetries(metered, patience);
  const slots = await leftovers(target, { signal });
  // The probe creates objects too, so the whole of it is repeated.
  if (!singleWriter) await persistently(patience, signal, () => probeCreateOnly(metered, { signal }));
  const store = (key: string, bytes: Uint8Array<ArrayBuffer>) =>
    createObject(target, key, bytes, { createOnly: !singleWriter, signal, patience });
  const fields = {
    version: FORMAT_VERSION,
    minReader: FORMAT_VERSION,
    minWriter: FORMAT_VERSION,
    features: [],
    fanOut,
    mode: singleWriter ? 'single-writer' : 'shared',
  } as const;
  const repositoryId = Uint8Array.from(randomBytes(16));
  let unborn: Unborn;
  if (unlock === undefined) {
    const format = encodeFormat({ ...fields, repositoryId, encrypted: false, keySlot: undefined });
    unborn = { format, key: undefined, newSlot: undefined };
  } else {
    unborn =
      (await unfinished(slots, unlock, fields.mode, { signal })) ??
      (await storeSlot({ ...fields, repositoryId, encrypted: true }, unlock, store, { signal }));
  }
  const { format, key, newSlot } = unborn;
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = formatObject(format, key);
  } finally {
    wipeBytes(key);
  }
  if (await store(FORMAT_KEY, bytes)) return;
  // Nobody will ever ask for it: no `format` names its repository.
  if (newSlot !== undefined) await target.delete(slotKey(newSlot), { signal }).catch(() => {});
  throw exists();
}

/** What stands at a prefix that has no repository. @throws `REPOSITORY_EXISTS` where it has one, or may have one */
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
 * A creation that was cut short between its slot and `format`: what is missing is in the slot. `undefined` where there is
 * none that this secret opens.
 */
async function unfinished(
  slots: readonly StoredSlot[],
  unlock: CheckedUnlock,
  mode: RepositoryFormat['mode'],
  options: AbortOptions,
): Promise<Unborn | undefined> {
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

/** A key, and a slot of it. */
async function storeSlot(
  fields: Omit<Parameters<typeof encodeFormat>[0], 'keySlot'>,
  unlock: CheckedUnlock,
  store: (key: string, bytes: Uint8Array<ArrayBuffer>) => Promise<boolean>,
  options: AbortOptions,
): Promise<Unborn> {
  const key = newRepositoryKey(unlock);
  try {
    const slot = newSlotName(key, unlock);
    const format = encodeFormat({ ...fields, keySlot: slot });
    const bytes = await makeKeySlot(key, unlock, { format, slot }, options);
    // What a provider wraps and can't unwrap is found out now, and not when the backups are needed.
    if (unlock.kind === 'provider') {
      const name = { repositoryId: fields.repositoryId, slot };
      wipeBytes((await openKeySlot(decodeKeySlot(bytes), unlock, name, options)).key);
    }
    if (await store(slotKey(slot), bytes)) return { format, key, newSlot: slot };
    throw new BackupError(
      'OBJECT_EXISTS',
      `${slotKey(slot)} is there already, and is another's: create the repository again`,
    );
  } catch (error) {
    wipeBytes(key); // Its slot may be stored all the same: then the next creation opens it.
    throw error;
  }
}

function exists(): BackupError {
  return new BackupError(
    'REPOSITORY_EXISTS',
    'this target already holds a repository: open it, or use an empty prefix',
  );
}
