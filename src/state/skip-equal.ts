/**
 * The first place from `at` on where two arrays of bytes differ, or their length. `wordsA` and `wordsB` are views of
 * the same memory four bytes at a time; comparing those is what makes equal stretches go by at memory speed.
 */
export function skipEqual(wordsA: Int32Array, wordsB: Int32Array, a: Uint8Array, b: Uint8Array, at: number): number {
  const end = a.length;
  let place = at;
  while (place < end && place % 4 !== 0) {
    if (a[place] !== b[place]) return place;
    place++;
  }
  let word = place / 4;
  const wordEnd = wordsA.length;
  // Four words a turn, one branch.
  while (
    word + 4 <= wordEnd &&
    ((wordsA[word]! ^ wordsB[word]!) |
      (wordsA[word + 1]! ^ wordsB[word + 1]!) |
      (wordsA[word + 2]! ^ wordsB[word + 2]!) |
      (wordsA[word + 3]! ^ wordsB[word + 3]!)) ===
      0
  ) {
    word += 4;
  }
  while (word < wordEnd && wordsA[word] === wordsB[word]) word++;
  for (place = word * 4; place < end; place++) {
    if (a[place] !== b[place]) return place;
  }
  return end;
}
