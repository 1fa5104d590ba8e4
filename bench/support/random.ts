/** Offsets and content that are the same in every run. */

/** xorshift32: quick, and good enough to miss every cache. */
function* numbers(seed: number): Generator<number, never> {
  let state = seed;
  for (;;) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield state >>> 0;
  }
}

/** `count` offsets of `unit` bytes each, anywhere within `size`. */
export function randomOffsets(count: number, unit: number, size: number): Float64Array {
  const random = numbers(0x2545f491);
  return Float64Array.from({ length: count }, () => (random.next().value % (size / unit)) * unit);
}

/** Each of the first `count` blocks once, in random order. */
export function shuffledBlocks(count: number): number[] {
  const random = numbers(0x9e3779b9);
  const blocks = Array.from({ length: count }, (_, block) => block);
  for (let left = count - 1; left > 0; left--) {
    const other = random.next().value % (left + 1);
    [blocks[left], blocks[other]] = [blocks[other] as number, blocks[left] as number];
  }
  return blocks;
}

/** Content that does not compress and is nowhere zero. */
export function fillRandom(bytes: Uint8Array): void {
  const random = numbers(0x1234567);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  for (let index = 0; index < words.length; index++) words[index] = random.next().value;
}
