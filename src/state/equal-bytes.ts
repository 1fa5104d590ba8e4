/** Comparisons of arrays of states and epochs, several bytes at a time. */

/**
 * Where the run of equal bytes that begins at `from` ends, but no further than `end`. A long run is compared four bytes at a
 * time, so the array must begin at a multiple of four in its buffer.
 */
export function endOfEqualBytes(bytes: Uint8Array, from: number, end: number): number {
  const byte = bytes[from] as number;
  let at = from + 1;
  const near = Math.min(end, (from + 16) & ~3);
  while (at < near && bytes[at] === byte) at++;
  if (at < near || at >= end) return at;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
  const word = (byte * 0x01010101) >>> 0;
  const last = end >>> 2;
  let index = at >>> 2;
  while (
    index + 4 <= last &&
    words[index] === word &&
    words[index + 1] === word &&
    words[index + 2] === word &&
    words[index + 3] === word
  ) {
    index += 4;
  }
  while (index < last && words[index] === word) index++;
  at = index << 2;
  while (at < end && bytes[at] === byte) at++;
  return at;
}

/**
 * The first index from `at` on at which two arrays of states differ, or their length. `wordsA` and `wordsB` are views of the
 * same memory, eight bytes at a time. They are compared as floats, which are the only numbers of that size that JavaScript
 * loads without allocating. States are bytes below 7, and eight of those never form a NaN or a negative zero, so that equal
 * floats are equal bytes.
 */
export function firstDifference(
  wordsA: Float64Array,
  wordsB: Float64Array,
  a: Uint8Array,
  b: Uint8Array,
  at: number,
): number {
  const end = a.length;
  let index = at;
  while (index < end && index % 8 !== 0) {
    if (a[index] !== b[index]) return index;
    index++;
  }
  let word = index / 8;
  const wordEnd = wordsA.length;
  while (
    word + 4 <= wordEnd &&
    wordsA[word] === wordsB[word] &&
    wordsA[word + 1] === wordsB[word + 1] &&
    wordsA[word + 2] === wordsB[word + 2] &&
    wordsA[word + 3] === wordsB[word + 3]
  ) {
    word += 4;
  }
  while (word < wordEnd && wordsA[word] === wordsB[word]) word++;
  for (index = word * 8; index < end; index++) {
    if (a[index] !== b[index]) return index;
  }
  return end;
}
