import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { getBounded } from '../../target/bounded-get.ts';
import type { CloudTarget } from '../../target/cloud-target.ts';
import { MAX_SLOT_BYTES } from '../keys/key-slot.ts';
import { isSlotName, KEYS_PREFIX, slotKey } from '../keys/object-keys.ts';
import type { StoredSlot } from '../keys/unlock-repository.ts';

/** So many slots are looked at. A page of a listing has as many; nobody has that many ways to unlock a repository. */
const MAX_SLOTS = 1000;

/**
 * The key slots of a repository. Names and sizes are all that is listed; a slot is read when its turn comes, and no more of
 * it than was listed.
 */
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

/** The same with the slot that `format` names, also where so many slots of a stranger's were listed that it was not reached. */
export function withHinted(
  target: CloudTarget,
  slots: readonly StoredSlot[],
  hint: string | undefined,
): readonly StoredSlot[] {
  if (hint === undefined || slots.length < MAX_SLOTS || slots.some(({ name }) => name === hint)) return slots;
  const read = async (options: AbortOptions) => {
    const info = await target.stat(slotKey(hint), options);
    if (info === undefined) throw new BackupError('OBJECT_NOT_FOUND', `${slotKey(hint)} is not there`);
    return readSlot(target, slotKey(hint), info.size, options);
  };
  return [{ name: hint, read }, ...slots];
}

async function readSlot(target: CloudTarget, key: string, size: number, options: AbortOptions): Promise<Uint8Array> {
  const fits = size > 0 && size <= MAX_SLOT_BYTES;
  const bytes = fits ? await getBounded(target, key, size, options) : undefined;
  if (bytes !== undefined) return bytes;
  throw new BackupError('KEY_SLOT_CORRUPT', `${key} is damaged: it has ${fits ? 'fewer' : size} bytes`);
}
