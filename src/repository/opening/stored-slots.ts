import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { CloudTarget } from '../../target/cloud-target.ts';
import { MAX_SLOT_BYTES } from '../keys/key-slot.ts';
import { isSlotName, KEYS_PREFIX } from '../keys/object-keys.ts';
import type { StoredSlot } from '../keys/unlock-repository.ts';
import { getBounded } from './bounded-get.ts';

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

async function readSlot(target: CloudTarget, key: string, size: number, options: AbortOptions): Promise<Uint8Array> {
  const fits = size > 0 && size <= MAX_SLOT_BYTES;
  const bytes = fits ? await getBounded(target, key, size, options) : undefined;
  if (bytes !== undefined) return bytes;
  throw new BackupError('KEY_SLOT_CORRUPT', `${key} is damaged: it has ${fits ? 'fewer' : size} bytes`);
}
