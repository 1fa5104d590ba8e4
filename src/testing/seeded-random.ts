import { functionArgument, integerArgument } from '../common/arguments.ts';

/** Returns numbers from 0 (included) to 1 (excluded), like `Math.random`. @public */
export type RandomSource = () => number;

/**
 * Makes a small generator (mulberry32) that returns the same numbers for the same seed on every machine. It is for tests that must be
 * repeatable and not for secrets.
 *
 * @param seed - any 32-bit unsigned integer
 * @public
 */
export function seededRandom(seed: number): RandomSource {
  if (typeof seed !== 'number' || !Number.isFinite(seed)) throw new TypeError('seed must be a number');
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Returns a new seed, to be printed so that its run can be repeated. @public */
export function freshSeed(): number {
  return Math.floor(Math.random() * 2 ** 32);
}

/** Returns `length` bytes from `random`. @public */
export function randomBytesFrom(random: RandomSource, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(integerArgument('length', length, 0, 2 ** 32));
  functionArgument('random', random);
  const words = new Uint32Array(bytes.buffer, 0, Math.floor(length / 4));
  for (let index = 0; index < words.length; index++) words[index] = random() * 2 ** 32;
  for (let index = words.length * 4; index < length; index++) bytes[index] = random() * 256;
  return bytes;
}
