/** Keys of a repository's objects besides those of the log and the packs themselves: `docs/FORMAT.md`, section 1. */

export const FORMAT_KEY = 'format';
export const KEYS_PREFIX = 'keys/';
export const PACKS_PREFIX = 'packs/';

export function slotKey(slot: string): string {
  return `${KEYS_PREFIX}${slot}`;
}

/** Whether these are the 16 hex digits of a slot's name. */
export function isSlotName(name: string): boolean {
  return /^[0-9a-f]{16}$/.test(name);
}
