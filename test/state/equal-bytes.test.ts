import { expect, test } from 'vitest';
import { endOfEqualBytes, firstDifference } from '../../src/state/equal-bytes.ts';

test.each([0, 1, 0x80, 0xff])('a run of bytes %i ends at the first other one, wherever it begins and ends', (byte) => {
  const length = 96;
  for (let from = 0; from < 40; from++) {
    for (let other = from + 1; other <= length; other++) {
      const bytes = new Uint8Array(length).fill(byte);
      if (from > 0) bytes[from - 1] = 7;
      if (other < length) bytes[other] = byte ^ 0x80;
      for (const end of [other, Math.min(length, other + 1), length, length - 3].filter((each) => each > from)) {
        expect(endOfEqualBytes(bytes, from, end), `from ${from}, other ${other}, end ${end}`).toBe(
          Math.min(other, end),
        );
      }
    }
  }
});

const CHUNK = 64 * 1024;
const words = (bytes: Uint8Array) => new Float64Array(bytes.buffer);

test.each([8, 4096, CHUNK - 8, CHUNK, CHUNK + 8, 3 * CHUNK, 3 * CHUNK + 40])(
  'the first difference among %i bytes is found, wherever it is and wherever the search begins',
  (length) => {
    const a = new Uint8Array(length).fill(1);
    const b = a.slice();
    const edges = [0, 1, 7, 8, 39, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 8, 2 * CHUNK, 3 * CHUNK + 7, length - 1];
    const places = [...new Set(edges)].filter((place) => place < length);
    for (const different of [...places, undefined]) {
      if (different !== undefined) b[different] = 2;
      for (const from of places) {
        const expected = different !== undefined && from <= different ? different : length;
        expect(firstDifference(words(a), words(b), a, b, from), `from ${from}, ${different} differs`).toBe(expected);
      }
      if (different !== undefined) b[different] = 1;
    }
  },
);
