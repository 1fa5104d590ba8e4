import { BackupError } from '../common/errors.ts';
import { MAX_KEY_LENGTH } from './cloud-target.ts';

const KEY = /^[a-z0-9][a-z0-9._-]*(?:\/[a-z0-9][a-z0-9._-]*)*$/;

/** Whether `text` is a key (see the obligations of `CloudTarget`). */
export function isKey(text: unknown): text is string {
  return typeof text === 'string' && text.length <= MAX_KEY_LENGTH && KEY.test(text);
}

/** Returns `key` if it is one (see the obligations of `CloudTarget`), else throws `INVALID_KEY`. */
export function checkKey(key: string): string {
  if (!isKey(key)) {
    throw new BackupError('INVALID_KEY', `not an object key: ${JSON.stringify(String(key).slice(0, 80))}`);
  }
  return key;
}
