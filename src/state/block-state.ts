/**
 * This folder, `state/`, keeps how far each block of a snapshot has got on its way into a backup. It does no I/O. This file has the states
 * and their transitions, `block-state-map.ts` the public map, `state-chunks.ts` its memory, and `state-encoding.ts` its
 * stored form.
 */

/**
 * How far a block of a snapshot has got on its way into a backup.
 *
 * - `pending`: nothing has happened; the content is on the device
 * - `preserved`: the block was overwritten, or is about to be; its pre-image is kept
 * - `storing`: the block is on its way to the store
 * - `stored`: the block is safe in the store
 * - `inherited`: the block is unchanged since the base, and not copied
 * - `zero`: the block reads as zeroes, and there is nothing to store
 * - `lost`: the pre-image could not be kept
 *
 * @public
 */
export type BlockState = 'pending' | 'preserved' | 'storing' | 'stored' | 'inherited' | 'zero' | 'lost';

/** A state's byte, in a map and in its encoded form. */
export const StateByte = {
  pending: 0,
  preserved: 1,
  storing: 2,
  stored: 3,
  inherited: 4,
  zero: 5,
  lost: 6,
} as const satisfies Record<BlockState, number>;

/** The states by their byte. */
export const BLOCK_STATES = Object.keys(StateByte) as readonly BlockState[];

/**
 * Which states may follow which. `stored`, `inherited`, `zero` and `lost` are final.
 *
 * A `preserved` block may turn out to be zero when it is read, or become lost when its pre-image can't be read back. If
 * storing fails, a `storing` block goes back to `pending` or `preserved`, depending on where its content is then.
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

/** `ALLOWED[from * 8 + to]` is 1 where the transition is allowed. */
export const ALLOWED: Uint8Array = (() => {
  const table = new Uint8Array(64);
  for (const from of BLOCK_STATES) {
    for (const to of FOLLOWERS[from]) table[StateByte[from] * 8 + StateByte[to]] = 1;
  }
  return table;
})();
