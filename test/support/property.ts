import type fc from 'fast-check';

/**
 * Parameters of a property: fast-check prints the seed of a run that fails, and `COW_TEST_SEED` replays it.
 */
export function property<T>(numRuns = 100): fc.Parameters<T> {
  const seed = process.env.COW_TEST_SEED;
  return { numRuns, ...(seed === undefined || seed === '' ? {} : { seed: Number(seed) }) };
}
