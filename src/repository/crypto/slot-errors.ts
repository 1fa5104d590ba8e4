import { BackupError, corruptError } from '../../common/errors.ts';
import { slotKey } from '../format/object-keys.ts';

export const corrupt = corruptError('KEY_SLOT_CORRUPT', 'a key slot');

export function corruptSlot(slot: string, how: string): BackupError {
  return withObject(corrupt(how), slot);
}

/** An error of a damaged slot, which then says which object is damaged, and what to do. */
export function withObject<E>(error: E, slot: string): E | BackupError {
  if (!BackupError.is(error, 'KEY_SLOT_CORRUPT')) return error;
  const advice = 'restore that object from a copy of the store, or open with another slot and remove this one';
  return new BackupError(error.code, `object ${slotKey(slot)}: ${error.message}; ${advice}`, { cause: error.cause });
}

export function newer(what: string): BackupError {
  return new BackupError(
    'REPOSITORY_UNSUPPORTED',
    `a key slot was made by a newer version of this program, and its ${what} is unknown: update this library`,
  );
}

export function refused(how: string): BackupError {
  return new BackupError('KEY_REFUSED', `a key slot could not be opened: ${how}`);
}
