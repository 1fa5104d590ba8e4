/**
 * Names of packs and places in them. A pack is named by its session (the number of its `open`) and a
 * count within it; freshness of names is the subject of `names.ts`, here they are distinct. A place is
 * one of two slots in a pack and holds a block (no children) or a node, run or root (with children).
 */
export const SLOTS = 2;
export const PACKS_A_SESSION = 4;
export const MAX_SESSIONS = 24;

export const packId = (session: number, k: number): number => session * PACKS_A_SESSION + k;
export const sessionOf = (pack: number): number => Math.floor(pack / PACKS_A_SESSION);
export const place = (pack: number, slot: number): number => pack * SLOTS + slot;
export const packOf = (at: number): number => Math.floor(at / SLOTS);
export const slotOf = (at: number): number => at % SLOTS;

export const packName = (pack: number): string => `packs/${sessionOf(pack)}/${'abcd'[pack % PACKS_A_SESSION]}`;
export const placeName = (at: number): string => `${packName(packOf(at))}.${slotOf(at)}`;

/** What a pack holds: per slot its children's places, or null for nothing. */
export interface Contents {
  readonly slots: readonly (readonly number[] | null)[];
}
