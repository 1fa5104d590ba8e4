/**
 * The first place from `at` on where two arrays of states differ, or their length. `wordsA` and `wordsB` are views of the
 * same memory eight bytes at a time. They are compared as floats, the only numbers of that size that cost nothing to
 * load: states are bytes below 7, and eight of those never make a NaN or a negative zero, so equal floats are equal bytes.
 */
export function skipEqual(
  wordsA: Float64Array,
  wordsB: Float64Array,
  a: Uint8Array,
  b: Uint8Array,
  at: number,
): number {
  const end = a.length;
  let place = at;
  while (place < end && place % 8 !== 0) {
    if (a[place] !== b[place]) return place;
    place++;
  }
  let word = place / 8;
  const wordEnd = wordsA.length;
  // Four words a turn.
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
  for (place = word * 8; place < end; place++) {
    if (a[place] !== b[place]) return place;
  }
  return end;
}
