import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { checkKeySlot, decodeKeySlot, MAX_SLOT_BYTES } from '../crypto/key-slot.ts';
import type { SlotKind } from '../crypto/unlock.ts';
import type { StoredSlot } from '../crypto/unlock-repository.ts';
import type { RepositoryFormat } from '../format/format-object.ts';
import type { LogState } from '../format/log-state.ts';
import { isSlotName, KEYS_PREFIX, slotKey } from '../format/object-keys.ts';

/** The most slots that are looked at: a page of a listing, and far more than any repository needs. */
const MAX_SLOTS = 1000;

/** Lists the key slots of a repository. A slot is read only when it is asked for, and no more bytes of it than were listed. */
export async function listSlots(target: CloudTarget, { signal }: AbortOptions): Promise<StoredSlot[]> {
  const slots: StoredSlot[] = [];
  for await (const { key, size } of target.list(KEYS_PREFIX, { signal })) {
    const name = key.slice(KEYS_PREFIX.length);
    if (!isSlotName(name)) continue;
    slots.push({ name, read: (options) => readSlot(target, key, size, options) });
    if (slots.length === MAX_SLOTS) break;
  }
  return slots;
}

/** The names of the slots that should exist: the first one and those that the log has added, without those that it has removed. */
export function recordedSlots(
  { keySlot }: Pick<RepositoryFormat, 'keySlot'>,
  { keySlots, removedSlots }: Pick<LogState, 'keySlots' | 'removedSlots'>,
): ReadonlySet<string> {
  return keySlot === undefined || removedSlots.has(keySlot) ? keySlots : new Set([keySlot, ...keySlots]);
}

/** Adds slots that are known by name to listed ones, if the listing was cut off because of too many slots of strangers. */
export function withNamed(
  target: CloudTarget,
  slots: readonly StoredSlot[],
  names: Iterable<string | undefined>,
): readonly StoredSlot[] {
  if (slots.length < MAX_SLOTS) return slots;
  const listed = new Set<string | undefined>(slots.map(({ name }) => name)).add(undefined);
  const unlisted = [...names].filter((name) => !listed.has(name)) as string[];
  return [...unlisted.map((name) => namedSlot(target, name)), ...slots];
}

/** A slot that may exist. Reading one that does not exist is `OBJECT_NOT_FOUND`. */
export function namedSlot(target: CloudTarget, name: string): StoredSlot {
  const key = slotKey(name);
  const read = async (options: AbortOptions) => {
    const info = await target.stat(key, options);
    if (info === undefined) throw new BackupError('OBJECT_NOT_FOUND', `${key} is not there`);
    return readSlot(target, key, info.size, options);
  };
  return { name, read };
}

async function readSlot(target: CloudTarget, key: string, size: number, options: AbortOptions): Promise<Uint8Array> {
  const fits = size > 0 && size <= MAX_SLOT_BYTES;
  const bytes = fits ? await getBounded(target, key, size, options) : undefined;
  if (bytes !== undefined) return bytes;
  throw new BackupError('KEY_SLOT_CORRUPT', `${key} is damaged: it has ${fits ? 'fewer' : size} bytes`);
}

/** What a host that has the repository open knows of a slot. */
export interface ExaminedSlot {
  /** `undefined` if it can't be read. */
  readonly kind: SlotKind | undefined;
  /** `undefined` if the slot is undamaged: the secret that it was made for opens it. */
  readonly error: BackupError | undefined;
}

/** Reads a slot of an encrypted repository; `undefined` if it was removed after it was listed. */
export async function examineSlot(
  { keys, format }: Pick<RepositoryContext, 'keys' | 'format'>,
  slot: StoredSlot,
  options: AbortOptions,
): Promise<ExaminedSlot | undefined> {
  let bytes: Uint8Array;
  try {
    bytes = await slot.read(options);
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) return undefined;
    if (BackupError.is(error, 'KEY_SLOT_CORRUPT')) return { kind: undefined, error };
    throw error;
  }
  const key = keys.repositoryKey;
  if (key === undefined) throw new TypeError('a repository without encryption has no key slots');
  const error = checkKeySlot(bytes, key, { repositoryId: format.repositoryId, slot: slot.name });
  return { kind: kindOf(bytes), error };
}

function kindOf(bytes: Uint8Array): SlotKind | undefined {
  try {
    return decodeKeySlot(bytes).kind;
  } catch (error) {
    if (!BackupError.is(error)) throw error;
    return undefined;
  }
}
