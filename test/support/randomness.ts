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

/** How often something is tried: what the environment says, as soaks do, or else the default. */
export function timesOf(variable: `COW_TEST_${string}`, byDefault: number): number {
  const given = process.env[variable];
  if (given === undefined || given === '') return byDefault;
  const times = Number(given);
  if (!Number.isInteger(times) || times < 1) throw new TypeError(`${variable} must be a whole number above 0`);
  return times;
}

/**
 * Parameters of a property. `COW_TEST_FUZZ` multiplies the runs; fast-check prints the seed of one that fails, and
 * `COW_TEST_NO_SHRINK=1` reports it without looking for a smaller one.
 */
export function property<T>(numRuns = 100): fc.Parameters<T> {
  const factor = timesOf('COW_TEST_FUZZ', 1);
  return { numRuns: numRuns * factor, seed: testSeed() | 0, endOnFailure: process.env.COW_TEST_NO_SHRINK === '1' };
}
