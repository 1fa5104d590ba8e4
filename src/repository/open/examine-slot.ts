import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { checkKeySlot, decodeKeySlot } from '../crypto/key-slot.ts';
import type { SlotKind } from '../crypto/unlock.ts';
import type { StoredSlot } from '../crypto/unlock-repository.ts';

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
