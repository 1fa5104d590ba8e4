import type fc from 'fast-check';
import { freshSeed, type RandomSource, randomBytesFrom, seededRandom } from '../../src/testing/seeded-random.ts';

/**
 * All chance in the tests comes from here, so that `npm test` does the same each time and never fails by chance. Soaks
 * set `COW_TEST_SEED=random`, which takes a seed that nobody chose and prints it; a number replays a run.
 */
const FIXED_SEED = 20_261_128;

let chosen: number | undefined;

/** The seed of this test file's run. */
export function testSeed(): number {
  chosen ??= chooseSeed(process.env.COW_TEST_SEED);
  return chosen;
}

function chooseSeed(wanted = ''): number {
  if (wanted === '') return FIXED_SEED;
  const seed = wanted === 'random' ? freshSeed() : Number(wanted);
  if (!Number.isInteger(seed)) throw new TypeError(`COW_TEST_SEED must be a whole number or "random", not ${wanted}`);
  console.log(`COW_TEST_SEED=${seed}`);
  return seed;
}

/** Random numbers for one test. */
export function randomForTest(seed = testSeed()): RandomSource & { below(limit: number): number } {
  const random = seededRandom(seed);
  return Object.assign(random, { below: (limit: number) => Math.floor(random() * limit) });
}

let bytes: RandomSource | undefined;

/** In place of `randomBytes` of `node:crypto`: contents, keys and ids that differ from each other within a test file. */
export function randomBytes(length: number): Buffer<ArrayBuffer> {
  bytes ??= seededRandom(testSeed());
  return Buffer.from(randomBytesFrom(bytes, length).buffer);
}

/** `COW_TEST_TIMES`: soaks do what is left to chance so many times as often, and may take so many times as long. */
export const TIMES = Number(process.env.COW_TEST_TIMES || 1);
if (!(TIMES > 0)) throw new TypeError(`COW_TEST_TIMES must be a number above 0, not ${process.env.COW_TEST_TIMES}`);

/** How often something is tried in this run. */
export function times(byDefault: number): number {
  return Math.max(1, Math.round(byDefault * TIMES));
}

/** Whether sweeps over all places try each of them, `COW_TEST_SWEEP=all`, or a few. */
export const SWEEPS_ALL = process.env.COW_TEST_SWEEP === 'all';

/** A time limit that grows with what there is to do. */
export function withinMs(byDefault: number): number {
  return byDefault * Math.max(1, TIMES, SWEEPS_ALL ? 40 : 1);
}

/**
 * Parameters of a property; fast-check prints the seed of one that fails, and `COW_TEST_NO_SHRINK=1` reports it without
 * looking for a smaller one. A run that is no soak does half as many.
 */
export function property<T>(numRuns = 100): fc.Parameters<T> {
  const runs = TIMES > 1 ? numRuns : numRuns / 2;
  return { numRuns: times(runs), seed: testSeed() | 0, endOnFailure: process.env.COW_TEST_NO_SHRINK === '1' };
}
