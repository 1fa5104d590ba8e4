/**
 * How far a block of a snapshot has got on its way into a backup.
 *
 * - `pending`: nothing has happened; its content is on the device
 * - `preserved`: it was, or is about to be, overwritten; its pre-image is kept
 * - `storing`: on its way to the target
 * - `stored`: safe in the target
 * - `inherited`: unchanged since the base, never copied
 * - `zero`: reads as zeroes, nothing to store
 * - `lost`: its pre-image could not be kept
 *
 * @public
 */
export type BlockState = 'pending' | 'preserved' | 'storing' | 'stored' | 'inherited' | 'zero' | 'lost';

/** The states by their byte. The order is part of the encoded form. */
export const BLOCK_STATES: readonly BlockState[] = [
  'pending',
  'preserved',
  'storing',
  'stored',
  'inherited',
  'zero',
  'lost',
];

/** A state's byte in a map. */
export const StateByte = {
  pending: 0,
  preserved: 1,
  storing: 2,
  stored: 3,
  inherited: 4,
  zero: 5,
  lost: 6,
} as const satisfies Record<BlockState, number>;

/**
 * Which states may follow which. `stored`, `inherited`, `zero` and `lost` are final.
 *
 * A `preserved` block may be found zero when it is read, or lost when its kept copy can't be read back. A `storing`
 * one falls back on failure to wherever its content then is.
 */
const FOLLOWERS: Readonly<Record<BlockState, readonly BlockState[]>> = {
  pending: ['preserved', 'storing', 'inherited', 'zero', 'lost'],
  preserved: ['storing', 'inherited', 'zero', 'lost'],
  storing: ['stored', 'pending', 'preserved', 'zero', 'lost'],
  stored: [],
  inherited: [],
  zero: [],
  lost: [],
};

/** `ALLOWED[from * 8 + to]` is 1 where the transition is drawn. */
export const ALLOWED: Uint8Array = (() => {
  const table = new Uint8Array(64);
  for (const from of BLOCK_STATES) {
    for (const to of FOLLOWERS[from]) table[StateByte[from] * 8 + StateByte[to]] = 1;
  }
  return table;
})();
