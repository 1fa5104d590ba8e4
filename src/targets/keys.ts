import { described } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import { MAX_KEY_LENGTH, MAX_KEY_SEGMENT_LENGTH } from './cloud-target.ts';

/** A segment begins with a letter or a digit and does not end in a dot, which Windows drops from the end of a name. */
const SEGMENT = /^[a-z0-9](?:[a-z0-9._-]*[a-z0-9_-])?$/;

/** The names that Windows takes for devices, with any extension, in every folder. */
const DEVICE = /^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)/;

/** Whether `text` may be a segment of a key. */
export function isKeySegment(text: string): boolean {
  return text.length <= MAX_KEY_SEGMENT_LENGTH && SEGMENT.test(text) && !DEVICE.test(text);
}

/** Whether `text` is a key (see the obligations of {@link CloudTarget}). @public */
export function isKey(text: unknown): text is string {
  return typeof text === 'string' && text.length <= MAX_KEY_LENGTH && text.split('/').every(isKeySegment);
}

/**
 * Returns `key` if it is a key (see the obligations of {@link CloudTarget}). Every target should check keys with this function, so
 * that all stores refuse the same keys.
 *
 * @throws `INVALID_KEY` for another string, `TypeError` for anything else
 * @public
 */
export function checkKey(key: string): string {
  if (isKey(key)) return key;
  throw new BackupError('INVALID_KEY', `not an object key: ${JSON.stringify(keyText(key).slice(0, 80))}`);
}

/** Returns `key` if it is a string. Decorators use this check, because the inner target checks whether the string is a key. */
export function keyText(key: unknown): string {
  if (typeof key !== 'string') throw new TypeError(`key must be a string, not ${described(key)}`);
  return key;
}

/** The error for a key that is below another object, or is the beginning of other objects' keys. */
export function keyInTheWay(key: string, other: string): BackupError {
  return new BackupError(
    'INVALID_KEY',
    `${key} can't be an object, because no object's key may be a folder of other keys (${other})`,
  );
}
