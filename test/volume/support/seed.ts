import { freshSeed, type RandomSource, seededRandom } from '../../../src/testing/seeded-random.ts';

/** Random numbers for one test: it prints its seed, and replays from the environment's `COW_TEST_SEED`. */
export function randomForTest(): RandomSource & { below(limit: number): number } {
  const seed = Number(process.env.COW_TEST_SEED ?? freshSeed());
  console.log(`seed ${seed}`);
  const random = seededRandom(seed);
  return Object.assign(random, { below: (limit: number) => Math.floor(random() * limit) });
}
