import { expect, test } from 'vitest';
import { skipEqual } from '../../src/state/skip-equal.ts';

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
        expect(skipEqual(words(a), words(b), a, b, from), `from ${from}, ${different} differs`).toBe(expected);
      }
      if (different !== undefined) b[different] = 1;
    }
  },
);
