/** Keys of a repository's objects besides the log's and the packs': `docs/FORMAT.md`, section 1. */

export const FORMAT_KEY = 'format';
export const KEYS_PREFIX = 'keys/';

export function slotKey(slot: string): string {
  return `${KEYS_PREFIX}${slot}`;
}
